# SPDX-License-Identifier: Apache-2.0
"""The rules every resource shares: names, conflicts, no-op writes, finalizers, status, namespaces, definitions."""

import json
from typing import Any

import pytest

from clusters.apiserver.api import DeleteOptions
from clusters.apiserver.bootstrap import ClusterConfig, new_cluster
from clusters.apiserver.kinds import EVENTS_KEPT
from clusters.apiserver.status import ApiError
from clusters.apiserver.store import Selection
from tests.apiserver.conftest import Cluster, refusal

MERGE = "application/merge-patch+json"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def test_a_new_cluster(cluster: Cluster) -> None:
    names = [stored.name for stored in cluster.api.store.shelf(cluster.resource("namespaces"))]
    assert names == ["default", "kube-system"]
    cidr = cluster.api.get(cluster.resource("servicecidrs", "networking.k8s.io"), "", "kubernetes").load()
    assert cidr["spec"]["cidrs"] == ["10.96.0.0/16", "fd00:10:96::/112"]
    assert [(c["type"], c["status"]) for c in cidr["status"]["conditions"]] == [("Ready", "True")]
    assert len(cluster.api.store.shelf(cluster.resource("services"))) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"service_cidrs": ()},
        {"service_cidrs": ("10.0.0.0/24", "10.1.0.0/24")},
        {"service_cidrs": ("nonsense",)},
        {"node_ports": (2, 1)},
        {"node_ports": (0, 70000)},
    ],
)
def test_an_impossible_configuration_is_a_value_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ClusterConfig(**wrong)


def test_creation_settles_the_metadata(cluster: Cluster) -> None:
    wanted = {"metadata": {"name": "a", "uid": "mine", "generation": 7, "creationTimestamp": None}}
    created = cluster.create("configmaps", wanted)
    assert list(created)[:3] == ["apiVersion", "kind", "metadata"]
    metadata = created["metadata"]
    assert metadata["namespace"] == "default"
    assert metadata["uid"] != "mine"
    assert metadata["creationTimestamp"].endswith("Z")
    assert "managedFields" not in metadata
    assert "generation" not in metadata


def test_generated_names_differ(cluster: Cluster) -> None:
    names = {cluster.create("configmaps", {"metadata": {"generateName": "x-"}})["metadata"]["name"] for _ in range(9)}
    assert len(names) == 9
    assert all(name.startswith("x-") and len(name) == 7 for name in names)


@pytest.mark.parametrize(
    ("body", "namespace", "code"),
    [
        ({"metadata": {"name": "a"}}, "nowhere", 404),
        ({"metadata": {}}, "default", 422),
        ({"metadata": {"name": "No"}}, "default", 422),
        ({"metadata": {"name": "a", "labels": {"-": "x"}}}, "default", 422),
        ({"metadata": {"name": "a", "labels": {"k": "not a value"}}}, "default", 422),
        ({"metadata": {"name": "a", "labels": {"k": 1}}}, "default", 400),
        ({"metadata": {"name": "a", "namespace": "kube-system"}}, "default", 400),
        ({"metadata": {"name": "a", "resourceVersion": "5"}}, "default", 400),
        ({"metadata": {"name": "a"}, "kind": "Secret"}, "default", 400),
        ({"metadata": {"name": "a"}, "apiVersion": "v2"}, "default", 400),
        ({"metadata": []}, "default", 400),
        ([], "default", 400),
    ],
)
def test_refused_creations(cluster: Cluster, body: Any, namespace: str, code: int) -> None:
    with pytest.raises(ApiError) as error:
        cluster.create("configmaps", body, namespace)
    assert error.value.code == code


def test_creating_twice_already_exists(cluster: Cluster) -> None:
    cluster.service("a")
    with pytest.raises(ApiError) as error:
        cluster.service("a")
    assert refusal(error) == (409, "AlreadyExists", 'services "a" already exists')


def test_a_write_based_on_an_old_version_conflicts(cluster: Cluster) -> None:
    first = cluster.create("configmaps", config_map("a"))
    resource = cluster.resource("configmaps")
    cluster.api.replace(resource, "default", "a", config_map("a", x="1"))
    for body in (first, {"metadata": {"name": "a", "uid": "another"}}):
        with pytest.raises(ApiError) as error:
            cluster.api.replace(resource, "default", "a", body)
        assert refusal(error)[:2] == (409, "Conflict")
    patch = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}}
    with pytest.raises(ApiError) as error:
        cluster.api.patch(resource, "default", "a", MERGE, patch)
    assert error.value.code == 409


def test_replacing_what_is_not_there_is_not_found(cluster: Cluster) -> None:
    with pytest.raises(ApiError) as error:
        cluster.api.replace(cluster.resource("configmaps"), "default", "a", config_map("a"))
    assert refusal(error) == (404, "NotFound", 'configmaps "a" not found')


def test_a_write_that_changes_nothing_is_no_event(cluster: Cluster) -> None:
    created = cluster.service("a", type="NodePort")
    revision = cluster.api.store.revision
    again = json.loads(cluster.api.replace(cluster.resource("services"), "default", "a", created))
    patched = json.loads(cluster.api.patch(cluster.resource("services"), "default", "a", MERGE, {"spec": {}}))
    assert again == patched == created
    assert cluster.api.store.revision == revision


def test_generation_counts_changes_of_the_spec_only(cluster: Cluster) -> None:
    pods = cluster.resource("pods")
    cluster.create("pods", {"metadata": {"name": "a"}, "spec": {}})

    def generation(patch: dict[str, Any], **more: Any) -> int:
        answered = json.loads(cluster.api.patch(pods, "default", "a", MERGE, patch, **more))
        number: int = answered["metadata"]["generation"]
        return number

    assert generation({"metadata": {"labels": {"a": "b"}}}) == 1
    assert generation({"spec": {"nodeName": "node-a"}}) == 2
    assert generation({"status": {"conditions": [{"type": "x"}]}}, status=True) == 2
    assert "generation" not in cluster.service("b")["metadata"], "upstream's Services have none"


def test_the_main_path_leaves_status_alone_and_the_status_path_everything_else(cluster: Cluster) -> None:
    node = {"metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.1.0.0/24"]}, "status": {"phase": "one"}}
    nodes = cluster.resource("nodes")
    cluster.create("nodes", node, namespace="")
    changed = {"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {}, "status": {"phase": "two"}}
    via_status = json.loads(cluster.api.replace(nodes, "", "n", changed, status=True))
    assert via_status["status"] == {"phase": "two"}
    assert "labels" not in via_status["metadata"]
    assert via_status["spec"] == {"podCIDRs": ["10.1.0.0/24"], "podCIDR": "10.1.0.0/24"}
    changed |= {"spec": node["spec"], "status": {"phase": "three"}}
    via_main = json.loads(cluster.api.replace(nodes, "", "n", changed))
    assert via_main["status"] == {"phase": "two"}
    assert via_main["metadata"]["labels"] == {"a": "b"}


def test_nulls_in_typed_objects_mean_absent(cluster: Cluster) -> None:
    created = cluster.create("configmaps", {"metadata": {"name": "a", "labels": None}, "data": {"x": None, "y": "1"}})
    assert "labels" not in created["metadata"]
    assert created["data"] == {"y": "1"}


def test_deleting_answers_with_the_object_or_a_status(cluster: Cluster) -> None:
    service = cluster.service("a")
    cluster.create("configmaps", config_map("a"))
    deleted = json.loads(cluster.api.delete(cluster.resource("services"), "default", "a"))
    assert (deleted["kind"], deleted["metadata"]["uid"]) == ("Service", service["metadata"]["uid"])
    status = json.loads(cluster.api.delete(cluster.resource("configmaps"), "default", "a"))
    assert (status["kind"], status["status"], status["details"]["name"]) == ("Status", "Success", "a")
    with pytest.raises(ApiError) as error:
        cluster.api.delete(cluster.resource("configmaps"), "default", "a")
    assert error.value.code == 404


@pytest.mark.parametrize("options", [DeleteOptions(uid="another"), DeleteOptions(resource_version="1")])
def test_delete_preconditions(cluster: Cluster, options: DeleteOptions) -> None:
    cluster.service("a")
    with pytest.raises(ApiError) as error:
        cluster.api.delete(cluster.resource("services"), "default", "a", options)
    assert error.value.code == 409
    assert cluster.get("a")


def test_a_dry_run_deletes_nothing(cluster: Cluster) -> None:
    cluster.service("a", clusterIP="10.96.0.9")
    cluster.api.delete(cluster.resource("services"), "default", "a", DeleteOptions(dry_run=True))
    assert cluster.get("a")
    with pytest.raises(ApiError, match="already allocated"):
        cluster.service("b", clusterIP="10.96.0.9")


def test_finalizers_hold_an_object_and_what_it_holds(cluster: Cluster) -> None:
    services = cluster.resource("services")
    wanted = {"metadata": {"name": "a", "finalizers": ["x/y"]}, "spec": {"ports": [{"port": 80}]}}
    ip = cluster.create("services", wanted)["spec"]["clusterIP"]
    marked = json.loads(cluster.api.delete(services, "default", "a"))
    assert marked["metadata"]["deletionTimestamp"]
    with pytest.raises(ApiError, match="already allocated"):
        cluster.service("b", clusterIP=ip)
    with pytest.raises(ApiError, match="no new finalizers"):
        cluster.api.patch(services, "default", "a", MERGE, {"metadata": {"finalizers": ["x/y", "z/z"]}})
    cluster.api.patch(services, "default", "a", MERGE, {"metadata": {"finalizers": None}})
    with pytest.raises(ApiError) as error:
        cluster.get("a")
    assert error.value.code == 404
    assert cluster.service("b", clusterIP=ip)


def test_deleting_a_collection(cluster: Cluster) -> None:
    for i in range(5):
        cluster.service(f"s{i}", clusterIP=f"10.96.0.{i + 1}")
    gone = cluster.api.delete_collection(cluster.resource("services"), Selection("default"))
    assert len(gone) == 5
    assert cluster.service("again", clusterIP="10.96.0.1")


def test_deleting_a_namespace_takes_its_objects_along(cluster: Cluster) -> None:
    cluster.create("namespaces", {"metadata": {"name": "n"}}, namespace="")
    spec = {"ports": [{"port": 80}], "clusterIP": "10.96.0.9"}
    cluster.create("services", {"metadata": {"name": "a"}, "spec": spec}, "n")
    cluster.api.delete(cluster.resource("namespaces"), "", "n")
    assert list(cluster.api.store.shelf(cluster.resource("services"))) == []
    assert cluster.service("b", clusterIP="10.96.0.9")
    with pytest.raises(ApiError) as error:
        cluster.api.delete(cluster.resource("namespaces"), "", "default")
    assert error.value.code == 403


def test_events_are_a_ring(cluster: Cluster) -> None:
    for i in range(EVENTS_KEPT + 3):
        cluster.create("events", {"metadata": {"name": f"e{i}"}})
    kept = {stored.name for stored in cluster.api.store.shelf(cluster.resource("events"))}
    assert len(kept) == EVENTS_KEPT
    assert not kept & {"e0", "e1", "e2"}


DEFINITION = {
    "metadata": {"name": "gadgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "gadgets", "kind": "Gadget"},
        "versions": [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}}],
    },
}


def test_a_definition_serves_a_resource_until_it_is_deleted() -> None:
    cluster = Cluster(new_cluster())
    crd = cluster.resource("customresourcedefinitions", "apiextensions.k8s.io")
    defined = cluster.create("customresourcedefinitions", DEFINITION, "", group="apiextensions.k8s.io")
    assert {c["type"] for c in defined["status"]["conditions"]} == {"Established", "NamesAccepted"}
    gadgets = cluster.resource("gadgets", "example.com")
    assert (gadgets.kind, gadgets.namespaced, gadgets.status_apart) == ("Gadget", True, True)
    cluster.create("gadgets", {"metadata": {"name": "g"}, "spec": {"n": None}}, group="example.com")
    assert cluster.api.get(gadgets, "default", "g").load()["spec"] == {"n": None}
    cluster.api.delete(crd, "", "gadgets.example.com")
    assert cluster.api.registry.find("example.com", "v1", "gadgets") is None
    assert len(cluster.api.store.shelf(gadgets)) == 0
