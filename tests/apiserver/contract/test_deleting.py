# SPDX-License-Identifier: Apache-2.0
"""Deleting: answers, finalizers, preconditions, collections."""

from typing import Any

import pytest

from tests.apiserver.contract.objects import add, config_map, path, service
from tests.apiserver.contract.servers import MERGE, Standing


def test_what_a_delete_answers(server: Standing, namespace: str) -> None:
    (made,) = add(server, path(namespace, "services"), service("a"))
    gone = server.call("DELETE", path(namespace, "services", "a")).must_be(200)
    assert (gone["kind"], gone.metadata["uid"]) == ("Service", made.metadata["uid"])
    (made,) = add(server, path(namespace), config_map("a"))
    gone = server.call("DELETE", path(namespace, name="a")).must_be(200)
    told = (gone["kind"], gone["status"], gone["details"])
    details = {"name": "a", "kind": "configmaps", "uid": made.metadata["uid"]}
    assert told == ("Status", "Success", details)
    server.call("DELETE", path(namespace, name="a")).must_be_refused(404, "NotFound")


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
def test_preconditions(server: Standing, namespace: str, field: str) -> None:
    (made,) = add(server, path(namespace), config_map("a"))
    right = {"preconditions": {field: made.metadata[field]}}
    wrong = {"preconditions": {field: "1" if field == "resourceVersion" else "another"}}
    server.call("DELETE", path(namespace, name="a"), wrong).must_be_refused(409, "Conflict")
    server.call("GET", path(namespace, name="a")).must_be(200)
    server.call("DELETE", path(namespace, name="a"), right).must_be(200)


def test_a_finalizer_holds_an_object_until_it_is_removed(server: Standing, namespace: str) -> None:
    where = path(namespace, name="a")
    add(server, path(namespace), config_map("a", finalizers=["example.org/one", "example.org/two"]))
    marked = server.call("DELETE", where).must_be(200)
    assert marked.metadata["deletionTimestamp"].endswith("Z")
    assert marked.metadata["deletionGracePeriodSeconds"] == 0
    again = server.call("DELETE", where).must_be(200)
    assert again.metadata["deletionTimestamp"] == marked.metadata["deletionTimestamp"]
    added = {"metadata": {"finalizers": ["example.org/one", "example.org/three"]}}
    server.call("PATCH", where, added, MERGE).must_be_refused(422, "Invalid")
    server.call("PATCH", where, {"metadata": {"finalizers": ["example.org/two"]}}, MERGE).must_be(200)
    server.call("GET", where).must_be(200)
    server.call("POST", path(namespace), config_map("a")).must_be_refused(409, "AlreadyExists")
    server.call("PATCH", where, {"metadata": {"finalizers": None}}, MERGE).must_be(200)
    server.call("GET", where).must_be_refused(404, "NotFound")


def test_a_finalizer_keeps_a_service_s_address(server: Standing, namespace: str) -> None:
    obj = service("a")
    obj["metadata"]["finalizers"] = ["example.org/wait"]
    (made,) = add(server, path(namespace, "services"), obj)
    where = path(namespace, "services", "a")
    taker = service("b", clusterIP=made["spec"]["clusterIP"])
    server.call("DELETE", where).must_be(200)
    server.call("POST", path(namespace, "services"), taker).must_be_refused(422, "Invalid")
    server.call("PATCH", where, {"metadata": {"finalizers": []}}, MERGE).must_be(200)
    add(server, path(namespace, "services"), taker)


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ({}, []),
        ({"labelSelector": "color=red"}, ["b"]),
        ({"fieldSelector": "metadata.name=b"}, ["a", "c"]),
        ({"labelSelector": "color", "fieldSelector": "metadata.name!=a"}, ["a"]),
        ({"dryRun": "All"}, ["a", "b", "c"]),
        ({"labelSelector": "color=green"}, ["a", "b", "c"]),
    ],
    ids=str,
)
def test_collections(server: Standing, namespace: str, query: dict[str, str], left: list[str]) -> None:
    for name, color in (("a", "red"), ("b", "blue"), ("c", "red")):
        add(server, path(namespace), config_map(name, labels={"color": color}))
    gone = server.call("DELETE", path(namespace), **query).must_be(200)
    assert gone["kind"] == "ConfigMapList"
    assert server.call("GET", path(namespace)).names == left


def test_a_collection_with_a_finalizer_in_it(server: Standing, namespace: str) -> None:
    add(server, path(namespace), config_map("a"), config_map("b", finalizers=["example.org/wait"]))
    server.call("DELETE", path(namespace)).must_be(200)
    (held,) = server.call("GET", path(namespace))["items"]
    assert (held["metadata"]["name"], "deletionTimestamp" in held["metadata"]) == ("b", True)
    server.call("PATCH", path(namespace, name="b"), {"metadata": {"finalizers": []}}, MERGE).must_be(200)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"propagationPolicy": "Background"}, 200),
        ({"propagationPolicy": "Orphan"}, 200),
        ({"gracePeriodSeconds": 0}, 200),
        ({"propagationPolicy": "Sideways"}, 422),
        ({"propagationPolicy": "Background", "orphanDependents": True}, 422),
        ({"dryRun": ["Some"]}, 422),
        ({"gracePeriodSeconds": "now"}, 400),
    ],
    ids=str,
)
def test_delete_options(server: Standing, namespace: str, options: dict[str, Any], code: int) -> None:
    add(server, path(namespace, "services"), service("a"))
    server.call("DELETE", path(namespace, "services", "a"), options).must_be(code)


def test_a_namespace_every_cluster_has_stays(server: Standing) -> None:
    for name in ("default", "kube-system"):
        server.call("DELETE", f"/api/v1/namespaces/{name}").must_be_refused(403, "Forbidden")
