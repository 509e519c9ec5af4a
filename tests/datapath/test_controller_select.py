# SPDX-License-Identifier: Apache-2.0
"""Which endpoints of a Service port may answer."""

from typing import Any

import pytest

from tests.datapath.cluster import FakeNode, endpoint, endpoint_slice, service

VIP = "10.96.0.1"


def chosen(*endpoints: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The cluster and local sets on node-a in zone-1."""
    node = FakeNode()
    node.serve(service(), endpoint_slice(*endpoints))
    return node.addresses(VIP), node.addresses(VIP, which="local")


def test_ready_endpoints_answer_and_unknown_readiness_is_ready() -> None:
    assert chosen(endpoint("10.1.0.1"), endpoint("10.1.0.2", ready=True), endpoint("10.1.0.3", ready=False))[0] == [
        "10.1.0.1",
        "10.1.0.2",
    ]


@pytest.mark.parametrize("node", ["node-a", "node-b"])
def test_terminating_endpoints_answer_only_where_none_is_ready(node: str) -> None:
    draining = endpoint("10.1.0.1", node, ready=False, serving=True, terminating=True)
    gone = endpoint("10.1.0.2", node, ready=False, serving=False, terminating=True)
    assert chosen(draining, gone)[0] == ["10.1.0.1"]
    assert chosen(draining, gone, endpoint("10.1.0.3"))[0] == ["10.1.0.3"]


def test_a_ready_endpoint_that_terminates_is_ready() -> None:
    """publishNotReadyAddresses makes such."""
    assert chosen(endpoint("10.1.0.1", ready=True, terminating=True), endpoint("10.1.0.2"))[0] == [
        "10.1.0.1",
        "10.1.0.2",
    ]


def test_the_local_set_falls_back_for_itself() -> None:
    here = endpoint("10.1.0.1", "node-a", ready=False, serving=True, terminating=True)
    assert chosen(here, endpoint("10.1.0.2")) == (["10.1.0.2"], ["10.1.0.1"])
    assert chosen(here, endpoint("10.1.0.3", "node-a")) == (["10.1.0.3"], ["10.1.0.3"])


def test_hints_for_the_zone_keep_only_its_endpoints() -> None:
    assert chosen(endpoint("10.1.0.1", zones=["zone-1"]), endpoint("10.1.0.2", zones=["zone-2"]))[0] == ["10.1.0.1"]


def test_one_ready_endpoint_without_a_hint_voids_all_hints() -> None:
    hinted = endpoint("10.1.0.1", zones=["zone-1"])
    assert chosen(hinted, endpoint("10.1.0.2"))[0] == ["10.1.0.1", "10.1.0.2"]
    assert chosen(hinted, endpoint("10.1.0.2", ready=False))[0] == ["10.1.0.1"]


def test_hints_that_name_nobody_here_are_void() -> None:
    assert len(chosen(endpoint("10.1.0.1", zones=["zone-2"]), endpoint("10.1.0.2", zones=["zone-3"]))[0]) == 2


def test_hints_for_the_node_come_before_hints_for_the_zone() -> None:
    both: dict[str, Any] = {"zones": ["zone-1"]}
    here = endpoint("10.1.0.1", nodes=["node-a"], **both)
    there = endpoint("10.1.0.2", nodes=["node-b"], **both)
    assert chosen(here, there)[0] == ["10.1.0.1"]
    assert chosen(there, endpoint("10.1.0.3", nodes=["node-b"], zones=["zone-2"]))[0] == ["10.1.0.2"]


def test_hints_leave_local_traffic_alone() -> None:
    here = endpoint("10.1.0.1", "node-a", zones=["zone-2"])
    assert chosen(here, endpoint("10.1.0.2", zones=["zone-1"])) == (["10.1.0.2"], ["10.1.0.1"])


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_listings_of_an_endpoint_the_livelier_counts(order: int) -> None:
    dying = endpoint_slice(endpoint("10.1.0.1", ready=False, serving=True, terminating=True), name="web-1")
    living = endpoint_slice("10.1.0.1", name="web-2")
    node = FakeNode()
    node.serve(service(), *(dying, living)[::order], endpoint_slice("10.1.0.2", name="web-3"))
    assert node.addresses(VIP) == ["10.1.0.1", "10.1.0.2"]


def test_a_slice_matches_by_port_name_and_protocol() -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}]
    node = FakeNode()
    sliced = [{"name": "dns", "port": 1053, "protocol": "UDP"}, {"name": "dns-tcp", "port": 1054, "protocol": "TCP"}]
    node.serve(service(ports=ports), endpoint_slice("10.1.0.1", ports=sliced))
    assert node.endpoint(node.numbers(VIP, 53, protocol=17)[0])["port"] == 1053
    assert node.endpoint(node.numbers(VIP, 53, protocol=6)[0])["port"] == 1054


def test_families_are_apart() -> None:
    node = FakeNode()
    node.serve(
        service(ips=(VIP, "fd00:96::1")),
        endpoint_slice("10.1.0.1"),
        endpoint_slice("fd00:1::1", "fd00:1::2", name="web-2"),
    )
    assert node.addresses(VIP) == ["10.1.0.1"]
    assert node.addresses("fd00:96::1") == ["fd00:1::1", "fd00:1::2"]


def test_flags_say_who_serves_and_who_is_a_member() -> None:
    node = FakeNode()
    draining = endpoint("10.1.0.2", "node-a", ready=False, serving=True, terminating=True)
    node.serve(
        service(), endpoint_slice("10.1.0.1", draining, endpoint("10.1.0.3", ready=False, serving=False), "192.0.2.1")
    )
    flags = {node.address_of(number): node.flags(number) for number in range(4)}
    assert flags == {
        "10.1.0.1": {"SERVING", "IN_CLUSTER"},
        "10.1.0.2": {"SERVING", "IN_LOCAL"},
        "10.1.0.3": set(),
        "192.0.2.1": {"SERVING", "IN_CLUSTER", "ON_HOST"},
    }
