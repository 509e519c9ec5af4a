# SPDX-License-Identifier: Apache-2.0
"""internalTrafficPolicy and externalTrafficPolicy: who is bound by them, and reject, drop or answer."""

from typing import Any

import pytest

from dataplane_ref.model import Entry, Flow, FromPod, IcmpExpectation, ProxyConfig, Verdict, verdict
from tests.model.cluster import (
    CLUSTER_IP,
    CLUSTER_IP6,
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
    endpoint,
    endpoint_slice,
    from_node,
    from_pod,
    service,
    sets,
)

DRAINING: dict[str, Any] = {"ready": False, "serving": True, "terminating": True}
NO_DETECTOR = ProxyConfig()
NODE_CIDR = ProxyConfig(detect_local="NodeCIDR")
ENTRIES = [from_pod("a1"), from_node("node-a"), OUTSIDE]
ENTRY_IDS = ["pod", "node", "outside"]


def local(*endpoints: Any, config: ProxyConfig = DETECT, family: str = "IPv4", **spec: Any) -> Any:
    """A cluster whose Service has Local policy in both directions, or what `spec` says."""
    body = service(
        **{
            "internalTrafficPolicy": "Local",
            "externalTrafficPolicy": "Local",
            "externalIPs": [EXTERNAL_IP],
            "status": {"loadBalancer": {"ingress": [{"ip": LB_IP}]}},
            **spec,
        }
    )
    return cluster(body, endpoint_slice(*endpoints, family=family), config=config)


def at_cluster_ip(state: Any, entry: Entry, via: str = "node-a") -> Verdict:
    return verdict(state, Flow(entry, "TCP", CLUSTER_IP, 80, via=via))


def at_node(state: Any, entry: Entry, node: str) -> Verdict:
    return verdict(state, Flow(entry, "TCP", NODE_IP[node], NODE_PORT))


@pytest.mark.parametrize("entry", ENTRIES, ids=ENTRY_IDS)
def test_internal_local_uses_only_endpoints_of_the_node(entry: Entry) -> None:
    result = at_cluster_ip(local("a2", "node-a", "b1", "c1"), entry)

    assert set(result.answers) == {at("a2"), at("node-a")}
    assert result.outcomes == {"reply"}


@pytest.mark.parametrize("entry", ENTRIES, ids=ENTRY_IDS)
def test_internal_local_without_local_endpoint_is_dropped(entry: Entry) -> None:
    result = at_cluster_ip(local("b1"), entry)

    assert sets(result) == ({"timeout"}, set())
    assert result.reason == "internalTrafficPolicy Local and no endpoint on node-a: dropped"


def test_internal_local_falls_back_to_local_terminating_endpoints_only() -> None:
    state = local(endpoint("a2", **DRAINING), "b1", endpoint("c1", **DRAINING))

    assert set(at_cluster_ip(state, from_pod("a1")).answers) == {at("a2")}
    assert set(at_cluster_ip(state, from_pod("b2")).answers) == {at("b1")}
    assert set(at_cluster_ip(state, from_pod("c2")).answers) == {at("c1")}


def test_a_local_ready_endpoint_hides_local_terminating_ones() -> None:
    state = local(endpoint("a2", **DRAINING), "a1", endpoint("node-a", ready=False))

    assert set(at_cluster_ip(state, from_pod("a1")).answers) == {at("a1")}


def test_local_and_cluster_fall_back_independently() -> None:
    state = local(endpoint("a2", **DRAINING), "b1", internalTrafficPolicy="Cluster")

    assert set(at_cluster_ip(state, from_pod("a1")).answers) == {at("b1")}
    assert set(at_node(state, OUTSIDE, "node-a").answers) == {at("a2")}


def test_an_endpoint_without_a_node_name_is_local_nowhere() -> None:
    state = local(endpoint("a2", node=None))

    assert at_cluster_ip(state, from_pod("a1")).outcomes == {"timeout"}


def test_internal_policy_says_nothing_about_node_ports() -> None:
    state = local("b1", externalTrafficPolicy="Cluster")

    assert at_cluster_ip(state, from_pod("a1")).outcomes == {"timeout"}
    assert set(at_node(state, from_pod("a1"), "node-a").answers) == {at("b1")}
    assert set(at_node(state, OUTSIDE, "node-a").answers) == {at("b1")}


def test_external_policy_says_nothing_about_cluster_ips() -> None:
    state = local("b1", internalTrafficPolicy="Cluster")

    assert set(at_cluster_ip(state, from_pod("a1")).answers) == {at("b1")}
    assert set(at_cluster_ip(state, OUTSIDE).answers) == {at("b1")}


def test_outside_under_local_reaches_endpoints_of_the_dialled_node_only() -> None:
    state = local("a1", "a2", "b1")

    assert set(at_node(state, OUTSIDE, "node-a").answers) == {at("a1"), at("a2")}
    assert set(at_node(state, OUTSIDE, "node-b").answers) == {at("b1")}
    assert at_node(state, OUTSIDE, "node-c").outcomes == {"timeout"}
    assert "externalTrafficPolicy Local and no endpoint on node-c" in at_node(state, OUTSIDE, "node-c").reason


@pytest.mark.parametrize("dst", [EXTERNAL_IP, LB_IP])
def test_virtual_ips_from_outside_under_local_depend_on_the_node_of_arrival(dst: str) -> None:
    state = local("a1")

    by_node = {node: verdict(state, Flow(OUTSIDE, "TCP", dst, 80, via=node)).outcomes for node in NODE_IP}

    assert by_node == {"node-a": {"reply"}, "node-b": {"timeout"}, "node-c": {"timeout"}}


@pytest.mark.parametrize("dst", [NODE_IP["node-a"], EXTERNAL_IP, LB_IP])
@pytest.mark.parametrize("entry", ENTRIES[:2], ids=ENTRY_IDS[:2])
def test_traffic_of_the_node_itself_is_exempt_from_external_local(entry: Entry, dst: str) -> None:
    port = NODE_PORT if dst == NODE_IP["node-a"] else 80

    result = verdict(local("b1", "c1"), Flow(entry, "TCP", dst, port))

    assert set(result.answers) == {at("b1"), at("c1")}
    assert result.outcomes == {"reply"}


@pytest.mark.parametrize("dst", [NODE_IP["node-a"], EXTERNAL_IP, LB_IP])
def test_without_a_detector_a_pod_is_bound_by_external_local(dst: str) -> None:
    port = NODE_PORT if dst == NODE_IP["node-a"] else 80

    nothing_local = verdict(local("b1", config=NO_DETECTOR), Flow(from_pod("a1"), "TCP", dst, port))
    one_local = verdict(local("a2", "b1", config=NO_DETECTOR), Flow(from_pod("a1"), "TCP", dst, port))

    assert nothing_local.outcomes == {"timeout"}
    assert set(one_local.answers) == {at("a2")}


@pytest.mark.parametrize("entry", [from_pod("a1"), from_node("node-a")], ids=["pod", "node"])
@pytest.mark.parametrize("config", [DETECT, NODE_CIDR, NO_DETECTOR], ids=["ClusterCIDR", "NodeCIDR", "none"])
def test_another_nodes_port_under_local_counts_as_external(entry: Entry, config: ProxyConfig) -> None:
    result = at_node(local("c1", config=config), entry, "node-b")

    assert sets(result) == ({"timeout"}, set())


def test_a_pod_of_another_node_may_meet_silence_where_the_detector_cannot_tell() -> None:
    """By ClusterCIDR node-b takes a1 for its own pod and may pick c1, whose reply goes past node-b."""
    by_cluster = at_node(local("b1", "c1"), from_pod("a1"), "node-b")
    by_node = at_node(local("b1", "c1", config=NODE_CIDR), from_pod("a1"), "node-b")

    assert sets(by_cluster) == ({"reply", "timeout"}, {at("b1")})
    assert sets(by_node) == ({"reply"}, {at("b1")})


def test_a_pod_may_reach_itself_through_another_node_by_hairpin() -> None:
    result = at_node(local("a1", "b1"), from_pod("a1"), "node-b")

    assert set(result.answers) == {at("a1"), at("b1")}
    assert (result.answers[at("a1")].kind, result.answers[at("b1")].kind) == ("node", "client")
    assert result.outcomes == {"reply"}


def test_a_pod_masqueraded_by_its_network_is_external_at_another_node() -> None:
    pod = FromPod("node-a", POD["a1"], egress_addresses=(NODE_IP["node-a"],))

    result = at_node(local("b1", "c1"), pod, "node-b")

    assert sets(result) == ({"reply"}, {at("b1")})


@pytest.mark.parametrize("node", list(NODE_IP))
@pytest.mark.parametrize("entry", ENTRIES, ids=ENTRY_IDS)
def test_external_cluster_reaches_every_endpoint_through_every_node(entry: Entry, node: str) -> None:
    result = at_node(cluster(service(), endpoint_slice("a2", "b1", "c1")), entry, node)

    assert set(result.answers) == {at("a2"), at("b1"), at("c1")}
    assert result.outcomes == {"reply"}


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
@pytest.mark.parametrize("entry", ENTRIES, ids=ENTRY_IDS)
@pytest.mark.parametrize(
    ("dst", "port"),
    [
        (CLUSTER_IP, 80),
        (NODE_IP["node-a"], NODE_PORT),
        (NODE_IP["node-b"], NODE_PORT),
        (EXTERNAL_IP, 80),
        (LB_IP, 80),
    ],
)
def test_no_endpoint_anywhere_is_rejected_at_every_frontend(policy: str, entry: Entry, dst: str, port: int) -> None:
    unready = endpoint("a2", ready=False), endpoint("b1", ready=False)
    state = local(*unready, internalTrafficPolicy=policy, externalTrafficPolicy=policy)

    result = verdict(state, Flow(entry, "TCP", dst, port, via="node-a"))

    if entry == from_node("node-a") and dst in (EXTERNAL_IP, LB_IP):
        # A process's packet may leave its node for the real load balancer.
        assert sets(result) == ({"refused", "unreachable", "timeout"}, set())
        return
    assert sets(result) == ({"refused"}, set())
    assert result.must_refuse_with == IcmpExpectation(3, 3)
    assert result.reason == "no usable endpoint anywhere: rejected"


@pytest.mark.parametrize(("dst", "port"), [(CLUSTER_IP6, 80), (NODE_IP6["node-a"], NODE_PORT)])
def test_ipv6_is_rejected_with_icmpv6_port_unreachable(dst: str, port: int) -> None:
    result = verdict(local("a1"), Flow(from_pod("a1"), "TCP", dst, port))

    assert result.must_refuse_with == IcmpExpectation(1, 4)
