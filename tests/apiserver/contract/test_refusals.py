# SPDX-License-Identifier: Apache-2.0
"""What is refused: always with a Status object, and the code and reason that clients decide by."""

from typing import Any

import pytest

from tests.apiserver.contract.objects import add, config_map, endpoint_slice, path, service, slices
from tests.apiserver.contract.servers import APPLY, JSON_PATCH, MERGE, STRATEGIC, Standing

INVALID, BAD = (422, "Invalid"), (400, "BadRequest")
LONG = "x" * 64


@pytest.mark.parametrize("token", [None, "Bearer wrong", "Bearer ", "Basic eDp5", "nonsense"])
@pytest.mark.parametrize("asked", ["/api/v1/namespaces", "/apis", "/version", "/nonsense"])
def test_without_the_token(server: Standing, token: str | None, asked: str) -> None:
    server.call("GET", asked, headers={"Authorization": token or ""}).must_be_refused(401, "Unauthorized")


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        ({"labelSelector": "a b"}, BAD),
        ({"labelSelector": "a in (b"}, BAD),
        ({"labelSelector": "a=b=c"}, BAD),
        ({"labelSelector": ","}, BAD),
        ({"labelSelector": f"a={LONG}"}, BAD),
        ({"labelSelector": "a/b/c=d"}, BAD),
        ({"fieldSelector": "nonsense"}, BAD),
        ({"fieldSelector": "data.a=1"}, BAD),
        ({"fieldSelector": "metadata.uid=1"}, BAD),
        ({"fieldSelector": "spec.type=ClusterIP"}, BAD),
        ({"limit": "few"}, BAD),
        ({"timeoutSeconds": "soon"}, BAD),
        ({"continue": "nonsense"}, BAD),
        ({"continue": "bm9uc2Vuc2U"}, BAD),
        ({"resourceVersion": "nonsense"}, BAD),
        ({"resourceVersion": "-1"}, BAD),
        ({"resourceVersion": "1.5"}, BAD),
        ({"resourceVersion": "99999999999999999999999999"}, BAD),
        ({"resourceVersion": "999999999", "resourceVersionMatch": "NotOlderThan"}, (504, "Timeout")),
        ({"resourceVersionMatch": "Exact"}, INVALID),
        ({"resourceVersion": "1", "resourceVersionMatch": "About"}, INVALID),
        ({"resourceVersion": "0", "resourceVersionMatch": "Exact"}, INVALID),
        ({"sendInitialEvents": "true"}, INVALID),
        ({"watch": "true", "sendInitialEvents": "true"}, INVALID),
        ({"watch": "true", "resourceVersionMatch": "NotOlderThan"}, INVALID),
        ({"watch": "true", "labelSelector": "a b"}, BAD),
        ({"watch": "true", "fieldSelector": "data.a=1"}, BAD),
        ({"watch": "true", "timeoutSeconds": "soon"}, BAD),
    ],
    ids=str,
)
def test_queries_that_make_no_sense(
    server: Standing, namespace: str, query: dict[str, str], refusal: tuple[int, str]
) -> None:
    server.call("GET", path(namespace), **query).must_be_refused(*refusal)


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b"", BAD),
        (b"{", BAD),
        (b"\xff\xfe", BAD),
        (b"[]", BAD),
        (b"7", BAD),
        (b'{"metadata":' + b"[" * 20_000 + b"]" * 20_000 + b"}", BAD),
        (b'{"metadata":[]}', BAD),
        (b'{"metadata":{"name":7}}', BAD),
        (b'{"metadata":{"name":"a","labels":{"x":1}}}', BAD),
        (b'{"metadata":{"name":"a","labels":["x"]}}', BAD),
        (b'{"metadata":{"name":"a","finalizers":"x"}}', BAD),
        (b'{"metadata":{"name":"a"},"data":{"x":1}}', BAD),
        (b'{"metadata":{"name":"a"},"data":[]}', BAD),
        (b'{"metadata":{"name":"a"},"kind":"Secret","apiVersion":"v1"}', BAD),
        (b'{"metadata":{"name":"a"},"kind":"ConfigMap","apiVersion":"v2"}', BAD),
        (b'{"metadata":{"name":"a","namespace":"elsewhere"}}', BAD),
        (b'{"metadata":{"name":"a","labels":' + b'{"x":' * 900 + b"1" + b"}" * 900 + b"}}", BAD),
        (b"null", INVALID),
        (b"{}", INVALID),
        (b'{"metadata":{"name":""}}', INVALID),
        (b'{"metadata":{"name":"Upper"}}', INVALID),
        (b'{"metadata":{"name":"a/b"}}', INVALID),
        (b'{"metadata":{"generateName":"Upper-"}}', INVALID),
        (b'{"metadata":{"name":"a","labels":{"a b":"c"}}}', INVALID),
        (b'{"metadata":{"name":"a","labels":{"a":"b c"}}}', INVALID),
        (b'{"metadata":{"name":"a","annotations":{"a b":"c"}}}', INVALID),
        (b'{"metadata":{"name":"a","annotations":{"a":"' + b"x" * 300_000 + b'"}}}', INVALID),
        (b'{"metadata":{"name":"a","finalizers":["unqualified"]}}', INVALID),
        (b'{"metadata":{"name":"a","ownerReferences":[{"kind":"Pod","name":"p"}]}}', INVALID),
        (b'{"metadata":{"name":"a"},"data":{"a b":"c"}}', INVALID),
        (b'{"metadata":{"name":"a"},"data":{"a":"' + b"x" * (2 << 20) + b'"}}', INVALID),
        (b'{"metadata":{"name":"a"},"data":{"a":"' + b"x" * (4 << 20) + b'"}}', (413, "RequestEntityTooLarge")),
    ],
    ids=lambda one: str(one)[:60],
)
def test_bodies_that_make_no_object(server: Standing, namespace: str, body: bytes, refusal: tuple[int, str]) -> None:
    server.call("POST", path(namespace), body).must_be_refused(*refusal)
    assert server.call("GET", path(namespace)).names == []


@pytest.mark.parametrize("content", ["text/plain", "application/xml", "image/png"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_unknown_content_types(server: Standing, namespace: str, content: str, method: str) -> None:
    add(server, path(namespace), config_map("there"))
    where = path(namespace) if method == "POST" else path(namespace, name="there")
    server.call(method, where, config_map("a"), content).must_be_refused(415, "UnsupportedMediaType")


def test_a_reader_who_wants_what_there_is_not(server: Standing) -> None:
    refused = server.call("GET", "/api/v1/namespaces", headers={"Accept": "text/csv"})
    refused.must_be_refused(406, "NotAcceptable")


@pytest.mark.parametrize(
    ("method", "where", "code", "reason"),
    [
        ("GET", "/api/v1/nonsense", 404, "NotFound"),
        ("POST", "/api/v1/namespaces/default/nonsense", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/configmaps/absent", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/absent", 404, "NotFound"),
        ("DELETE", "/api/v1/namespaces/default/configmaps/absent", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/configmaps/a/b/c/d", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/configmaps/a/status", 404, "NotFound"),
        ("PUT", "/api/v1/namespaces/default/configmaps", 405, "MethodNotAllowed"),
        ("PATCH", "/api/v1/namespaces/default/configmaps", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/namespaces/default/configmaps/a", 405, "MethodNotAllowed"),
        ("DELETE", "/api/v1/configmaps", 405, "MethodNotAllowed"),
    ],
)
def test_paths_that_name_nothing(server: Standing, method: str, where: str, code: int, reason: str) -> None:
    body = {"metadata": {"name": "a"}} if method in ("POST", "PUT", "PATCH") else None
    content = MERGE if method == "PATCH" else "application/json"
    server.call(method, where, body, content).must_be_refused(code, reason)


@pytest.mark.parametrize(
    ("patch", "content", "code", "reason"),
    [
        (b"{", MERGE, 400, "BadRequest"),
        ([], MERGE, 400, "BadRequest"),
        ({"op": "add"}, JSON_PATCH, 400, "BadRequest"),
        ([{"op": "test", "path": "/data/a", "value": "2"}], JSON_PATCH, 422, "Invalid"),
        ([{"op": "remove", "path": "/data/absent"}], JSON_PATCH, 422, "Invalid"),
        ({"metadata": {"name": "other"}}, MERGE, 400, "BadRequest"),
        ({"data": "text"}, MERGE, 422, "Invalid"),
        ({"data": {"a": 1}}, MERGE, 422, "Invalid"),
        ({"data": "text"}, STRATEGIC, 422, "Invalid"),
        ({"kind": "Secret"}, MERGE, 422, "Invalid"),
        ({"metadata": {"namespace": "elsewhere"}}, MERGE, 400, "BadRequest"),
        ({"metadata": {"labels": {"a b": "c"}}}, MERGE, 422, "Invalid"),
        ({"metadata": None}, MERGE, 400, "BadRequest"),
        ([{"op": "nonsense", "path": "/data"}], JSON_PATCH, 422, "Invalid"),
        ([{"op": "add", "path": "data"}], JSON_PATCH, 422, "Invalid"),
        ([{"op": "replace", "path": "", "value": []}], JSON_PATCH, 422, "Invalid"),
        ({"metadata": {"resourceVersion": "1"}}, MERGE, 409, "Conflict"),
        ({"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}}, MERGE, 422, "Invalid"),
        (b"a: [", APPLY, 400, "BadRequest"),
    ],
    ids=str,
)
def test_patches_that_do_not_apply(
    server: Standing, namespace: str, patch: Any, content: str, code: int, reason: str
) -> None:
    (made,) = add(server, path(namespace), config_map("a", {"a": "1"}))
    query = {"fieldManager": "me"} if content == APPLY else {}
    refused = server.call("PATCH", path(namespace, name="a"), patch, content, **query)
    refused.must_be_refused(code, reason)
    assert server.call("GET", path(namespace, name="a")).body == made.body


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        ({"dryRun": "Some"}, 422, "Invalid"),
        ({"fieldValidation": "Maybe"}, 422, "Invalid"),
        ({"fieldManager": "x" * 129}, 422, "Invalid"),
    ],
    ids=str,
)
def test_write_options_that_make_no_sense(
    server: Standing, namespace: str, query: dict[str, str], code: int, reason: str
) -> None:
    server.call("POST", path(namespace), config_map("a"), **query).must_be_refused(code, reason)


def test_a_refusal_names_every_field_that_is_wrong(server: Standing, namespace: str) -> None:
    wrong = service("Upper", sessionAffinity="Cookie", ports=[{"port": 80, "protocol": "ICMP"}])
    refused = server.call("POST", path(namespace, "services"), wrong).must_be_refused(422, "Invalid")
    causes = {(cause["field"], cause["reason"]) for cause in refused["details"]["causes"]}
    assert causes == {
        ("metadata.name", "FieldValueInvalid"),
        ("spec.sessionAffinity", "FieldValueNotSupported"),
        ("spec.ports[0].protocol", "FieldValueNotSupported"),
    }


@pytest.mark.parametrize(
    ("where", "obj", "code"),
    [
        ("services", service("a", ports=[{"port": 70_000}]), 422),
        ("services", service("a", ports=[{"port": 2**40}]), 400),
        ("services", service("a", type="NodePort", ports=[{"port": 80, "nodePort": 80}]), 422),
        ("services", service("a", clusterIP="10.1.2.3"), 422),
        ("services", service("a", ports="eighty"), 400),
        ("endpointslices", endpoint_slice("a", addressType="IPv5"), 422),
        ("endpointslices", endpoint_slice("a", endpoints=[{"addresses": ["127.0.0.1"]}]), 422),
        ("endpointslices", endpoint_slice("a", ports=[{"port": 2**40}]), 400),
    ],
    ids=str,
)
def test_what_a_proxy_must_never_see(
    server: Standing, namespace: str, where: str, obj: dict[str, Any], code: int
) -> None:
    target = slices(namespace) if where == "endpointslices" else path(namespace, where)
    server.call("POST", target, obj).must_be(code)
    assert server.call("GET", target).names == []
