# SPDX-License-Identifier: Apache-2.0
"""detectLocalMode: how a proxy tells the traffic of its node's pods from other traffic, and what follows from it."""

from conformance.proxy_config.test_masquerade_all import other_pods
from conformance.sources import PROXY_CONFIG, VIRTUAL_IPS
from plugins.flows import Everywhere
from plugins.requirements import everywhere, requirement

NODE_CIDR = "proxy-config:{detectLocalMode: NodeCIDR}"
BY_NAME = "proxy-config:{detectLocalMode: InterfaceNamePrefix, interfaceNamePrefix: <pod-interfaces>}"
BY_BRIDGE = "proxy-config:{detectLocalMode: BridgeInterface, bridgeInterface: <pod-bridge>}"
PODS = {
    "vantage": ["pod@first", "pod@second", "pod@third"],
    "protocol": ["TCP", "UDP"],
    "family": ["IPv4", "IPv6"],
}
OFF_CLUSTER = {"vantage": ["outside"], "protocol": ["TCP", "UDP"], "family": ["IPv4", "IPv6"]}
KEEPS = "an endpoint reached from another pod through a ClusterIP MUST see that pod's own address."
SHOWS = "an endpoint reached from outside the cluster through a ClusterIP MUST see an address of the node on the way."
LOCAL = (
    "under the Local traffic policy a node port MUST lead its own node's pods to endpoints anywhere, "
    "and MUST lead pods of other nodes to endpoints of its node or nowhere."
)


@requirement(
    "proxy-config.detect-local.cluster-cidr.off-cluster-shows-the-node",
    must=f"With detectLocalMode ClusterCIDR, the default, {SHOWS}",
    level="extended",
    since="1.5",
    source=PROXY_CONFIG,
    needs=["external-client", "service-route"],
    arrange=other_pods,
)
@everywhere(**OFF_CLUSTER)
def test_off_cluster_by_cluster_cidr(world, service, vantage, protocol, family):
    must_show_the_node(world, service, vantage, protocol, family)


@requirement(
    "proxy-config.detect-local.node-cidr.pod-keeps-its-address",
    must=f"With detectLocalMode NodeCIDR, {KEEPS}",
    level="extended",
    since="1.18",
    source=PROXY_CONFIG,
    needs=["nodes:3", NODE_CIDR],
    arrange=other_pods,
)
@everywhere(**PODS)
def test_pod_by_node_cidr(service, vantage, protocol, family):
    must_keep_the_pod(service, vantage, protocol, family)


@requirement(
    "proxy-config.detect-local.node-cidr.off-cluster-shows-the-node",
    must=f"With detectLocalMode NodeCIDR, {SHOWS}",
    level="extended",
    since="1.18",
    source=PROXY_CONFIG,
    needs=["external-client", "service-route", NODE_CIDR],
    arrange=other_pods,
)
@everywhere(**OFF_CLUSTER)
def test_off_cluster_by_node_cidr(world, service, vantage, protocol, family):
    must_show_the_node(world, service, vantage, protocol, family)


@requirement(
    "proxy-config.detect-local.interface-prefix.pod-keeps-its-address",
    must=f"With detectLocalMode InterfaceNamePrefix, {KEEPS}",
    level="extended",
    since="1.24",
    source=PROXY_CONFIG,
    needs=["nodes:3", BY_NAME],
    arrange=other_pods,
)
@everywhere(**PODS)
def test_pod_by_interface_prefix(service, vantage, protocol, family):
    must_keep_the_pod(service, vantage, protocol, family)


@requirement(
    "proxy-config.detect-local.interface-prefix.off-cluster-shows-the-node",
    must=f"With detectLocalMode InterfaceNamePrefix, {SHOWS}",
    level="extended",
    since="1.24",
    source=PROXY_CONFIG,
    needs=["external-client", "service-route", BY_NAME],
    arrange=other_pods,
)
@everywhere(**OFF_CLUSTER)
def test_off_cluster_by_interface_prefix(world, service, vantage, protocol, family):
    must_show_the_node(world, service, vantage, protocol, family)


@requirement(
    "proxy-config.detect-local.bridge.pod-keeps-its-address",
    must=f"With detectLocalMode BridgeInterface, {KEEPS}",
    level="extended",
    since="1.24",
    source=PROXY_CONFIG,
    needs=["nodes:3", BY_BRIDGE],
    arrange=other_pods,
)
@everywhere(**PODS)
def test_pod_by_bridge(service, vantage, protocol, family):
    must_keep_the_pod(service, vantage, protocol, family)


def local_on_the_second_node(world):
    return world.service(kind="NodePort", endpoints=world.nodes[1].backends[:1], externalTrafficPolicy="Local")


@requirement(
    "proxy-config.detect-local.node-cidr.local-policy",
    must=f"With detectLocalMode NodeCIDR, {LOCAL}",
    level="extended",
    since="1.18",
    source=VIRTUAL_IPS + "#external-traffic-policy",
    needs=["nodes:3", NODE_CIDR],
    arrange=local_on_the_second_node,
)
def test_local_policy_by_node_cidr(world, service):
    must_tell_its_own_pods(world, service)


@requirement(
    "proxy-config.detect-local.interface-prefix.local-policy",
    must=f"With detectLocalMode InterfaceNamePrefix, {LOCAL}",
    level="extended",
    since="1.24",
    source=VIRTUAL_IPS + "#external-traffic-policy",
    needs=["nodes:3", BY_NAME],
    arrange=local_on_the_second_node,
)
def test_local_policy_by_interface_prefix(world, service):
    must_tell_its_own_pods(world, service)


def must_keep_the_pod(service, vantage, protocol, family):
    flows = vantage.open(service.cluster_ip(family), protocol, count=service.enough_to_see_every_endpoint())

    flows.must_reach_exactly(service.ready_backends)
    assert {seen.client_seen.ip for seen in flows} == {vantage.vantage.addresses[family]}


def must_show_the_node(world, service, vantage, protocol, family):
    flows = vantage.open(service.cluster_ip(family), protocol, count=service.enough_to_see_every_endpoint())

    flows.must_reach_exactly(service.ready_backends)
    (on_the_way,) = (node for node in world.nodes if node.name == world.cluster.service_route)
    assert {seen.client_seen.ip for seen in flows} <= on_the_way.own_addresses(family)


def must_tell_its_own_pods(world, service):
    """The only endpoint is on the second node: pods that count as its own reach it as themselves."""
    first, second = world.nodes[:2]
    own, another = world.vantage("pod@first"), world.vantage("pod@third")
    for vantage, node in ((own, first), (own, second), (another, second)):
        for frontend, protocol in service.every_node_port(node):
            flows = vantage.open(frontend, protocol, count=4)

            flows.must_reach_exactly(service.ready_backends)
            assert {seen.client_seen.ip for seen in flows} == {vantage.vantage.addresses[frontend.family]}
    Everywhere((another,)).each_must_stay_within_the_verdict(service.every_node_port(first), count=4)
