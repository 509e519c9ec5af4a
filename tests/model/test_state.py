# SPDX-License-Identifier: Apache-2.0
"""Reading the cluster: Node objects, affinity, and the cost of a verdict in a large cluster."""

from time import perf_counter

import pytest

from dataplane_ref.model import ClusterState, Flow, NodeView, verdict
from tests.model.cluster import (
    CLUSTER_IP,
    NODE_PORT,
    NODES,
    OUTSIDE,
    at,
    cluster,
    endpoint,
    endpoint_slice,
    from_pod,
    service,
)


def test_a_node_object_becomes_a_node_view() -> None:
    node = {
        "metadata": {"name": "node-a", "labels": {"topology.kubernetes.io/zone": "zone-1"}},
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00:10:244::/64"]},
        "status": {
            "addresses": [
                {"type": "ExternalIP", "address": "198.51.100.10"},
                {"type": "Hostname", "address": "node-a"},
                {"type": "InternalIP", "address": "172.18.0.10"},
                {"type": "InternalIP", "address": "FD00:172:18::A"},
            ]
        },
    }

    assert NodeView.from_object(node) == NodeView(
        "node-a",
        ("172.18.0.10", "fd00:172:18::a", "198.51.100.10"),
        ("10.244.0.0/24", "fd00:10:244::/64"),
        "zone-1",
    )


def test_a_bare_node_object_and_the_single_pod_cidr_are_enough() -> None:
    assert NodeView.from_object({"metadata": {"name": "x"}}) == NodeView("x", ())
    assert NodeView.from_object({"metadata": {"name": "x"}, "spec": {"podCIDR": "10.0.0.0/24"}}).holds("10.0.0.9")


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, None),
        ({"sessionAffinity": "ClientIP"}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, 5),
    ],
)
def test_affinity_is_told_and_changes_no_set(spec: dict[str, object], seconds: int | None) -> None:
    flow = Flow(from_pod("a1"), "TCP", CLUSTER_IP, 80)
    slices = endpoint_slice("a2", "b1")

    result = verdict(cluster(service(**spec), slices), flow)
    plain = verdict(cluster(service(), slices), flow)

    assert result.affinity_s == seconds
    assert (result.outcomes, result.answers) == (plain.outcomes, plain.answers)


def test_an_endpoint_of_unknown_address_is_where_its_slice_says() -> None:
    """Its reply passes the node that translates only if it runs there; elsewhere, silence is allowed."""
    bare = tuple(NodeView(node.name, node.addresses) for node in NODES)
    item = service(internalTrafficPolicy="Cluster")
    flow = Flow(OUTSIDE, "TCP", CLUSTER_IP, 80, via="node-a")

    outcomes = {
        where: verdict(ClusterState.from_objects(bare, [item], [endpoint_slice(endpoint(where))]), flow).outcomes
        for where in ("a1", "b1")
    }

    assert outcomes == {"a1": {"reply"}, "b1": {"reply", "timeout"}}


def test_an_address_in_a_nodes_pod_range_is_there_whatever_its_slice_says() -> None:
    moved = endpoint_slice(endpoint("b1", node="node-a"))
    state = cluster(service(externalTrafficPolicy="Local"), moved)

    result = verdict(state, Flow(OUTSIDE, "TCP", "172.18.0.10", NODE_PORT))

    assert set(result.answers) == {at("b1")}
    assert result.outcomes == {"reply", "timeout"}


def test_a_verdict_in_a_large_cluster_costs_far_less_than_a_millisecond() -> None:
    services, slices = [], []
    for number in range(1000):
        address = f"10.97.{number >> 8}.{number & 255}"
        ports = [{"port": 80, "nodePort": 31000 + number}]
        services.append(service(name=f"s{number}", clusterIP=address, clusterIPs=[address], ports=ports))
        slices.append(endpoint_slice("a1", "b1", "c1", name=f"s{number}-1", service_name=f"s{number}"))
    state = cluster(*services, *slices)
    flows = [Flow(from_pod("a1"), "TCP", f"10.97.{number >> 8}.{number & 255}", 80) for number in range(1000)]
    verdict(state, flows[0])

    def seconds_per_verdict() -> float:
        start = perf_counter()
        for flow in flows:
            verdict(state, flow)
        return (perf_counter() - start) / len(flows)

    # The best of three: other work on the machine can only add time.
    assert min(seconds_per_verdict() for _ in range(3)) < 0.0005
