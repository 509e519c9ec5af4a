# SPDX-License-Identifier: Apache-2.0
"""Creating, replacing and patching: what the server sets, keeps, and refuses to overwrite."""

from typing import Any

import pytest

from tests.apiserver.contract.objects import add, config_map, endpoint_slice, path, service, slices
from tests.apiserver.contract.servers import JSON_PATCH, MERGE, STRATEGIC, Standing

CHOSEN_PORT = 30078
"""In the part of the range that is left to people: the server picks there only when the rest is used up."""


def test_the_server_sets_what_identifies_an_object(server: Standing, namespace: str) -> None:
    mine = config_map("a", uid="mine", creationTimestamp=None, selfLink="/mine")
    (made,) = add(server, path(namespace), mine)
    assert made.metadata["uid"] not in ("", "mine")
    assert made.metadata["creationTimestamp"].endswith("Z")
    assert int(made.metadata["resourceVersion"]) > 0
    assert "generation" not in made.metadata
    assert "selfLink" not in made.metadata
    assert server.call("GET", path(namespace, name="a")).body == made.body


def test_generated_names_differ(server: Standing, namespace: str) -> None:
    made = add(server, path(namespace), *[{"metadata": {"generateName": "some-"}}] * 5)
    names = {one.metadata["name"] for one in made}
    assert len(names) == 5
    assert all(len(name) == 10 and name.startswith("some-") for name in names)
    (long,) = add(server, path(namespace), {"metadata": {"generateName": "g" * 80}})
    assert len(long.metadata["name"]) == 63
    (fixed,) = add(server, path(namespace), {"metadata": {"generateName": "some-", "name": "mine"}})
    assert fixed.metadata["name"] == "mine"


def test_a_name_can_be_taken_once(server: Standing, namespace: str) -> None:
    add(server, path(namespace), config_map("a"))
    refused = server.call("POST", path(namespace), config_map("a")).must_be_refused(409, "AlreadyExists")
    assert refused["details"] == {"name": "a", "kind": "configmaps"}
    add(server, path(namespace, "services"), service("a"))


def test_a_namespace_must_exist(server: Standing) -> None:
    server.call("POST", path("absent"), config_map("a")).must_be_refused(404, "NotFound")


def test_owner_references_are_kept(server: Standing, namespace: str) -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "absent", "uid": "1", "controller": True}
    (made,) = add(server, path(namespace), config_map("a", ownerReferences=[owner]))
    assert made.metadata["ownerReferences"] == [owner]
    changed = server.call("PATCH", path(namespace, name="a"), {"data": {"x": "y"}}, MERGE).must_be(200)
    assert changed.metadata["ownerReferences"] == [owner]


def test_unknown_fields_are_dropped_told_or_refused(server: Standing, namespace: str) -> None:
    unknown = config_map("a") | {"noSuchField": 1}
    made = server.call("POST", path(namespace), unknown).must_be(201)
    assert "noSuchField" not in made.body
    assert made.headers["Warning"] == '299 - "unknown field \\"noSuchField\\""'
    quiet = server.call("PUT", path(namespace, name="a"), unknown, fieldValidation="Ignore").must_be(200)
    assert quiet.headers["Warning"] is None
    for where, obj in (
        (path(namespace), config_map("b") | {"noSuchField": 1}),
        (path(namespace, "services"), service("b", noSuchField=1)),
        (path(namespace, "pods"), {"metadata": {"name": "b"}, "spec": {"containers": [], "noSuchField": 1}}),
        (slices(namespace), endpoint_slice("b", noSuchField=1)),
    ):
        refused = server.call("POST", where, obj, fieldValidation="Strict").must_be_refused(400, "BadRequest")
        assert "unknown field" in refused["message"]
        assert "noSuchField" in refused["message"]


def test_a_replacement_based_on_an_old_version_conflicts(server: Standing, namespace: str) -> None:
    (made,) = add(server, path(namespace), config_map("a", {"x": "1"}))
    body = made.body | {"data": {"x": "2"}}
    second = server.call("PUT", path(namespace, name="a"), body).must_be(200)
    assert int(second.metadata["resourceVersion"]) > int(made.metadata["resourceVersion"])
    refused = server.call("PUT", path(namespace, name="a"), body | {"data": {}}).must_be_refused(409, "Conflict")
    assert "the object has been modified" in refused["message"]
    whatever = server.call("PUT", path(namespace, name="a"), config_map("a", {"x": "3"})).must_be(200)
    assert whatever["data"] == {"x": "3"}
    assert whatever.metadata["uid"] == made.metadata["uid"]


def test_a_replacement_of_another_object_conflicts(server: Standing, namespace: str) -> None:
    add(server, path(namespace), config_map("a"))
    other = config_map("a", uid="00000000-0000-0000-0000-000000000000")
    server.call("PUT", path(namespace, name="a"), other).must_be_refused(409, "Conflict")
    server.call("PUT", path(namespace, name="a"), config_map("b")).must_be_refused(400, "BadRequest")
    server.call("PUT", path(namespace, name="c"), config_map("c")).must_be_refused(404, "NotFound")


def test_a_write_that_changes_nothing_changes_nothing(server: Standing, namespace: str) -> None:
    (made,) = add(server, path(namespace, "services"), service("a", type="NodePort"))
    where = path(namespace, "services", "a")
    assert server.call("PUT", where, made.body).must_be(200).body == made.body
    same = server.call("PATCH", where, {"spec": {"type": "NodePort"}}, MERGE).must_be(200)
    assert same.metadata["resourceVersion"] == made.metadata["resourceVersion"]


@pytest.mark.parametrize(
    ("content", "patch", "data"),
    [
        (MERGE, {"data": {"a": None, "c": "3"}}, {"b": "2", "c": "3"}),
        (STRATEGIC, {"data": {"a": None, "c": "3"}}, {"b": "2", "c": "3"}),
        (STRATEGIC, {"data": {"$patch": "replace", "c": "3"}}, {"c": "3"}),
        (JSON_PATCH, [{"op": "add", "path": "/data/c", "value": "3"}], {"a": "1", "b": "2", "c": "3"}),
        (JSON_PATCH, [{"op": "move", "from": "/data/a", "path": "/data/c"}], {"b": "2", "c": "1"}),
        (JSON_PATCH, [{"op": "copy", "from": "/data/a", "path": "/data/c"}], {"a": "1", "b": "2", "c": "1"}),
        (
            JSON_PATCH,
            [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "remove", "path": "/data/a"}],
            {"b": "2"},
        ),
    ],
    ids=str,
)
def test_every_patch_type(server: Standing, namespace: str, content: str, patch: Any, data: dict[str, str]) -> None:
    add(server, path(namespace), config_map("a", {"a": "1", "b": "2"}))
    changed = server.call("PATCH", path(namespace, name="a"), patch, content).must_be(200)
    assert changed["data"] == data
    assert server.call("GET", path(namespace, name="a")).body == changed.body


def test_merge_and_strategic_patch_differ_in_lists(server: Standing, namespace: str) -> None:
    where = path(namespace, "services", "a")
    add(server, path(namespace, "services"), service("a", ports=[{"name": "a", "port": 1}, {"name": "b", "port": 2}]))
    added = {"spec": {"ports": [{"name": "c", "port": 3}]}}
    merged = server.call("PATCH", where, added, STRATEGIC).must_be(200)
    assert {port["port"] for port in merged["spec"]["ports"]} == {1, 2, 3}
    removed = {"spec": {"ports": [{"$patch": "delete", "port": 2}]}}
    merged = server.call("PATCH", where, removed, STRATEGIC).must_be(200)
    assert {port["port"] for port in merged["spec"]["ports"]} == {1, 3}
    assert len(server.call("PATCH", where, added, MERGE).must_be(200)["spec"]["ports"]) == 1


def test_status_is_written_apart(server: Standing, namespace: str) -> None:
    sent = service("a", type="LoadBalancer") | {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    (made,) = add(server, path(namespace, "services"), sent)
    assert made["status"] == {"loadBalancer": {}}
    where = path(namespace, "services", "a")
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}]}}, "spec": {"sessionAffinity": "ClientIP"}}
    changed = server.call("PATCH", f"{where}/status", status, MERGE).must_be(200)
    assert changed["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.2", "ipMode": "VIP"}]
    assert changed["spec"]["sessionAffinity"] == "None"
    other = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.3"}]}}, "metadata": {"labels": {"x": "y"}}}
    changed = server.call("PATCH", where, other, MERGE).must_be(200)
    assert changed["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.2", "ipMode": "VIP"}]
    assert changed.metadata["labels"] == {"x": "y"}
    assert server.call("GET", f"{where}/status").body == changed.body


def test_dry_runs_answer_and_leave_nothing(server: Standing, namespace: str) -> None:
    where = path(namespace, "services")
    dry = server.call("POST", where, service("a", type="NodePort"), dryRun="All").must_be(201)
    assert dry["spec"]["clusterIP"]
    server.call("GET", f"{where}/a").must_be_refused(404, "NotFound")
    (made,) = add(server, where, service("a"))
    for method, body, content in (
        ("PUT", made.body | {"spec": made["spec"] | {"sessionAffinity": "ClientIP"}}, "application/json"),
        ("PATCH", {"spec": {"sessionAffinity": "ClientIP"}}, MERGE),
    ):
        dry = server.call(method, f"{where}/a", body, content, dryRun="All").must_be(200)
        assert dry["spec"]["sessionAffinity"] == "ClientIP"
        assert server.call("GET", f"{where}/a").body == made.body
    server.call("DELETE", f"{where}/a", dryRun="All").must_be(200)
    assert server.call("GET", f"{where}/a").body == made.body


def test_a_dry_run_reserves_no_port(server: Standing, namespace: str) -> None:
    where = path(namespace, "services")
    wanted = service("a", type="NodePort", ports=[{"port": 80, "nodePort": CHOSEN_PORT}])
    for _ in range(2):
        server.call("POST", where, wanted, dryRun="All").must_be(201)
    add(server, where, wanted)
    server.call("POST", where, wanted | {"metadata": {"name": "b"}}, dryRun="All").must_be_refused(422, "Invalid")
    server.call("DELETE", f"{where}/a").must_be(200)


def test_a_service_gets_its_addresses_and_ports(server: Standing, namespace: str) -> None:
    wanted = service(
        "a",
        type="LoadBalancer",
        ipFamilyPolicy="RequireDualStack",
        externalTrafficPolicy="Local",
        loadBalancerClass="example.org/none",
    )
    (made,) = add(server, path(namespace, "services"), wanted)
    got = made["spec"]
    assert got["ipFamilies"] == ["IPv4", "IPv6"]
    assert got["clusterIP"] == got["clusterIPs"][0]
    assert [":" in ip for ip in got["clusterIPs"]] == [False, True]
    ports = [got["healthCheckNodePort"], got["ports"][0]["nodePort"]]
    assert len(set(ports)) == 2
    assert all(30000 <= port <= 32767 for port in ports)
    assert got["ports"][0] | {"nodePort": 0} == {"port": 80, "targetPort": 80, "protocol": "TCP", "nodePort": 0}
    taken = service("b", clusterIP=got["clusterIP"])
    server.call("POST", path(namespace, "services"), taken).must_be_refused(422, "Invalid")
    server.call("DELETE", path(namespace, "services", "a")).must_be(200)
    add(server, path(namespace, "services"), taken)


def test_an_external_name_drops_what_it_cannot_have(server: Standing, namespace: str) -> None:
    add(server, path(namespace, "services"), service("a"))
    patch = {"spec": {"type": "ExternalName", "externalName": "example.org"}}
    spec = server.call("PATCH", path(namespace, "services", "a"), patch, MERGE).must_be(200)["spec"]
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "internalTrafficPolicy"} & spec.keys()


def test_what_an_endpoint_slice_is_completed_with(server: Standing, namespace: str) -> None:
    add(server, slices(namespace), endpoint_slice("zero", ports=[{"port": 0}]))
    (made,) = add(server, slices(namespace), endpoint_slice("a"))
    assert made["ports"] == [{"name": "", "protocol": "TCP", "port": 8080}]
    assert made.metadata["generation"] == 1
    changed = server.call("PUT", slices(namespace, "a"), made.body | {"endpoints": []}).must_be(200)
    assert changed.metadata["generation"] == 2
    other = endpoint_slice("a", addressType="IPv6", endpoints=[])
    server.call("PUT", slices(namespace, "a"), other).must_be_refused(422, "Invalid")


def test_a_node_keeps_its_pod_cidrs(server: Standing, namespace: str) -> None:
    node = {"metadata": {"name": namespace}, "spec": {"podCIDRs": ["10.9.0.0/24", "fd00:9::/64"]}}
    (made,) = add(server, "/api/v1/nodes", node)
    assert made["spec"]["podCIDR"] == "10.9.0.0/24"
    where = f"/api/v1/nodes/{namespace}"
    for spec in ({"podCIDR": "10.8.0.0/24"}, {"podCIDR": None, "podCIDRs": None}):
        server.call("PATCH", where, {"spec": spec}, MERGE).must_be_refused(422, "Invalid")
    server.call("PATCH", where, {"spec": {"podCIDR": None}}, MERGE).must_be(200)
    assert server.call("GET", where)["spec"]["podCIDR"] == "10.9.0.0/24"
    for cidrs in (["nonsense"], ["10.9.0.0/24", "10.8.0.0/24"]):
        wrong = {"metadata": {"name": f"{namespace}-2"}, "spec": {"podCIDRs": cidrs}}
        server.call("POST", "/api/v1/nodes", wrong).must_be_refused(422, "Invalid")
    server.call("DELETE", where).must_be(200)


def test_a_pod_s_addresses_agree(server: Standing, namespace: str) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    (made,) = add(server, path(namespace, "pods"), pod)
    assert made["status"]["phase"] == "Pending"
    where = path(namespace, "pods", "p")
    ips = [{"ip": "10.244.0.3"}, {"ip": "fd00:10:244::3"}]
    changed = server.call("PATCH", f"{where}/status", {"status": {"podIPs": ips}}, MERGE).must_be(200)
    assert changed["status"]["podIP"] == "10.244.0.3"
    assert changed["status"]["podIPs"] == ips
    server.call("DELETE", where, gracePeriodSeconds="0").must_be(200)


def test_nulls_are_absent(server: Standing, namespace: str) -> None:
    (made,) = add(server, path(namespace), config_map("a", {"x": "1"}, labels=None) | {"binaryData": None})
    assert "labels" not in made.metadata
    assert "binaryData" not in made.body


def test_an_immutable_config_map(server: Standing, namespace: str) -> None:
    add(server, path(namespace), config_map("a", {"x": "1"}) | {"immutable": True})
    for patch in ({"data": {"x": "2"}}, {"immutable": False}):
        server.call("PATCH", path(namespace, name="a"), patch, MERGE).must_be_refused(422, "Invalid")
    server.call("PATCH", path(namespace, name="a"), {"metadata": {"labels": {"x": "y"}}}, MERGE).must_be(200)
