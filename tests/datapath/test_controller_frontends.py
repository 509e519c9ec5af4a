# SPDX-License-Identifier: Apache-2.0
"""What of a Service can be dialled, and under which rules."""

from typing import Any

import pytest

from dataplane_ref.controller.packed import address
from tests.datapath.cluster import CODEC, NODE_IP, FakeNode, endpoint_slice, service

VIP, VIP6 = "10.96.0.1", "fd00:96::1"
BALANCED, EXTERNAL = "198.18.0.1", "198.18.0.2"
KINDS = CODEC.kind


def served(*, slices: tuple[dict[str, Any], ...] = (), **spec: Any) -> FakeNode:
    node = FakeNode()
    node.serve(service(**spec), *(slices or (endpoint_slice("10.1.0.1"),)))
    return node


def kind(node: FakeNode, ip: str, port: int = 80) -> int | None:
    found = node.frontend(ip, port)
    return found["kind"] if found else None


def test_all_frontends_of_a_port_lead_to_the_same_endpoints() -> None:
    node = served(
        type="LoadBalancer",
        ports=[{"port": 80, "nodePort": 30080}],
        externalIPs=[EXTERNAL],
        ingress=[{"ip": BALANCED}],
    )
    dialled = {VIP: "CLUSTER_IP", BALANCED: "LOAD_BALANCER", EXTERNAL: "EXTERNAL_IP"}
    assert {ip: kind(node, ip) for ip in dialled} == {ip: KINDS[name] for ip, name in dialled.items()}
    assert kind(node, "4", 30080) == KINDS["NODE_PORT"]
    assert kind(node, "6", 30080) is None  # the Service has no ClusterIP of that family
    everything = [node.frontend(ip, 30080 if ip == "4" else 80) for ip in (*dialled, "4")]
    assert len({(each["service_port"], str(each["cluster"])) for each in everything if each}) == 1


@pytest.mark.parametrize(("mode", "is_served"), [("VIP", True), ("Proxy", False)])
def test_a_load_balancer_that_wants_to_be_asked_itself_is_left_alone(mode: str, is_served: bool) -> None:
    node = served(type="LoadBalancer", ingress=[{"ip": BALANCED, "ipMode": mode}])
    assert (node.frontend(BALANCED) is not None) is is_served


@pytest.mark.parametrize(
    "spec",
    [
        {"ips": ("None",)},
        {"type": "ExternalName"},
        {"labels": {"service.kubernetes.io/headless": ""}},
        {"labels": {"service.kubernetes.io/service-proxy-name": "other"}},
    ],
)
def test_what_no_proxy_serves_has_no_frontend(spec: dict[str, Any]) -> None:
    assert not served(**spec).maps["frontends"].entries


def test_a_service_that_gains_the_label_is_removed() -> None:
    node = served()
    node.serve(service(labels={"service.kubernetes.io/service-proxy-name": ""}))
    assert not node.maps["frontends"].entries
    assert node.address_flags(VIP) == set()


def test_policies_are_flags_of_all_frontends() -> None:
    node = served(type="NodePort", externalTrafficPolicy="Local", internalTrafficPolicy="Local")
    assert node.frontend_flags(VIP) == {"INTERNAL_LOCAL", "EXTERNAL_LOCAL"}
    assert served().frontend_flags(VIP) == set()


def test_affinity_lasts_three_hours_unless_the_service_says() -> None:
    node = served(sessionAffinity="ClientIP")
    found = node.frontend(VIP)
    assert found is not None
    assert (node.frontend_flags(VIP), found["affinity_seconds"]) == ({"CLIENT_AFFINITY"}, 10800)
    node.serve(service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 10}}))
    found = node.frontend(VIP)
    assert found is not None
    assert found["affinity_seconds"] == 10


def ranges(node: FakeNode) -> set[tuple[int, int, bytes]]:
    return {CODEC.range_key.unpack(key) for key in node.maps["source_ranges"].entries}


def test_source_ranges_restrict_the_load_balancers_address_alone() -> None:
    node = served(
        type="LoadBalancer",
        ports=[{"port": 80, "nodePort": 30080}],
        externalIPs=[EXTERNAL],
        ingress=[{"ip": BALANCED}],
        loadBalancerSourceRanges=[" 203.0.113.0/24 ", "198.51.100.7/32"],
    )
    assert node.frontend_flags(BALANCED) == {"RESTRICTED"}
    assert not node.frontend_flags(VIP) | node.frontend_flags(EXTERNAL) | node.frontend_flags("4", 30080)
    found = node.frontend(BALANCED)
    assert found is not None
    number = found["source_ranges"]
    expected = {(152, number, address("203.0.113.0")), (160, number, address("198.51.100.7"))}
    assert ranges(node) == expected


def test_ranges_of_one_family_do_not_restrict_the_other() -> None:
    node = served(
        ips=(VIP, VIP6),
        type="LoadBalancer",
        ingress=[{"ip": BALANCED}, {"ip": "2001:db8:18::1"}],
        loadBalancerSourceRanges=["203.0.113.0/24"],
    )
    assert node.frontend_flags(BALANCED) == {"RESTRICTED"}
    assert node.frontend_flags("2001:db8:18::1") == set()


def test_changed_ranges_are_a_new_set() -> None:
    """So that no packet meets the old and the new ones mixed."""
    balanced: dict[str, Any] = {"type": "LoadBalancer", "ingress": [{"ip": BALANCED}]}
    node = served(loadBalancerSourceRanges=["203.0.113.0/24"], **balanced)
    before = node.frontend(BALANCED)
    node.serve(service(loadBalancerSourceRanges=["203.0.113.0/25"], **balanced))
    after = node.frontend(BALANCED)
    assert before is not None
    assert after is not None
    assert before["source_ranges"] != after["source_ranges"]
    assert {number for _, number, _ in ranges(node)} == {after["source_ranges"]}


def test_a_range_that_cannot_be_is_said() -> None:
    node = served(type="LoadBalancer", ingress=[{"ip": BALANCED}], loadBalancerSourceRanges=["everybody"])
    assert node.said == ["Service default/web has a source range that cannot be: 'everybody' is no IP address"]


def test_addresses_say_what_they_are() -> None:
    node = served(type="LoadBalancer", externalIPs=[NODE_IP, EXTERNAL], ingress=[{"ip": BALANCED}])
    assert node.address_flags(VIP) == {"IS_CLUSTER_IP", "IS_VIRTUAL"}
    assert node.address_flags(BALANCED) == node.address_flags(EXTERNAL) == {"IS_VIRTUAL"}
    assert node.address_flags(NODE_IP) == {"ON_NODE", "SERVES_NODE_PORTS"}


def test_an_external_ip_of_two_services_goes_with_the_last() -> None:
    node = served(externalIPs=[EXTERNAL])
    node.serve(service("other", ips=("10.96.0.2",), externalIPs=[EXTERNAL], ports=[{"port": 81}]))
    node.remove("services", "web")
    assert node.address_flags(EXTERNAL) == {"IS_VIRTUAL"}
    node.remove("services", "other")
    assert node.address_flags(EXTERNAL) == set()


def test_of_two_services_with_one_frontend_the_older_has_it_and_the_other_follows() -> None:
    node = served(externalIPs=[EXTERNAL])
    young = service("young", ips=("10.96.0.2",), externalIPs=[EXTERNAL], created="2026-06-01T00:00:00Z")
    node.serve(young, endpoint_slice("10.1.0.2", of="young", name="young-1"))
    assert node.addresses(EXTERNAL) == ["10.1.0.1"]
    assert len(node.said) == 1
    node.remove("services", "web")
    assert node.addresses(EXTERNAL) == ["10.1.0.2"]


def test_an_older_service_takes_a_frontend_over() -> None:
    node = FakeNode()
    young = service("young", ips=("10.96.0.2",), externalIPs=[EXTERNAL], created="2026-06-01T00:00:00Z")
    node.serve(young, endpoint_slice("10.1.0.2", of="young", name="young-1"))
    node.serve(service(externalIPs=[EXTERNAL]), endpoint_slice("10.1.0.1"))
    assert node.addresses(EXTERNAL) == ["10.1.0.1"]
    node.remove("services", "web")
    assert node.addresses(EXTERNAL) == ["10.1.0.2"]


def test_a_cluster_ip_cannot_be_taken_as_an_external_ip() -> None:
    node = FakeNode()
    node.serve(service("thief", ips=("10.96.0.2",), externalIPs=[VIP], created="2020-01-01T00:00:00Z"))
    node.serve(service(), endpoint_slice("10.1.0.1"))
    assert kind(node, VIP) == KINDS["CLUSTER_IP"]
    assert node.addresses(VIP) == ["10.1.0.1"]


def test_health_checks_count_ready_endpoints_here_once() -> None:
    ports = [{"name": "a", "port": 8080}, {"name": "b", "port": 8081}]
    node = FakeNode()
    listed: list[dict[str, Any] | str] = [
        {"addresses": ["10.1.0.1"], "nodeName": "node-a"},
        {"addresses": ["10.1.0.2"], "nodeName": "node-a", "conditions": {"ready": False, "serving": True}},
        {"addresses": ["10.1.0.3"], "nodeName": "node-b"},
    ]
    spec: dict[str, Any] = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}
    again = endpoint_slice(*listed, name="web-2", ports=[{"name": "c", "port": 8082}])
    node.serve(service(**spec), endpoint_slice(*listed, ports=ports), again)
    assert node.datapath.health == {("default", "web"): (32000, {4: 1})}
    node.serve(service(**spec | {"externalTrafficPolicy": "Cluster"}))
    assert node.datapath.health == {}


def test_an_unknown_scheduler_and_unreadable_weights_are_said_once() -> None:
    annotations = {"plumbline.dev/scheduler": "best", "plumbline.dev/weights": "10.1.0.1=0"}
    node = served(annotations=annotations)
    node.serve(service(annotations=annotations, ports=[{"port": 80}, {"port": 81, "name": "x"}]))
    assert len(node.said) == 2
    assert "asks for the scheduler 'best', and there are random, rr, wrr" in node.said[0]
    assert "with a weight of 1 to 65535" in node.said[1]


def test_weights_are_the_endpoints() -> None:
    node = served(
        slices=(endpoint_slice("10.1.0.1", "10.1.0.2"),),
        annotations={"plumbline.dev/scheduler": "wrr", "plumbline.dev/weights": "10.1.0.2=3"},
    )
    assert [node.endpoint(number)["weight"] for number in (0, 1)] == [1, 3]
    assert node.addresses(VIP) == ["10.1.0.2", "10.1.0.1", "10.1.0.2", "10.1.0.2"]
