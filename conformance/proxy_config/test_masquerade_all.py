# SPDX-License-Identifier: Apache-2.0
"""masqueradeAll: all traffic to ClusterIPs, and no other, is masqueraded. Its absence: conformance/source/."""

from conformance.proxy_config.test_node_port_addresses import BOTH
from conformance.sources import PROXY_CONFIG, SOURCE_IP
from plugins.requirements import everywhere, requirement


def other_pods(world):
    return world.service(endpoints=world.backends(3))


@requirement(
    "proxy-config.masquerade-all.pod-shown-as-its-node",
    must="With masqueradeAll, an endpoint reached from a pod through a ClusterIP MUST see an address "
    "of that pod's node.",
    level="extended",
    since="1.2",
    source=PROXY_CONFIG,
    needs=["nodes:3", BOTH],
    arrange=other_pods,
)
@everywhere(vantage=["pod@first", "pod@second", "pod@third"], protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_pod_is_shown_as_its_node(world, service, vantage, protocol, family):
    flows = vantage.open(service.cluster_ip(family), protocol, count=service.enough_to_see_every_endpoint())

    flows.must_reach_exactly(service.ready_backends)
    (node,) = (node for node in world.nodes if node.name == vantage.node)
    assert {seen.client_seen.ip for seen in flows} <= node.own_addresses(family)


def local_on_the_first_node(world):
    return world.service(kind="NodePort", endpoints=world.nodes[0].backends[:1], externalTrafficPolicy="Local")


@requirement(
    "proxy-config.masquerade-all.local-policy-keeps-the-client",
    must="Even with masqueradeAll, an endpoint reached from outside through a node port under the Local "
    "traffic policy MUST see the client's own address.",
    level="extended",
    since="1.7",
    source=SOURCE_IP + "#source-ip-for-services-with-type-nodeport",
    needs=["external-client", BOTH],
    arrange=local_on_the_first_node,
)
@everywhere(vantage=["outside"], protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_local_policy_keeps_the_client(world, service, vantage, protocol, family):
    flows = vantage.open(service.node_port(world.nodes[0], family, protocol), protocol, count=4)

    flows.must_reach_exactly(service.ready_backends)
    assert {seen.client_seen.ip for seen in flows} == {vantage.vantage.addresses[family]}
