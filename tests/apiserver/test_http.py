# SPDX-License-Identifier: Apache-2.0
"""The process on its sockets, in raw HTTP: what a client sees that no library hides."""

import os
import subprocess
import sys
from contextlib import closing
from typing import Any

import pytest

from tests.apiserver.conftest import ANSWER_SECONDS, Server, start_server, stop_server

SLICES = "/apis/discovery.k8s.io/v1"


def path(namespace: str, plural: str = "services", name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def service(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"ports": [{"port": 80}]}}


def add(server: Server, namespace: str, *names: str, **labels: str) -> list[dict[str, Any]]:
    created = [server.call("POST", path(namespace), service(name, **labels)) for name in names]
    assert [status for status, _ in created] == [201] * len(names)
    return [obj for _, obj in created]


def assert_status(answer: tuple[int, Any], code: int, reason: str) -> dict[str, Any]:
    status, body = answer
    assert (status, body["kind"], body["apiVersion"], body["status"]) == (code, "Status", "v1", "Failure"), body
    assert (body["code"], body["reason"]) == (code, reason)
    decoded: dict[str, Any] = body
    return decoded


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}])
def test_the_guarded_socket_needs_the_token(server: Server, headers: dict[str, str]) -> None:
    code, body = server.raw("GET", "/api/v1/nodes", None, headers)
    assert code == 401
    assert b'"reason":"Unauthorized"' in body


def test_the_open_socket_needs_none(server: Server) -> None:
    unguarded = Server(server.process, server.open_port, "", server.port)
    assert unguarded.raw("GET", "/api/v1/nodes", None, {})[0] == 200


@pytest.mark.parametrize("path", ["/readyz", "/livez", "/healthz"])
def test_health_is_free(server: Server, path: str) -> None:
    assert server.raw("GET", path, None, {}) == (200, b"ok")


@pytest.mark.parametrize(
    ("method", "path", "code", "reason"),
    [
        ("GET", "/", 404, "NotFound"),
        ("GET", "/api/v2", 404, "NotFound"),
        ("GET", "/apis/none.example.com/v1/things", 404, "NotFound"),
        ("GET", "/api/v1/nothings", 404, "NotFound"),
        ("GET", "/api/v1/services/a", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/nodes", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/services/a", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/services/a/proxy", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/configmaps/a/status", 404, "NotFound"),
        ("PUT", "/api/v1/namespaces/default/services", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/namespaces/default/services/a", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/services", 405, "MethodNotAllowed"),
        ("POST", "/version", 405, "MethodNotAllowed"),
        ("GET", "/api/v1/services?labelSelector=a+b", 400, "BadRequest"),
        ("GET", "/api/v1/services?continue=nonsense", 400, "BadRequest"),
        ("GET", "/api/v1/services?limit=few", 400, "BadRequest"),
        ("GET", "/api/v1/services?resourceVersion=new", 400, "BadRequest"),
        ("GET", "/api/v1/services?watch=1&resourceVersion=new", 400, "BadRequest"),
        ("GET", "/api/v1/services?timeoutSeconds=soon", 400, "BadRequest"),
        ("GET", "/api/v1/services?fieldSelector=spec.sessionAffinity%3DNone", 400, "BadRequest"),
        ("GET", "/api/v1/services?resourceVersionMatch=Exact", 422, "Invalid"),
        ("GET", "/api/v1/services?resourceVersion=99999999", 504, "Timeout"),
        ("GET", "/api/v1/services?sendInitialEvents=true", 422, "Invalid"),
        ("GET", "/api/v1/services?watch=1&sendInitialEvents=true", 422, "Invalid"),
        ("GET", "/api/v1/services?watch=1&resourceVersionMatch=NotOlderThan", 422, "Invalid"),
        ("DELETE", "/api/v1/namespaces/default/services/a?dryRun=Some", 422, "Invalid"),
    ],
)
def test_refusals(server: Server, method: str, path: str, code: int, reason: str) -> None:
    assert_status(server.call(method, path), code, reason)


@pytest.mark.parametrize(
    ("body", "content", "code", "reason"),
    [
        (b"k8s\0protobuf", "application/vnd.kubernetes.protobuf", 400, "BadRequest"),
        (b"k8s\0\x0a\x0b\x0a\x02v1\x12\x05Event", "application/vnd.kubernetes.protobuf", 415, "UnsupportedMediaType"),
        (b"a: b", "application/yaml", 415, "UnsupportedMediaType"),
        (b"{", "application/json", 400, "BadRequest"),
        (b"[]", "application/json", 400, "BadRequest"),
        (
            b'{"metadata":{"name":"big","labels":{"a":"' + b"x" * 4 * 2**20 + b'"}}}',
            "application/json",
            413,
            "Request",
        ),
    ],
)
def test_refused_bodies(server: Server, body: bytes, content: str, code: int, reason: str) -> None:
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": content}
    status, answer = server.raw("POST", path("default"), body, headers)
    assert status == code
    assert f'"reason":"{reason}'.encode() in answer


def test_a_reader_of_protobuf_alone_is_told(server: Server) -> None:
    headers = {"Authorization": f"Bearer {server.token}", "Accept": "application/vnd.kubernetes.protobuf"}
    assert server.raw("GET", "/api/v1/nodes", None, headers)[0] == 406
    headers["Accept"] += ", */*"
    assert server.raw("GET", "/api/v1/nodes", None, headers)[0] == 200


def test_an_unknown_patch_type_is_told(server: Server, namespace: str) -> None:
    add(server, namespace, "a")
    answer = server.call("PATCH", path(namespace, name="a"), {}, "application/apply-patch+cbor")
    assert_status(answer, 415, "UnsupportedMediaType")


def test_a_list_carries_kinds_and_a_version(server: Server, namespace: str) -> None:
    add(server, namespace, "b", "a")
    code, listed = server.call("GET", path(namespace))
    assert (code, listed["kind"], listed["apiVersion"]) == (200, "ServiceList", "v1")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a", "b"]
    assert {(item["kind"], item["apiVersion"]) for item in listed["items"]} == {("Service", "v1")}
    newest = max(int(item["metadata"]["resourceVersion"]) for item in listed["items"])
    assert int(listed["metadata"]["resourceVersion"]) >= newest


def test_kube_proxy_s_selectors(server: Server, namespace: str) -> None:
    add(server, namespace, "seen")
    add(server, namespace, "other-proxy", **{"service.kubernetes.io/service-proxy-name": "x"})
    headless = service("headless")
    headless["spec"]["clusterIP"] = "None"
    server.call("POST", path(namespace), headless)
    query = (
        "?labelSelector=%21service.kubernetes.io%2Fheadless%2C%21service.kubernetes.io%2Fservice-proxy-name"
        f"&fieldSelector=spec.clusterIP%21%3DNone%2Cmetadata.namespace%3D{namespace}&limit=500&resourceVersion=0"
    )
    _, listed = server.call("GET", "/api/v1/services" + query)
    assert [item["metadata"]["name"] for item in listed["items"]] == ["seen"]


def test_pages_show_one_moment(server: Server, namespace: str) -> None:
    add(server, namespace, *"abcdef")
    _, first = server.call("GET", path(namespace) + "?limit=2")
    assert first["metadata"]["remainingItemCount"] == 4
    server.call("DELETE", path(namespace, name="d"))
    add(server, namespace, "cc")
    seen, page = [], first
    while True:
        seen += [item["metadata"]["name"] for item in page["items"]]
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        if not page["metadata"].get("continue"):
            break
        _, page = server.call("GET", path(namespace) + f"?limit=3&continue={page['metadata']['continue']}")
    assert seen == list("abcdef")
    _, cached = server.call("GET", path(namespace) + "?limit=2&resourceVersion=0")
    assert len(cached["items"]) == 6


def test_an_exact_version_of_the_past(server: Server, namespace: str) -> None:
    (created,) = add(server, namespace, "a")
    server.call("DELETE", path(namespace, name="a"))
    then = created["metadata"]["resourceVersion"]
    _, listed = server.call("GET", path(namespace) + f"?resourceVersion={then}&resourceVersionMatch=Exact")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]


def test_an_update_conflict_and_its_message(server: Server, namespace: str) -> None:
    (created,) = add(server, namespace, "a")
    changed = created | {"spec": created["spec"] | {"sessionAffinity": "ClientIP"}}
    assert server.call("PUT", path(namespace, name="a"), changed)[0] == 200
    status = assert_status(server.call("PUT", path(namespace, name="a"), changed), 409, "Conflict")
    assert status["details"] == {"name": "a", "kind": "services"}
    assert "the object has been modified" in status["message"]


def test_the_first_object_of_an_unknown_kind(server: Server, namespace: str) -> None:
    things = f"/apis/new-{namespace}.example.com/v1/namespaces/{namespace}/things"
    assert server.call("GET", things)[0] == 404
    refused = {"kind": "Thing", "metadata": {"name": "Not Valid"}}
    assert_status(server.call("POST", things, refused), 422, "Invalid")
    assert server.call("GET", things)[0] == 404, "a refused object must not define a resource"
    assert server.call("POST", things, {"kind": "Thing", "metadata": {"name": "t"}, "spec": 1})[0] == 201
    _, listed = server.call("GET", things)
    assert (listed["kind"], len(listed["items"])) == ("ThingList", 1)
    group = f"/apis/new-{namespace}.example.com"
    assert server.call("GET", group)[1]["preferredVersion"]["version"] == "v1"
    assert server.call("GET", f"{group}/v1")[1]["resources"][0]["kind"] == "Thing"
    patch = server.call("PATCH", f"{things}/t", {"spec": {"a": 1}}, "application/strategic-merge-patch+json")
    assert_status(patch, 415, "UnsupportedMediaType")


def test_a_watch_from_a_list(server: Server, namespace: str) -> None:
    add(server, namespace, "before")
    _, listed = server.call("GET", path(namespace))
    with server.watch(path(namespace) + f"?resourceVersion={listed['metadata']['resourceVersion']}") as watch:
        assert watch.response.getheader("Content-Type") == "application/json"
        add(server, namespace, "a")
        server.call("PATCH", path(namespace, name="a"), {"metadata": {"labels": {"x": "y"}}}, MERGE)
        server.call("DELETE", path(namespace, name="a"))
        assert watch.take(3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


MERGE = "application/merge-patch+json"


def test_a_watch_from_zero_begins_with_the_state(server: Server, namespace: str) -> None:
    add(server, namespace, "a", "b")
    for query in ("?resourceVersion=0", "", "?resourceVersion="):
        with server.watch(path(namespace) + query) as watch:
            assert watch.take(2) == [("ADDED", "a"), ("ADDED", "b")]


def test_a_watch_list_as_client_go_opens_it(server: Server, namespace: str) -> None:
    query = "?allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion="
    slices = f"{SLICES}/namespaces/{namespace}/endpointslices"
    obj = {"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": []}
    assert server.call("POST", slices, obj)[0] == 201
    with server.watch(f"{SLICES}/endpointslices{query}&timeoutSeconds=100") as watch:
        frames = []
        for frame in watch:
            frames.append(frame)
            if frame["type"] == "BOOKMARK":
                break
        assert "a" in [frame["object"]["metadata"].get("name") for frame in frames]
        mark = frames[-1]["object"]
        assert (mark["kind"], mark["apiVersion"]) == ("EndpointSlice", "discovery.k8s.io/v1")
        assert mark["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
        assert int(mark["metadata"]["resourceVersion"]) > 0
        assert server.call("POST", slices, obj | {"metadata": {"name": "b"}})[0] == 201
        assert watch.take(1) == [("ADDED", "b")]


def test_a_field_selected_watch_sees_objects_come_and_go(server: Server, namespace: str) -> None:
    query = f"?fieldSelector=spec.type=NodePort,metadata.namespace={namespace}"
    add(server, namespace, "a")
    with server.watch("/api/v1/services" + query) as watch:
        for kind in ("NodePort", "ClusterIP"):
            server.call("PATCH", path(namespace, name="a"), {"spec": {"type": kind}}, MERGE)
        assert watch.take(2) == [("ADDED", "a"), ("DELETED", "a")]


def test_a_timeout_ends_a_watch_cleanly(server: Server, namespace: str) -> None:
    with server.watch(path(namespace) + "?timeoutSeconds=1&allowWatchBookmarks=true") as watch:
        frames = list(watch)
    assert [frame["type"] for frame in frames] == ["BOOKMARK"]
    assert frames[0]["object"]["kind"] == "Service"


def test_a_watch_beyond_the_present_is_an_error_event(server: Server, namespace: str) -> None:
    with server.watch(path(namespace) + "?resourceVersion=99999999") as watch:
        assert watch.response.status == 200
        (frame,) = list(watch)
    assert (frame["type"], frame["object"]["code"]) == ("ERROR", 504)


def test_what_the_history_forgot_is_gone() -> None:
    server = start_server("--history=10")
    try:
        add(server, "default", *(f"s{i}" for i in range(5)))
        _, first = server.call("GET", path("default") + "?limit=2")
        for i in range(20):
            add(server, "default", f"t{i}")
        with server.watch(path("default") + "?resourceVersion=2") as watch:
            assert watch.response.status == 200
            (frame,) = list(watch)
        assert (frame["type"], frame["object"]["kind"]) == ("ERROR", "Status")
        assert (frame["object"]["code"], frame["object"]["reason"]) == (410, "Expired")
        for query in ("resourceVersion=2&resourceVersionMatch=Exact", f"continue={first['metadata']['continue']}"):
            assert_status(server.call("GET", path("default") + f"?{query}"), 410, "Expired")
    finally:
        assert stop_server(server) == 0


def test_services_take_part_in_delete_collection(server: Server, namespace: str) -> None:
    add(server, namespace, "a", "b", app="x")
    add(server, namespace, "c")
    code, gone = server.call("DELETE", path(namespace) + "?labelSelector=app=x")
    assert (code, gone["kind"], len(gone["items"])) == (200, "ServiceList", 2)
    assert [item["metadata"]["name"] for item in server.call("GET", path(namespace))[1]["items"]] == ["c"]


def test_sigterm_ends_the_process_at_once_with_watches_open() -> None:
    server = start_server()
    with server.watch("/api/v1/services") as watch, closing(server.connect()) as idle:
        idle.request("GET", "/readyz")
        assert idle.getresponse().read() == b"ok"
        assert stop_server(server) == 0
        assert watch.response.read() == b"", "the stream must end as a complete response"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--service-cidrs=10.0.0.0"], "10.0.0.0"),
        (["--service-cidrs=10.0.0.0/24,10.1.0.0/24"], "one IPv4 range, one IPv6 range"),
        (["--history=0"], "at least one event"),
        (["--node-port-range=5"], "must look like 30000-32767"),
        (["--node-port-range=9-5"], "9-5 is not a range of ports"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: list[str], told: str) -> None:
    command = [sys.executable, "-m", "clusters.apiserver", "--listen-fd=0", *arguments]
    environment = os.environ | {"PLUMBLINE_API_TOKEN": "x"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_many_objects_can_be_created_by_one_request(server: Server, namespace: str) -> None:
    where = f"/api/v1/namespaces/{namespace}/configmaps"
    objects = [{"metadata": {"name": f"c-{number}"}} for number in range(450)]
    code, answer = server.call("POST", f"/plumbline/create{where}", objects)
    assert (code, answer) == (201, {"created": 450})
    _, listed = server.call("GET", where)
    assert len(listed["items"]) == 450


def test_what_is_refused_of_many_is_told_and_those_before_are_there(server: Server, namespace: str) -> None:
    where = f"/api/v1/namespaces/{namespace}/services"
    objects = [{"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}} for name in ("first", "2nd", "third")]
    code, answer = server.call("POST", f"/plumbline/create{where}", objects)
    assert code == 422
    assert "2nd" in answer["message"]
    _, listed = server.call("GET", where)
    assert [one["metadata"]["name"] for one in listed["items"]] == ["first"]


@pytest.mark.parametrize(
    ("method", "where", "body", "code"),
    [
        ("POST", "/plumbline/create/api/v1/namespaces/default/services/one", [], 404),
        ("POST", "/plumbline/create/api/v1/services", [], 404),
        ("POST", "/plumbline/create/api/v1/namespaces/default/nonsense", [], 404),
        ("POST", "/plumbline/create/api/v1", [], 404),
        ("POST", "/plumbline/create/api/v1/namespaces/default/services", {"items": []}, 400),
        ("POST", "/plumbline/create/api/v1/namespaces/nowhere/services", [{"metadata": {"name": "a"}}], 404),
        ("GET", "/plumbline/create/api/v1/namespaces/default/services", None, 405),
    ],
)
def test_refusals_of_many(server: Server, method: str, where: str, body: object, code: int) -> None:
    assert server.call(method, where, body)[0] == code
