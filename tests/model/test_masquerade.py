# SPDX-License-Identifier: Apache-2.0
"""The masquerade table, row by row: whom the endpoint sees. The Service has one endpoint, a pod, unless said."""

from dataclasses import dataclass, field

import pytest

from dataplane_ref.model import Entry, Flow, FromOutside, FromPod, ProxyConfig, verdict
from tests.model.cluster import (
    CLUSTER_CIDRS,
    CLUSTER_IP,
    DETECT,
    EXTERNAL_IP,
    LB_IP,
    NODE_IP,
    NODE_IP6,
    NODE_PORT,
    OUTSIDE,
    POD,
    at,
    cluster,
    endpoint_slice,
    from_node,
    from_pod,
    node_addresses,
    service,
)

NO_DETECTOR = ProxyConfig()
NODE_A, NODE_B = NODE_IP["node-a"], NODE_IP["node-b"]
CLIENT = OUTSIDE.addresses[0]
MASQUERADE_ALL = ProxyConfig(CLUSTER_CIDRS, masquerade_all=True)
NODE_CIDR = ProxyConfig(detect_local="NodeCIDR")
BY_INTERFACE = ProxyConfig(detect_local="InterfaceNamePrefix")


@dataclass(frozen=True)
class Row:
    """One row: who dials what, which endpoint there is, and the addresses it may see (a node's name: all of its)."""

    says: str
    entry: Entry
    dst: str
    backend: str
    sees: str
    local: bool = False
    config: ProxyConfig = DETECT
    via: str | None = None
    outcomes: frozenset[str] = field(default=frozenset({"reply"}))


MAYBE = frozenset({"reply", "timeout"})

ROWS = [
    # pod → ClusterIP
    Row("another pod, same node", from_pod("a1"), CLUSTER_IP, "a2", POD["a1"][0]),
    Row("another pod, other node", from_pod("a1"), CLUSTER_IP, "b1", POD["a1"][0]),
    Row("hostNetwork endpoint, other node", from_pod("a1"), CLUSTER_IP, "node-b", POD["a1"][0]),
    Row("hostNetwork endpoint, own node", from_pod("a1"), CLUSTER_IP, "node-a", POD["a1"][0]),
    Row("hairpin", from_pod("a1"), CLUSTER_IP, "a1", "node-a"),
    Row("hairpin, Local policy", from_pod("a1"), CLUSTER_IP, "a1", "node-a", local=True),
    Row("Local policy", from_pod("a1"), CLUSTER_IP, "a2", POD["a1"][0], local=True),
    Row("no detector", from_pod("a1"), CLUSTER_IP, "b1", POD["a1"][0], config=NO_DETECTOR),
    Row("hairpin, no detector", from_pod("a1"), CLUSTER_IP, "a1", "node-a", config=NO_DETECTOR),
    Row("NodeCIDR detector", from_pod("a1"), CLUSTER_IP, "b1", POD["a1"][0], config=NODE_CIDR),
    Row("interface detector", from_pod("a1"), CLUSTER_IP, "b1", POD["a1"][0], config=BY_INTERFACE),
    Row("masqueradeAll", from_pod("a1"), CLUSTER_IP, "b1", "node-a", config=MASQUERADE_ALL),
    Row("source in no pod range", FromPod("node-a", ("192.0.2.1",)), CLUSTER_IP, "b1", "node-a"),
    Row(
        "source in no pod range, no detector",
        FromPod("node-a", ("192.0.2.1",)),
        CLUSTER_IP,
        "b1",
        "192.0.2.1",
        config=NO_DETECTOR,
    ),
    # node process → ClusterIP
    Row("node process, remote pod", from_node("node-a"), CLUSTER_IP, "b1", "node-a"),
    Row("node process, local pod", from_node("node-a"), CLUSTER_IP, "a1", "node-a"),
    Row("node process, own hostNetwork endpoint", from_node("node-a"), CLUSTER_IP, "node-a", "node-a"),
    Row("node process, remote hostNetwork endpoint", from_node("node-a"), CLUSTER_IP, "node-b", "node-a"),
    Row("node process, no detector", from_node("node-a"), CLUSTER_IP, "b1", "node-a", config=NO_DETECTOR),
    Row("node process, Local policy", from_node("node-a"), CLUSTER_IP, "a1", "node-a", local=True),
    # outside → ClusterIP, routed to a node
    Row("outside to a ClusterIP", OUTSIDE, CLUSTER_IP, "b1", "node-a", via="node-a"),
    Row("outside to a ClusterIP, NodeCIDR", OUTSIDE, CLUSTER_IP, "b1", "node-a", via="node-a", config=NODE_CIDR),
    Row("outside to a ClusterIP, interface", OUTSIDE, CLUSTER_IP, "b1", "node-a", via="node-a", config=BY_INTERFACE),
    Row(
        "outside to a ClusterIP, no detector: the reply bypasses the node",
        OUTSIDE,
        CLUSTER_IP,
        "b1",
        CLIENT,
        config=NO_DETECTOR,
        via="node-a",
        outcomes=MAYBE,
    ),
    Row(
        "outside to a ClusterIP, no detector, endpoint on that node",
        OUTSIDE,
        CLUSTER_IP,
        "a1",
        CLIENT,
        config=NO_DETECTOR,
        via="node-a",
    ),
    # outside → external frontends
    Row("outside, endpoint elsewhere", OUTSIDE, NODE_A, "b1", "node-a"),
    Row("outside, endpoint on the node", OUTSIDE, NODE_A, "a1", "node-a"),
    Row("outside, hostNetwork endpoint of another node", OUTSIDE, NODE_A, "node-b", "node-a"),
    Row("outside, no detector", OUTSIDE, NODE_A, "a1", "node-a", config=NO_DETECTOR),
    Row("outside, Local", OUTSIDE, NODE_A, "a1", CLIENT, local=True),
    Row("outside, Local, masqueradeAll", OUTSIDE, NODE_A, "a1", CLIENT, local=True, config=MASQUERADE_ALL),
    Row("outside, Local, no detector", OUTSIDE, NODE_A, "a1", CLIENT, local=True, config=NO_DETECTOR),
    Row("outside, Local, hostNetwork endpoint", OUTSIDE, NODE_A, "node-a", CLIENT, local=True),
    Row("outside to an externalIP", OUTSIDE, EXTERNAL_IP, "a1", "node-a", via="node-a"),
    Row("outside to an externalIP, Local", OUTSIDE, EXTERNAL_IP, "a1", CLIENT, local=True, via="node-a"),
    Row("outside to a load balancer", OUTSIDE, LB_IP, "b1", "node-a", via="node-a"),
    Row("outside to a load balancer, Local", OUTSIDE, LB_IP, "a1", CLIENT, local=True, via="node-a"),
    # pod → external frontends of its own node
    Row("pod to its own node's port", from_pod("a1"), NODE_A, "b1", "node-a"),
    Row("pod to its own node's port, hairpin", from_pod("a1"), NODE_A, "a1", "node-a"),
    Row("pod to its own node's port, Local: exempt", from_pod("a1"), NODE_A, "b1", POD["a1"][0], local=True),
    Row("the same, hairpin", from_pod("a1"), NODE_A, "a1", "node-a", local=True),
    Row("the same, NodeCIDR", from_pod("a1"), NODE_A, "b1", POD["a1"][0], local=True, config=NODE_CIDR),
    Row("the same, interface", from_pod("a1"), NODE_A, "b1", POD["a1"][0], local=True, config=BY_INTERFACE),
    Row(
        "pod to its own node's port, Local, no detector: like outside",
        from_pod("a1"),
        NODE_A,
        "a2",
        POD["a1"][0],
        local=True,
        config=NO_DETECTOR,
    ),
    Row("pod to an externalIP", from_pod("a1"), EXTERNAL_IP, "b1", "node-a"),
    Row("pod to an externalIP, Local: exempt", from_pod("a1"), EXTERNAL_IP, "b1", POD["a1"][0], local=True),
    Row("pod to a load balancer", from_pod("a1"), LB_IP, "b1", "node-a"),
    Row("pod to a load balancer, Local: exempt", from_pod("a1"), LB_IP, "b1", POD["a1"][0], local=True),
    # pod → another node's port: the owner of the address decides and masquerades
    Row("pod to another node's port", from_pod("a1"), NODE_B, "c1", "node-b"),
    Row("pod to another node's port, back to the first node", from_pod("a1"), NODE_B, "a2", "node-b"),
    Row("pod to itself through another node", from_pod("a1"), NODE_B, "a1", "node-b"),
    Row("pod to another node's port, Local", from_pod("a1"), NODE_B, "b1", POD["a1"][0], local=True),
    Row(
        "pod to itself through another node, Local: it may count as external, and find nobody",
        from_pod("a1"),
        NODE_B,
        "a1",
        "node-b",
        local=True,
        outcomes=MAYBE,
    ),
    Row(
        "pod to another node's port, Local, NodeCIDR",
        from_pod("a1"),
        NODE_B,
        "b1",
        POD["a1"][0],
        local=True,
        config=NODE_CIDR,
    ),
    # node process → external frontends
    Row("node process to its own port", from_node("node-a"), NODE_A, "b1", "node-a"),
    Row("node process to its own port, Local: exempt", from_node("node-a"), NODE_A, "b1", "node-a", local=True),
    Row("node process to an externalIP", from_node("node-a"), EXTERNAL_IP, "b1", "node-a"),
    Row("node process to a load balancer, Local", from_node("node-a"), LB_IP, "b1", "node-a", local=True),
    Row("node process to another node's port", from_node("node-a"), NODE_B, "c1", "node-b"),
    Row("node process to another node's port, Local", from_node("node-a"), NODE_B, "b1", "node-a", local=True),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.says)
def test_whom_the_endpoint_sees(row: Row) -> None:
    policy = "Local" if row.local else "Cluster"
    state = cluster(
        service(
            internalTrafficPolicy=policy,
            externalTrafficPolicy=policy,
            externalIPs=[EXTERNAL_IP],
            status={"loadBalancer": {"ingress": [{"ip": LB_IP}]}},
        ),
        endpoint_slice(row.backend),
        config=row.config,
    )
    port = NODE_PORT if row.dst in NODE_IP.values() else 80

    result = verdict(state, Flow(row.entry, "TCP", row.dst, port, via=row.via))

    assert result.outcomes == row.outcomes, result.explain()
    assert set(result.answers) == {at(row.backend)}
    expected = node_addresses(row.sees) if row.sees in NODE_IP else frozenset({row.sees})
    assert result.answers[at(row.backend)].allowed == expected, result.explain()


def test_a_host_network_endpoint_of_the_translating_node_may_see_the_client_too() -> None:
    state = cluster(service(), endpoint_slice("node-a", "a1"))

    answers = verdict(state, Flow(OUTSIDE, "TCP", NODE_A, NODE_PORT)).answers

    assert answers[at("node-a")].allowed == node_addresses("node-a") | {CLIENT}
    assert answers[at("a1")].allowed == node_addresses("node-a")
    own = verdict(state, Flow(from_node("node-a"), "TCP", NODE_A, NODE_PORT)).answers
    assert own[at("node-a")].allowed == node_addresses("node-a")


def test_a_rule_says_which_kind_of_source_it_allows_and_why() -> None:
    state = cluster(service(), endpoint_slice("a1", "b1"))

    answers = verdict(state, Flow(from_pod("a1"), "TCP", CLUSTER_IP, 80)).answers

    assert (answers[at("a1")].kind, answers[at("b1")].kind) == ("node", "client")
    assert answers[at("a1")].why == "hairpin: masqueraded to the node's address"


def test_ipv6_masquerade_uses_ipv6_addresses_of_the_node() -> None:
    state = cluster(service(), endpoint_slice("b1", family="IPv6"))

    result = verdict(state, Flow(OUTSIDE, "TCP", NODE_IP6["node-a"], NODE_PORT))

    assert result.answers[at("b1", family="IPv6")].allowed == {NODE_IP6["node-a"]}


def test_a_family_without_a_cluster_cidr_has_no_detector() -> None:
    ipv4_only = ProxyConfig(cluster_cidrs=CLUSTER_CIDRS[:1])
    state = cluster(service(), endpoint_slice("b1", family="IPv6"), config=ipv4_only)

    result = verdict(state, Flow(OUTSIDE, "TCP", "fd00:10:96::10", 80, via="node-b"))

    assert result.answers[at("b1", family="IPv6")].allowed == {OUTSIDE.addresses[1]}


@pytest.mark.parametrize(
    ("policy", "sees"), [("Cluster", "172.18.0.11"), ("Local", "172.18.0.10")], ids=["Cluster", "Local"]
)
def test_a_pod_network_may_masquerade_before_another_node_sees_the_packet(policy: str, sees: str) -> None:
    pod = FromPod("node-a", POD["a1"], egress_addresses=(NODE_A,))
    state = cluster(service(externalTrafficPolicy=policy), endpoint_slice("b1"))

    result = verdict(state, Flow(pod, "TCP", NODE_B, NODE_PORT))

    assert sees in result.answers[at("b1")].allowed
    assert POD["a1"][0] not in result.answers[at("b1")].allowed


@pytest.mark.parametrize(
    ("backend", "sees"),
    [("node-b", {POD["a1"][0], NODE_A}), ("b1", {POD["a1"][0]}), ("node-a", {POD["a1"][0]})],
)
def test_a_pod_network_may_masquerade_towards_other_nodes_only(backend: str, sees: set[str]) -> None:
    pod = FromPod("node-a", POD["a1"], egress_addresses=(NODE_A,))
    state = cluster(service(), endpoint_slice(backend))

    result = verdict(state, Flow(pod, "TCP", CLUSTER_IP, 80))

    assert result.answers[at(backend)].allowed == sees


def test_a_client_with_two_addresses_may_be_seen_as_either() -> None:
    state = cluster(service(externalTrafficPolicy="Local"), endpoint_slice("a1"))
    client = FromOutside(("172.18.0.2", "172.18.0.3"))

    result = verdict(state, Flow(client, "TCP", NODE_A, NODE_PORT))

    assert result.answers[at("a1")].allowed == {"172.18.0.2", "172.18.0.3"}


@pytest.mark.parametrize("via", ["node-a", "node-b"])
def test_one_endpoint_elsewhere_is_enough_to_lose_a_reply(via: str) -> None:
    """Without a detector an outside flow to a ClusterIP keeps its source, and one of the endpoints is elsewhere."""
    state = cluster(service(), endpoint_slice("a1", "b1"), config=NO_DETECTOR)

    result = verdict(state, Flow(OUTSIDE, "TCP", CLUSTER_IP, 80, via=via))

    assert set(result.answers) == {at("a1"), at("b1")}
    assert result.outcomes == MAYBE


def test_ipv6_has_its_own_detector() -> None:
    state = cluster(service(), endpoint_slice("b1", family="IPv6"))

    result = verdict(state, Flow(OUTSIDE, "TCP", "fd00:10:96::10", 80, via="node-a"))

    assert result.answers[at("b1", family="IPv6")].allowed == {NODE_IP6["node-a"]}
