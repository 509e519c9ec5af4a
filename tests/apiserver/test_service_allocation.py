# SPDX-License-Identifier: Apache-2.0
"""What Services hold: cluster addresses, node ports and health check ports, from creation to deletion."""

from typing import Any

import pytest

from clusters.apiserver.bootstrap import ClusterConfig, new_cluster
from clusters.apiserver.decoding import WriteOptions
from clusters.apiserver.status import ApiError
from tests.apiserver.conftest import Cluster, refusal


def tcp_and_udp(port: int = 53, **more: Any) -> list[dict[str, Any]]:
    return [{"name": p.lower(), "port": port, "protocol": p} | more for p in ("TCP", "UDP")]


def test_a_service_gets_one_address_of_the_default_family(cluster: Cluster) -> None:
    spec = cluster.service("a")["spec"]
    assert spec["clusterIP"].startswith("10.96.")
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")


def test_no_address_is_given_out_twice(cluster: Cluster) -> None:
    given = {cluster.service(f"s{i}")["spec"]["clusterIP"] for i in range(300)}
    assert len(given) == 300


def test_a_released_address_and_port_come_back_last(tiny_cluster: Cluster) -> None:
    first = tiny_cluster.service("first", type="NodePort")["spec"]
    tiny_cluster.delete("first")
    seen = [tiny_cluster.service(f"s{i}")["spec"]["clusterIP"] for i in range(5)]
    assert first["clusterIP"] not in seen
    assert tiny_cluster.service("last")["spec"]["clusterIP"] == first["clusterIP"]
    tiny_cluster.delete("s0")
    next_port = tiny_cluster.service("other", type="NodePort")["spec"]["ports"][0]["nodePort"]
    assert next_port != first["ports"][0]["nodePort"]


def test_the_same_requests_get_the_same_numbers() -> None:
    def numbers() -> list[Any]:
        cluster = Cluster(new_cluster())
        return [cluster.service(f"s{i}", type="NodePort")["spec"] for i in range(3)]

    assert numbers() == numbers()


def test_a_full_range_is_an_internal_error(tiny_cluster: Cluster) -> None:
    for i in range(6):
        tiny_cluster.service(f"s{i}")
    with pytest.raises(ApiError) as error:
        tiny_cluster.service("one-too-many")
    assert refusal(error)[:2] == (500, "InternalError")
    assert "range is full" in error.value.message


@pytest.mark.parametrize(
    ("families", "policy", "expected"),
    [
        (None, "PreferDualStack", ["IPv4", "IPv6"]),
        (None, "RequireDualStack", ["IPv4", "IPv6"]),
        (["IPv6"], "PreferDualStack", ["IPv6", "IPv4"]),
        (["IPv6", "IPv4"], "RequireDualStack", ["IPv6", "IPv4"]),
        (["IPv6"], None, ["IPv6"]),
        (["IPv6"], "SingleStack", ["IPv6"]),
    ],
)
def test_families_and_their_order(cluster: Cluster, families: Any, policy: Any, expected: list[str]) -> None:
    asked = {"ipFamilies": families, "ipFamilyPolicy": policy}
    spec = cluster.service("a", **{key: value for key, value in asked.items() if value})["spec"]
    assert spec["ipFamilies"] == expected
    assert ["IPv6" if ":" in ip else "IPv4" for ip in spec["clusterIPs"]] == expected
    assert spec["clusterIP"] == spec["clusterIPs"][0]


def test_prefer_dual_stack_takes_what_the_cluster_has(tiny_cluster: Cluster) -> None:
    spec = tiny_cluster.service("a", ipFamilyPolicy="PreferDualStack")["spec"]
    assert spec["ipFamilies"] == ["IPv4"]
    assert len(spec["clusterIPs"]) == 1


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"ipFamilyPolicy": "RequireDualStack"}, "not configured for dual-stack"),
        ({"ipFamilies": ["IPv6"]}, "spec.ipFamilies[0]"),
        ({"clusterIP": "fd00::1"}, "IPv6 is not configured"),
    ],
)
def test_a_single_stack_cluster_refuses_what_it_cannot_give(tiny_cluster: Cluster, spec: Any, told: str) -> None:
    with pytest.raises(ApiError, match=told.replace("[", r"\[")) as error:
        tiny_cluster.service("a", **spec)
    assert error.value.code == 422


def test_the_first_cidr_names_the_default_family() -> None:
    cluster = Cluster(new_cluster(ClusterConfig(service_cidrs=("fd00:10:96::/112", "10.96.0.0/16"))))
    assert cluster.service("a")["spec"]["ipFamilies"] == ["IPv6"]


def test_an_address_may_be_chosen_once(cluster: Cluster) -> None:
    assert cluster.service("a", clusterIP="10.96.0.10")["spec"]["clusterIPs"] == ["10.96.0.10"]
    with pytest.raises(ApiError, match="provided IP is already allocated") as error:
        cluster.service("b", clusterIP="10.96.0.10")
    assert refusal(error)[:2] == (422, "Invalid")
    assert error.value.details is not None
    assert error.value.details["causes"][0]["field"] == "spec.clusterIPs"
    cluster.delete("a")
    assert cluster.service("b", clusterIP="10.96.0.10")["spec"]["clusterIP"] == "10.96.0.10"


@pytest.mark.parametrize("ip", ["10.97.0.1", "10.96.0.0", "10.96.255.255", "192.0.2.1"])
def test_a_chosen_address_must_lie_in_the_range(cluster: Cluster, ip: str) -> None:
    with pytest.raises(ApiError, match="not in the valid range") as error:
        cluster.service("a", clusterIP=ip)
    assert error.value.code == 422


def test_chosen_dual_stack_addresses_decide_the_families(cluster: Cluster) -> None:
    ips = ["fd00:10:96::5", "10.96.0.5"]
    spec = cluster.service("a", clusterIP=ips[0], clusterIPs=ips, ipFamilyPolicy="RequireDualStack")["spec"]
    assert (spec["clusterIPs"], spec["ipFamilies"]) == (ips, ["IPv6", "IPv4"])


def test_a_refused_service_leaves_nothing_allocated(tiny_cluster: Cluster) -> None:
    tiny_cluster.service("holder", type="NodePort", ports=[{"port": 80, "nodePort": 30000}])
    for _ in range(20):
        with pytest.raises(ApiError, match="already allocated"):
            tiny_cluster.service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30000}])
    for i in range(5):
        tiny_cluster.service(f"s{i}")


def test_a_dry_run_shows_numbers_and_holds_none(tiny_cluster: Cluster) -> None:
    wanted = {"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    for _ in range(20):
        shown = tiny_cluster.create("services", wanted, options=WriteOptions(dry_run=True))
        assert shown["spec"]["clusterIP"]
        assert shown["spec"]["ports"][0]["nodePort"]
    with pytest.raises(ApiError) as error:
        tiny_cluster.get("a")
    assert error.value.code == 404


def test_headless_services_hold_no_address(cluster: Cluster) -> None:
    spec = cluster.service("a", clusterIP="None", selector={"app": "web"})["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"], spec["ipFamilies"]) == ("None", ["None"], ["IPv4"])
    selectorless = cluster.service("b", clusterIP="None")["spec"]
    assert (selectorless["ipFamilies"], selectorless["ipFamilyPolicy"]) == (["IPv4", "IPv6"], "RequireDualStack")
    cluster.delete("a")


def test_external_name_services_hold_nothing(cluster: Cluster) -> None:
    spec = cluster.service("a", type="ExternalName", externalName="example.com", ports=[])["spec"]
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & set(spec)


def test_node_ports_are_allocated_from_the_range(cluster: Cluster) -> None:
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    given = [port["nodePort"] for port in cluster.service("a", type="NodePort", ports=ports)["spec"]["ports"]]
    assert len(set(given)) == 2
    assert all(30000 <= port <= 32767 for port in given)


def test_protocols_of_one_port_share_a_node_port(cluster: Cluster) -> None:
    shared = cluster.service("a", type="NodePort", ports=tcp_and_udp())["spec"]["ports"]
    assert len({port["nodePort"] for port in shared}) == 1
    chosen = cluster.service("b", type="NodePort", ports=tcp_and_udp(nodePort=30053))["spec"]["ports"]
    assert [port["nodePort"] for port in chosen] == [30053, 30053]


def test_a_node_port_belongs_to_one_service(cluster: Cluster) -> None:
    cluster.service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30080}])
    for protocol in ("TCP", "UDP"):
        with pytest.raises(ApiError, match="provided port is already allocated") as error:
            cluster.service("b", type="NodePort", ports=[{"port": 80, "nodePort": 30080, "protocol": protocol}])
        assert error.value.code == 422
        assert error.value.details is not None
        assert error.value.details["causes"][0]["field"] == "spec.ports[0].nodePort"
    with pytest.raises(ApiError, match="The range of valid ports is 30000-32767"):
        cluster.service("b", type="NodePort", ports=[{"port": 80, "nodePort": 80}])


def test_load_balancers_may_do_without_node_ports(cluster: Cluster) -> None:
    without = cluster.service("a", type="LoadBalancer", allocateLoadBalancerNodePorts=False)["spec"]["ports"]
    assert "nodePort" not in without[0]
    assert "nodePort" in cluster.service("b", type="LoadBalancer")["spec"]["ports"][0]


def test_the_health_check_port_follows_type_and_policy(cluster: Cluster) -> None:
    spec = cluster.service("a", type="LoadBalancer", externalTrafficPolicy="Local")["spec"]
    port = spec["healthCheckNodePort"]
    assert port not in (0, spec["ports"][0]["nodePort"])
    assert cluster.update("a", ports=[{"port": 81}])["spec"]["healthCheckNodePort"] == port
    assert "healthCheckNodePort" not in cluster.update("a", externalTrafficPolicy="Cluster")["spec"]
    again = cluster.service("b", type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=port)
    assert again["spec"]["healthCheckNodePort"] == port
    with pytest.raises(ApiError, match=r"spec\.healthCheckNodePort: .*field is immutable"):
        cluster.update("b", healthCheckNodePort=port + 1)


def test_an_update_without_the_allocated_fields_keeps_them(cluster: Cluster) -> None:
    before = cluster.service("a", type="NodePort", ipFamilyPolicy="PreferDualStack")
    manifest = {"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    cluster.api.replace(cluster.resource("services"), "default", "a", manifest)
    assert cluster.get("a")["spec"] == before["spec"]
    assert cluster.get("a")["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_a_new_port_gets_a_new_node_port_and_the_others_keep_theirs(cluster: Cluster) -> None:
    ports = [{"name": "a", "port": 80}]
    kept = cluster.service("s", type="NodePort", ports=ports)["spec"]["ports"][0]["nodePort"]
    after = cluster.update("s", ports=[{"name": "b", "port": 81}, *ports])["spec"]["ports"]
    assert after[1]["nodePort"] == kept
    assert after[0]["nodePort"] not in (0, kept)
    cluster.update("s", ports=[{"name": "a", "port": 80, "nodePort": kept}])
    cluster.service("t", type="NodePort", ports=[{"port": 80, "nodePort": after[0]["nodePort"]}])


def test_the_cluster_ip_is_immutable(cluster: Cluster) -> None:
    cluster.service("a", clusterIP="10.96.0.7")
    for change in ({"clusterIP": "10.96.0.8"}, {"clusterIP": "None", "clusterIPs": ["None"]}):
        with pytest.raises(ApiError, match="may not change once set") as error:
            cluster.update("a", **change)
        assert error.value.code == 422


def test_node_ports_are_released_when_the_type_no_longer_has_them(cluster: Cluster) -> None:
    before = cluster.service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30080}])["spec"]
    after = cluster.update("a", type="ClusterIP")["spec"]
    assert "nodePort" not in after["ports"][0]
    assert "externalTrafficPolicy" not in after
    assert after["clusterIP"] == before["clusterIP"]
    cluster.service("b", type="NodePort", ports=[{"port": 80, "nodePort": 30080}])


def test_a_cluster_ip_is_released_to_external_name_and_taken_anew_on_the_way_back(cluster: Cluster) -> None:
    held = cluster.service("a")["spec"]["clusterIP"]
    after = cluster.update("a", type="ExternalName", externalName="example.com")["spec"]
    assert "clusterIP" not in after
    assert cluster.service("b", clusterIP=held)["spec"]["clusterIP"] == held
    back = cluster.update("a", type="ClusterIP", externalName=None)["spec"]
    assert back["clusterIP"] not in ("", held)


def test_dual_stack_is_added_and_removed_by_policy(cluster: Cluster) -> None:
    first = cluster.service("a")["spec"]["clusterIP"]
    dual = cluster.update("a", ipFamilyPolicy="RequireDualStack")["spec"]
    assert dual["clusterIPs"][0] == first
    assert dual["ipFamilies"] == ["IPv4", "IPv6"]
    with pytest.raises(ApiError, match="must be 'SingleStack' to release the secondary cluster IP"):
        cluster.update("a", clusterIPs=[first])
    single = cluster.update("a", ipFamilyPolicy="SingleStack")["spec"]
    assert (single["clusterIPs"], single["ipFamilies"]) == ([first], ["IPv4"])
    second = dual["clusterIPs"][1]
    assert cluster.service("b", clusterIP=second)["spec"]["clusterIP"] == second


def test_a_further_service_cidr_extends_the_range(tiny_cluster: Cluster) -> None:
    more = {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.7.0.0/24", "fd00:7::/120"]}}
    tiny_cluster.create("servicecidrs", more, namespace="", group="networking.k8s.io")
    assert tiny_cluster.service("a", clusterIP="10.7.0.9")["spec"]["clusterIP"] == "10.7.0.9"
    assert len(tiny_cluster.service("b", ipFamilyPolicy="RequireDualStack")["spec"]["clusterIPs"]) == 2
    resource = tiny_cluster.resource("servicecidrs", "networking.k8s.io")
    tiny_cluster.api.delete(resource, "", "more")
    with pytest.raises(ApiError, match="not in the valid range"):
        tiny_cluster.service("c", clusterIP="10.7.0.10")
