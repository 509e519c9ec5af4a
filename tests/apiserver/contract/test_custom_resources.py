# SPDX-License-Identifier: Apache-2.0
"""Custom resources: from the definition on they are resources like any other."""

import pytest

from clusters.announcers.objects import GROUP, KINDS
from clusters.announcers.objects import definition as definition_of_metallb
from tests.apiserver.contract.objects import add, definition, gadget, path
from tests.apiserver.contract.servers import APPLY, CRDS, JSON_PATCH, MERGE, STRATEGIC, Standing


@pytest.fixture
def group(namespace: str) -> str:
    """An API group that nobody else uses."""
    return f"{namespace}.example.org"


def test_the_life_of_a_custom_object(server: Standing, namespace: str, group: str) -> None:
    where = f"{server.define(definition(group))}/namespaces/{namespace}/gadgets"
    (made,) = add(server, where, gadget(group, "a", spec={"size": 1, "deep": {"er": [1, None]}}))
    assert (made.metadata["generation"], made["spec"]["deep"]) == (1, {"er": [1, None]})
    changed = server.call("PATCH", f"{where}/a", {"spec": {"size": 2}}, MERGE).must_be(200)
    assert (changed["spec"]["size"], changed.metadata["generation"]) == (2, 2)
    labelled = server.call("PATCH", f"{where}/a", {"metadata": {"labels": {"x": "y"}}}, MERGE).must_be(200)
    assert labelled.metadata["generation"] == 2
    remove = [{"op": "remove", "path": "/spec/deep"}]
    assert server.call("PATCH", f"{where}/a", remove, JSON_PATCH).must_be(200)["spec"] == {"size": 2}
    server.call("PATCH", f"{where}/a", {}, STRATEGIC).must_be_refused(415, "UnsupportedMediaType")
    listed = server.call("GET", where, labelSelector="x=y").must_be(200)
    assert (listed["kind"], listed.names) == ("GadgetList", ["a"])
    applied = gadget(group, "b", spec={"size": 3})
    server.call("PATCH", f"{where}/b", applied, APPLY, fieldManager="me").must_be(201)
    gone = server.call("DELETE", f"{where}/a").must_be(200)
    assert (gone["kind"], gone["status"]) == ("Status", "Success")
    assert server.call("GET", where).names == ["b"]


def test_discovery_shows_it(server: Standing, group: str) -> None:
    root = server.define(definition(group))
    (resource,) = [one for one in server.call("GET", root)["resources"] if one["name"] == "gadgets"]
    shown = {key: resource[key] for key in ("kind", "singularName", "namespaced", "shortNames")}
    assert shown == {"kind": "Gadget", "singularName": "gadget", "namespaced": True, "shortNames": ["gdg"]}
    assert group in [one["name"] for one in server.call("GET", "/apis")["groups"]]
    assert server.call("GET", f"/apis/{group}")["preferredVersion"]["groupVersion"] == f"{group}/v1"


def test_with_a_status_of_its_own(server: Standing, namespace: str, group: str) -> None:
    where = f"{server.define(definition(group, subresources={'status': {}}))}/namespaces/{namespace}/gadgets"
    (made,) = add(server, where, gadget(group, "a", spec={"size": 1}, status={"phase": "mine"}))
    assert "status" not in made.body
    done = {"status": {"phase": "done"}, "spec": {"size": 2}}
    changed = server.call("PATCH", f"{where}/a/status", done, MERGE).must_be(200)
    assert (changed["status"], changed["spec"]) == ({"phase": "done"}, {"size": 1})
    assert changed.metadata["generation"] == 1
    ignored = server.call("PATCH", f"{where}/a", {"status": {"phase": "mine"}}, MERGE).must_be(200)
    assert ignored["status"] == {"phase": "done"}


def test_without_a_status_of_its_own(server: Standing, namespace: str, group: str) -> None:
    where = f"{server.define(definition(group))}/namespaces/{namespace}/gadgets"
    (made,) = add(server, where, gadget(group, "a", status={"phase": "mine"}))
    assert made["status"] == {"phase": "mine"}
    server.call("GET", f"{where}/a/status").must_be_refused(404, "NotFound")


def test_outside_namespaces(server: Standing, namespace: str, group: str) -> None:
    root = server.define(definition(group, scope="Cluster"))
    (made,) = add(server, f"{root}/gadgets", gadget(group, "a"))
    assert "namespace" not in made.metadata
    assert server.call("GET", f"{root}/namespaces/{namespace}/gadgets").status == 404


def test_selectable_fields(server: Standing, namespace: str, group: str) -> None:
    schema = {
        "openAPIV3Schema": {
            "type": "object",
            "properties": {"spec": {"type": "object", "properties": {"color": {"type": "string"}}}},
        }
    }
    described = definition(group, schema=schema, selectableFields=[{"jsonPath": ".spec.color"}])
    where = f"{server.define(described)}/namespaces/{namespace}/gadgets"
    add(server, where, gadget(group, "a", spec={"color": "red"}), gadget(group, "b", spec={"color": "blue"}))
    assert server.call("GET", where, fieldSelector="spec.color=red").must_be(200).names == ["a"]
    server.call("GET", where, fieldSelector="spec.size=1").must_be_refused(400, "BadRequest")


def test_a_definition_takes_its_objects_with_it(server: Standing, namespace: str, group: str) -> None:
    where = f"{server.define(definition(group))}/namespaces/{namespace}/gadgets"
    add(server, where, gadget(group, "a"))
    name = f"gadgets.{group}"
    since = server.call("GET", f"{CRDS}/{name}").metadata["resourceVersion"]
    query = {"fieldSelector": f"metadata.name={name}", "resourceVersion": since}
    with server.watch(CRDS, **query) as watch:
        server.call("DELETE", f"{CRDS}/{name}").must_be(200)
        for frame in watch:
            if frame["type"] == "DELETED":
                break
    assert server.call("GET", where).status == 404
    where = f"{server.define(definition(group))}/namespaces/{namespace}/gadgets"
    assert server.call("GET", where).names == []


@pytest.mark.parametrize(
    "spoil",
    [{"group": ""}, {"scope": "Somewhere"}, {"versions": []}, {"names": {"plural": "", "kind": ""}}],
    ids=str,
)
def test_definitions_that_define_nothing(server: Standing, group: str, spoil: dict[str, object]) -> None:
    wrong = definition(group)
    wrong["spec"] |= spoil
    server.call("POST", CRDS, wrong).must_be_refused(422, "Invalid")
    misnamed = definition(group) | {"metadata": {"name": "misnamed"}}
    server.call("POST", CRDS, misnamed).must_be_refused(422, "Invalid")


def test_an_unserved_group_is_not_there(server: Standing, namespace: str) -> None:
    where = f"/apis/none.example.org/v1/namespaces/{namespace}/gadgets"
    assert server.call("GET", where).status == 404
    assert server.call("GET", path(namespace, "gadgets")).status == 404


def test_what_metallb_defines_is_served_in_every_version(server: Standing, namespace: str) -> None:
    for plural, kind, versions in KINDS:
        body = definition_of_metallb(plural, kind, versions)
        server.define({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", **body})
    for version in {version for _, _, versions in KINDS for version in versions}:
        described = {one["name"]: one["kind"] for one in server.call("GET", f"/apis/{GROUP}/{version}")["resources"]}
        mine = [(plural, kind) for plural, kind, versions in KINDS if version in versions]
        assert described == {name: kind for plural, kind in mine for name in (plural, f"{plural}/status")}
    where = f"/apis/{GROUP}/v1beta1/namespaces/{namespace}/servicel2statuses"
    body = {"apiVersion": f"{GROUP}/v1beta1", "kind": "ServiceL2Status", "metadata": {"generateName": "l2-"}}
    made = server.call("POST", where, body).must_be(201)
    status = {"status": {"node": "node-a", "serviceName": "svc-1"}}
    changed = server.call("PATCH", f"{where}/{made.metadata['name']}/status", status, MERGE).must_be(200)
    assert changed["status"] == status["status"]
