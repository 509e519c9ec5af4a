# SPDX-License-Identifier: Apache-2.0
"""Bad input on the wire: nothing that a client sends may take the server away, or a traceback out of it."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.conftest import ANSWER_SECONDS, Server, start_server, stop_server
from tests.apiserver.test_http import MERGE, add, assert_status, path

APPLY = "application/apply-patch+yaml?fieldManager=me"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
QUICKLY = 5.0
"""Seconds in which even a silly request must be answered."""


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server of this module's own, and what it prints."""
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as file:
        server = start_server(log=file)
    yield server, log
    assert stop_server(server) == 0


@pytest.fixture
def victim(standing: tuple[Server, Path]) -> Iterator[Server]:
    """That server: after each test it must still answer, and must have had nothing to say."""
    server, log = standing
    before = log.stat().st_size
    yield server
    assert server.call("GET", path("default"))[0] == 200
    assert log.read_bytes()[before:] == b""


@pytest.fixture
def place(victim: Server) -> str:
    """A namespace of the victim that nobody else uses."""
    status, created = victim.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "test-"}})
    assert status == 201
    name: str = created["metadata"]["name"]
    return name


def deep(levels: int) -> str:
    return '{"x":' * levels + "1" + "}" * levels


def sent(server: Server, method: str, where: str, body: bytes, content: str) -> tuple[int, Any]:
    """One request, answered by a Status or an object."""
    content, _, query = content.partition("?")
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": content}
    began = time.monotonic()
    status, answer = server.raw(method, f"{where}?{query}" if query else where, body, headers)
    assert time.monotonic() - began < QUICKLY
    return status, json.loads(answer)


@pytest.mark.parametrize("levels", [200, 400, 990, 1020, 5000, 500_000])
@pytest.mark.parametrize("content", ["application/json", MERGE, STRATEGIC, APPLY])
def test_nesting(victim: Server, place: str, levels: int, content: str) -> None:
    """Deeper than Python recurses, than JSON is encoded, and than it is decoded."""
    where, kind = f"/apis/deep.example.org/v1/namespaces/{place}/things", "Thing"
    body = f'{{"apiVersion":"deep.example.org/v1","kind":"{kind}","metadata":{{"name":"a"}},"spec":{deep(levels)}}}'
    assert victim.call("POST", where, {"kind": kind, "metadata": {"name": "a"}, "spec": {}})[0] == 201
    method, where = ("POST", where) if content == "application/json" else ("PATCH", f"{where}/a")
    answer = sent(victim, method, where, body.encode(), content)
    if answer[0] >= 300:
        assert_status(answer, answer[0], answer[1]["reason"])
        assert answer[0] in (400, 409, 415)


@pytest.mark.parametrize("levels", [200, 990, 5000])
def test_nesting_of_a_built_in_kind(victim: Server, place: str, levels: int) -> None:
    for field in ("metadata", "spec", "status", "data", "unknown"):
        status, _ = sent(victim, "POST", path(place), f'{{"{field}":{deep(levels)}}}'.encode(), "application/json")
        assert status in (400, 422)


@pytest.mark.parametrize(
    "body",
    [
        b"a: &a [1]\nb: *a\n",
        b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n",
        b"1: 2\n",
        b"? [a]\n: b\n",
        b"a: 99999999999999999999999999999\n",
        b"a: !!python/object/apply:os.system ['true']\n",
        b"a: !!binary aGVsbG8=\n",
        b"a: .nan\n",
        b"a: 2026-01-01\n",
        b"---\na: b\n---\nc: d\n",
        b"\x00",
        b"\xff\xfe",
        b"[" * 5000,
        b"- " * 5000,
        b"",
        b"just text",
    ],
)
def test_yaml_that_is_not_json(victim: Server, place: str, body: bytes) -> None:
    head = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n" if b": " in body else b""
    status, answer = sent(victim, "PATCH", path(place, "configmaps", "a"), head + body, APPLY)
    assert (status in (400, 500), answer["kind"], bool(answer["message"])) == (True, "Status", True), answer
    assert "Internal error" not in answer["message"]


@pytest.mark.parametrize(
    ("content", "patch"),
    [
        (STRATEGIC, {"$retainKeys": 3}),
        (STRATEGIC, {"metadata": {"$deleteFromPrimitiveList/finalizers": 3}}),
        (STRATEGIC, {"metadata": {"finalizers": {"a": "b"}}}),
        (STRATEGIC, {"metadata": {"ownerReferences": [3]}}),
        (STRATEGIC, {"spec": {"ports": [{"$patch": "delete"}]}}),
        (STRATEGIC, {"spec": {"ports": [{"$patch": ["delete"], "port": 80}]}}),
        (STRATEGIC, {"spec": {"$patch": {"a": "b"}}}),
        (STRATEGIC, {"$patch": "delete"}),
        (STRATEGIC, {"$patch": "replace"}),
        (STRATEGIC, {"spec": {"selector": {"$patch": "replace", "a": 1}}}),
        (STRATEGIC, 3),
        (MERGE, None),
        (MERGE, {"metadata": 3}),
        (MERGE, {"metadata": {"name": ["a"]}}),
        (MERGE, {"metadata": {"resourceVersion": 3}}),
        (MERGE, {"metadata": {"managedFields": [3]}}),
        (MERGE, {"metadata": {"managedFields": "x"}}),
        (MERGE, {"spec": None, "kind": None, "apiVersion": None}),
        (MERGE, {"spec": {"ports": {"a": "b"}}}),
        (MERGE, {"spec": {"ports": [None]}}),
        (MERGE, {"spec": {"clusterIPs": [["a"]]}}),
        (MERGE, {"spec": {"ports": [{"port": 1e3}]}}),
        (MERGE, {"spec": {"ports": [{"port": 2**63}]}}),
        (MERGE, {"spec": {"ports": [{"port": True}]}}),
        (JSON_PATCH, [{"op": "add", "path": "/spec/ports/²", "value": 1}]),
        (JSON_PATCH, [{"op": "add", "path": "/spec/ports/-1", "value": 1}]),
        (JSON_PATCH, [{"op": "remove", "path": ""}]),
        (JSON_PATCH, [{"op": "remove", "path": "/metadata"}]),
        (JSON_PATCH, [{"op": "move", "from": "/spec", "path": "/spec/ports"}]),
        (JSON_PATCH, [{"op": "copy", "from": "/spec", "path": "/spec/ports/0/x"}] * 3),
        (JSON_PATCH, [{"op": "replace", "path": "/kind", "value": {"a": "b"}}]),
        (JSON_PATCH, [{"op": ["add"], "path": "/a", "value": 1}]),
        (JSON_PATCH, [3]),
    ],
    ids=str,
)
@pytest.mark.parametrize("subresource", ["", "/status"])
def test_patches(server: Server, namespace: str, content: str, patch: Any, subresource: str) -> None:
    """Whatever is taken must leave a Service; the rest is refused with a Status."""
    add(server, namespace, "a")
    where = path(namespace, name="a")
    status, answer = sent(server, "PATCH", where + subresource, json.dumps(patch).encode(), content)
    assert (status, answer["kind"]) == (200, "Service") or (status, answer["kind"]) in (
        (400, "Status"),
        (422, "Status"),
        (409, "Status"),
    ), answer
    found = server.call("GET", where)[1]
    assert (found["kind"], found["metadata"]["name"], found["spec"]["type"]) == ("Service", "a", "ClusterIP")


def test_a_json_patch_that_doubles_its_object_again_and_again(victim: Server, place: str) -> None:
    """Sixty copies of a document into itself would be 2^60 of it."""
    where = f"/apis/deep.example.org/v1/namespaces/{place}/things"
    assert victim.call("POST", where, {"kind": "Thing", "metadata": {"name": "a"}, "spec": {"x": 1}})[0] == 201
    patch = [{"op": "copy", "from": "/spec", "path": f"/spec/c{i}"} for i in range(60)]
    status, answer = sent(victim, "PATCH", f"{where}/a", json.dumps(patch).encode(), JSON_PATCH)
    assert (status, answer["reason"]) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize(
    "query",
    [
        "labelSelector=" + "a" * 50_000,
        "labelSelector=" + "a," * 20_000 + "!",
        "labelSelector=" + "a." * 20_000 + "/",
        "labelSelector=a%20in%20(" + "b," * 20_000 + ")",
        "labelSelector=%00",
        "labelSelector=%ff%fe",
        "fieldSelector=" + "metadata.name%3Da," * 3_000,
        "fieldSelector=metadata.name%3D" + "%5C" * 10_000,
        "fieldSelector=." + "." * 50_000 + "%3Da",
        "continue=" + "A" * 50_000,
        "continue=%C3%A9",
        "continue=WzFlOTk5LCJhIl0",
        "continue=Wy0xLCJhIl0",
        "continue=eyJhIjoxLCJiIjoyfQ",
        "resourceVersion=%C2%B2",
        "resourceVersion=9999999999999999999&resourceVersionMatch=Exact",
        "limit=99999999999999999999",
        "timeoutSeconds=999999999999999999&limit=1",
        "watch=true&timeoutSeconds=1&limit=%C2%B2",
        "includeObject=Everything",
        "%",
        "=&&=&",
        "a=" * 1000,
    ],
    ids=lambda one: one[:40],
)
def test_queries(victim: Server, query: str) -> None:
    began = time.monotonic()
    status, body = victim.raw("GET", f"{path('default')}?{query}", None, {"Authorization": f"Bearer {victim.token}"})
    assert time.monotonic() - began < QUICKLY
    assert status in (200, 400, 410, 414, 504)
    if status != 200:
        assert json.loads(body)["kind"] == "Status"


@pytest.mark.parametrize(
    "where",
    [
        "//api//v1//services",
        "/api/v1/namespaces//services",
        "/api/v1/namespaces/default/services/%2e%2e",
        "/api/v1/namespaces/default/services/a%2Fb",
        "/api/v1/namespaces/default/services/%00",
        "/api/v1/namespaces/default/services/%ff",
        "/apis/" + "a" * 5_000 + "/v1/things",
        "/apis/a/b/c/d/e/f/g/h",
        "/openapi/v3/apis/none/v1",
        "/openapi/v3/nonsense",
        "/plumbline/faults/%00",
    ],
    ids=lambda one: one[:50],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "OPTIONS"])
def test_paths(server: Server, where: str, method: str) -> None:
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": MERGE}
    status, body = server.raw(method, where, b"{}" if method in ("POST", "PATCH") else None, headers)
    assert 400 <= status < 500
    assert json.loads(body)["kind"] == "Status"


@pytest.mark.parametrize(
    "authorization", [b"Bearer \xff\xfe", b"Bearer " + b"x" * 7_000, b"Bearer", b"", b"bearer x", b"Negotiate"]
)
def test_tokens(victim: Server, authorization: bytes) -> None:
    with closing(socket.create_connection(("127.0.0.1", victim.port), ANSWER_SECONDS)) as raw:
        raw.sendall(b"GET /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: %b\r\n\r\n" % authorization)
        head = everything(raw)
    assert head.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 400 "))


def everything(raw: socket.socket) -> bytes:
    chunks = []
    while chunk := raw.recv(1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


@pytest.mark.parametrize(
    "noise",
    [
        b"\x00" * 100,
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /api HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"GET /api HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16" + b"\x00" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda one: repr(one[:40]),
)
@pytest.mark.parametrize("secured", [False, True])
def test_noise(victim: Server, noise: bytes, secured: bool) -> None:
    """On both doors, before and after there is a certificate. The connection ends; the server does not."""
    if secured:
        assert victim.call("GET", "/plumbline/certificate")[0] == 200
    for port in (victim.port, victim.open_port):
        with closing(socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)) as raw:
            try:
                raw.sendall(noise)
                raw.shutdown(socket.SHUT_WR)
                answer = everything(raw)
            except OSError:
                continue  # it has hung up already
        assert not answer.startswith(b"HTTP/1.1 2")


def test_clients_that_never_finish_cost_nobody_else(victim: Server, place: str) -> None:
    """Half a request line, half a body, a watch that is not read: a hundred of each."""
    authorization = b"Authorization: Bearer %b\r\n" % victim.token.encode()
    where = path(place).encode()
    half = [
        b"GET /api",
        b"GET /api HTTP/1.1\r\n" + authorization,
        b"POST %b HTTP/1.1\r\nHost: x\r\n%bContent-Length: 1000\r\n\r\n{" % (where, authorization),
        b"GET %b?watch=1 HTTP/1.1\r\nHost: x\r\n%b\r\n" % (where, authorization),
    ]
    with ExitStack() as stack:
        for _ in range(100):
            for text in half:
                raw = socket.create_connection(("127.0.0.1", victim.port), ANSWER_SECONDS)
                stack.enter_context(closing(raw)).sendall(text)
        add(victim, place, *(f"s-{i}" for i in range(50)))
        began = time.monotonic()
        assert len(victim.call("GET", path(place))[1]["items"]) == 50
        assert time.monotonic() - began < QUICKLY


def test_clients_that_leave_in_the_middle(victim: Server, place: str) -> None:
    authorization = b"Authorization: Bearer %b\r\n" % victim.token.encode()
    where = path(place, "configmaps").encode()
    big = json.dumps({"metadata": {"name": "big"}, "data": {"x": "y" * 900_000}}).encode()
    assert victim.raw("POST", where.decode(), big, {"Authorization": f"Bearer {victim.token}"})[0] == 201
    reset = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 s; close() sends RST
    for text in (
        b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (where, authorization),
        b"GET %b?watch=1 HTTP/1.1\r\nHost: x\r\n%b\r\n" % (where, authorization),
        b"POST %b HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n{" % (where, authorization, len(big)),
    ):
        for _ in range(20):
            raw = socket.create_connection(("127.0.0.1", victim.port), ANSWER_SECONDS)
            raw.sendall(text)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            raw.close()
    assert len(victim.call("GET", where.decode())[1]["items"]) == 1


@pytest.mark.parametrize("content", ["application/json", MERGE, APPLY, "application/vnd.kubernetes.protobuf"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"3", b'"text"', b"[]", b"[[[[", b"\xff", b"k8s\x00", b"k8s\x00\xff"]
)
def test_bodies(victim: Server, place: str, body: bytes, content: str) -> None:
    add(victim, place, "a")
    for method, where in (
        ("POST", path(place)),
        ("PUT", path(place, name="a")),
        ("PATCH", path(place, name="a")),
    ):
        status, answer = sent(victim, method, where, body, content)
        assert (status in (400, 415, 422), answer["kind"]) == (True, "Status"), (method, status, answer)
    status, answer = sent(victim, "DELETE", path(place, name="a"), body, content.partition("?")[0])
    assert status in (200, 400, 415)


def test_huge_bodies(victim: Server) -> None:
    huge = b'{"metadata":{"name":"a"},"x":"' + b"y" * (64 << 20)
    with closing(socket.create_connection(("127.0.0.1", victim.port), ANSWER_SECONDS)) as raw:
        head = f"POST {path('default')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {victim.token}\r\n"
        raw.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(huge)}\r\n\r\n".encode())
        try:
            raw.sendall(huge)
            answer = raw.recv(1 << 16)
        except ConnectionError:
            answer = b""  # it need not read what it will refuse
    assert answer.startswith(b"HTTP/1.1 413 ") or not answer


def test_a_compressed_bomb(victim: Server, place: str) -> None:
    """A hundred megabytes of blanks, which compress to a hundred kilobytes."""
    import gzip

    body = gzip.compress(b" " * (100 << 20))
    headers = {"Authorization": f"Bearer {victim.token}", "Content-Type": "application/json"}
    headers["Content-Encoding"] = "gzip"
    status, answer = victim.raw("POST", path(place), body, headers)
    assert (status, json.loads(answer)["kind"]) in ((400, "Status"), (413, "Status"), (415, "Status"))


def test_a_watch_in_the_future_is_told_so(server: Server, namespace: str) -> None:
    with server.watch(f"{path(namespace)}?resourceVersion=999999999") as watch:
        (frame,) = list(watch)
    assert (frame["type"], frame["object"]["code"], frame["object"]["reason"]) == ("ERROR", 504, "Timeout")
    assert "Too large resource version" in frame["object"]["message"]
