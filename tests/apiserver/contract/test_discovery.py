# SPDX-License-Identifier: Apache-2.0
"""What a client learns before it asks for anything: health, version, resources, schemas."""

import json
from typing import Any

import pytest

from tests.apiserver.contract.servers import Standing

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
WANTED = {
    "services": ("Service", True, {"svc"}),
    "nodes": ("Node", False, {"no"}),
    "namespaces": ("Namespace", False, {"ns"}),
    "pods": ("Pod", True, {"po"}),
    "configmaps": ("ConfigMap", True, {"cm"}),
}
VERBS = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}


@pytest.mark.parametrize("where", ["/healthz", "/livez", "/readyz"])
def test_health(server: Standing, where: str) -> None:
    assert server.call("GET", where).must_be(200).body == "ok"


def test_the_version(server: Standing) -> None:
    told = server.call("GET", "/version").must_be(200)
    assert (told["major"], told["minor"]) == ("1", "37")
    assert told["gitVersion"].startswith("v1.37.")


def test_resources_one_document_at_a_time(server: Standing) -> None:
    assert server.call("GET", "/api")["versions"] == ["v1"]
    known = {one["name"]: one for one in server.call("GET", "/api/v1")["resources"]}
    for name, (kind, namespaced, short) in WANTED.items():
        found = known[name]
        assert (found["kind"], found["namespaced"], set(found["shortNames"])) == (kind, namespaced, short)
        assert VERBS - {"deletecollection"} <= set(found["verbs"])
    assert "services/status" in known
    groups = {one["name"]: one for one in server.call("GET", "/apis")["groups"]}
    assert groups["discovery.k8s.io"]["preferredVersion"]["version"] == "v1"
    listed = server.call("GET", "/apis/discovery.k8s.io/v1")["resources"]
    assert [one["kind"] for one in listed if one["name"] == "endpointslices"] == ["EndpointSlice"]


def test_resources_all_at_once(server: Standing) -> None:
    answer = server.call("GET", "/apis", headers={"Accept": AGGREGATED}).must_be(200)
    assert answer["kind"] == "APIGroupDiscoveryList"
    assert "as=APIGroupDiscoveryList" in answer.headers["Content-Type"]
    groups = {one["metadata"]["name"]: one["versions"] for one in answer["items"]}
    (v1,) = [one for one in groups["discovery.k8s.io"] if one["version"] == "v1"]
    (slices,) = [one for one in v1["resources"] if one["resource"] == "endpointslices"]
    assert (slices["scope"], slices["responseKind"]["kind"]) == ("Namespaced", "EndpointSlice")
    assert set(slices["verbs"]) >= VERBS


def document(server: Standing, name: str) -> Any:
    index = server.call("GET", "/openapi/v3").must_be(200).body
    index = json.loads(index) if isinstance(index, str) else index
    found = server.call("GET", index["paths"][name]["serverRelativeURL"]).must_be(200).body
    return json.loads(found) if isinstance(found, str) else found


@pytest.mark.parametrize(
    ("name", "collection"),
    [
        ("api/v1", "/api/v1/namespaces/{namespace}/services"),
        ("api/v1", "/api/v1/nodes"),
        ("apis/discovery.k8s.io/v1", "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"),
    ],
)
def test_schemas_that_kubectl_validates_by(server: Standing, name: str, collection: str) -> None:
    patch = document(server, name)["paths"][f"{collection}/{{name}}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"]["kind"]
    parameters = {one.get("name") for one in patch["parameters"]}
    assert {"fieldValidation", "dryRun", "fieldManager"} <= parameters


def test_schemas_know_the_same_fields(server: Standing) -> None:
    """Every field of a Service, by the schemas that the document refers to."""
    schemas = document(server, "api/v1")["components"]["schemas"]
    (found,) = [
        one
        for one in schemas.values()
        if {"group": "", "version": "v1", "kind": "Service"} in one.get("x-kubernetes-group-version-kind", ())
    ]

    def properties(schema: Any) -> set[str]:
        for inner in (schema, *schema.get("allOf", ())):
            schema = schemas[inner["$ref"].rpartition("/")[2]] if "$ref" in inner else schema
        return set(schema["properties"])

    assert properties(found) == {"apiVersion", "kind", "metadata", "spec", "status"}
    spec = properties(found["properties"]["spec"])
    assert {"clusterIPs", "trafficDistribution", "internalTrafficPolicy", "healthCheckNodePort"} <= spec
    assert len(spec) == 20


def test_a_group_that_is_not_served(server: Standing) -> None:
    for where in ("/apis/none.example.org", "/apis/none.example.org/v1", "/openapi/v3/apis/none.example.org/v1"):
        assert server.call("GET", where).status == 404
