# SPDX-License-Identifier: Apache-2.0
"""A Service without endpoints refuses at once, and with the right packet."""

from conformance.sources import VIRTUAL_IPS
from plugins.packets import icmp_errors
from plugins.requirements import everywhere, requirement


def nobody(world):
    return world.service(kind="NodePort", endpoints=[])


@requirement(
    "no-endpoints.clusterip.refused",
    must="A connection to a ClusterIP without endpoints MUST be refused with ICMP port unreachable, never ignored.",
    level="core",
    since="1.7",
    source=VIRTUAL_IPS,
    upstream=[
        "Services should be rejected when no endpoints exist",
        "Services should be rejected for evicted pods (no endpoints exist)",
    ],
    needs=["raw-packets"],
    arrange=nobody,
)
@everywhere(vantage=["pod@first", "pod@second", "pod@third"], protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_cluster_ip_refuses(service, vantage, protocol, family):
    must_refuse_on_the_wire(vantage, service.cluster_ip(family), protocol)


@requirement(
    "no-endpoints.clusterip.refused-on-the-node",
    must="A process on a node that dials a ClusterIP without endpoints MUST be refused at once.",
    level="core",
    since="1.7",
    source=VIRTUAL_IPS,
    arrange=nobody,
)
@everywhere(vantage=["node@first", "node@second", "node@third"], protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_cluster_ip_refuses_on_the_node(service, vantage, protocol, family):
    vantage.open(service.cluster_ip(family), protocol, count=4).must_stay_within_the_verdict()


@requirement(
    "no-endpoints.nodeport.refused",
    must="A connection to a node port without endpoints MUST be refused with ICMP port unreachable, never ignored.",
    level="core",
    since="1.7",
    source=VIRTUAL_IPS,
    needs=["raw-packets", "external-client"],
    arrange=nobody,
)
@everywhere(vantage=["outside", "pod"], protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_node_port_refuses(world, service, vantage, protocol, family):
    for node in world.nodes[:2]:
        must_refuse_on_the_wire(vantage, service.node_port(node, family, protocol), protocol)


@requirement(
    "no-endpoints.nodeport.refused-on-the-node",
    must="A process on a node that dials a node port without endpoints MUST be refused at once, with ICMP port "
    "unreachable, at its own node's addresses and at those of others.",
    level="extended",
    since="1.7",
    source=VIRTUAL_IPS,
    arrange=nobody,
)
@everywhere(family=["IPv4", "IPv6"])
def test_node_port_refuses_on_the_node(world, service, family):
    node_ports = [target for node in world.nodes for target in service.every_node_port(node, family=family)]

    world.everywhere("node").each_must_stay_within_the_verdict(node_ports, count=2)


def nobody_at_an_external_ip(world):
    return world.service(endpoints=[], externalIPs=world.virtual_ips())


@requirement(
    "no-endpoints.external-ip.refused",
    must="A connection to an external IP without endpoints MUST be refused with ICMP port unreachable, "
    "never ignored.",
    level="extended",
    since="1.7",
    source=VIRTUAL_IPS,
    needs=["raw-packets", "external-client", "lb-route"],
    arrange=nobody_at_an_external_ip,
)
@everywhere(vantage=["outside", "pod"], family=["IPv4", "IPv6"])
def test_external_ip_refuses(service, vantage, family):
    for target in service.every_external_ip(family=family):
        must_refuse_on_the_wire(vantage, *target)


def nobody_under_local_policies(world):
    return world.service(kind="NodePort", endpoints=[], internalTrafficPolicy="Local", externalTrafficPolicy="Local")


@requirement(
    "no-endpoints.local-policies.refused",
    must="Under Local traffic policies a Service without endpoints anywhere MUST refuse connections as under any "
    "other policy, rather than drop them.",
    level="extended",
    since="1.22",
    source=VIRTUAL_IPS,
    needs=["external-client"],
    arrange=nobody_under_local_policies,
)
def test_local_policies_do_not_silence_the_refusal(world, service):
    node_ports = [target for node in world.nodes for target in service.every_node_port(node)]

    world.everywhere("pod", "node").each_must_stay_within_the_verdict(service.every_cluster_ip(), count=2)
    world.everywhere("outside").each_must_stay_within_the_verdict(node_ports, count=2)


@requirement(
    "no-endpoints.from-outside.when-the-last-one-leaves",
    must="Once the last endpoint of a Service has left, its node ports and its load balancer's IPs MUST refuse "
    "clients outside, and MUST serve them again as soon as an endpoint is back.",
    level="extended",
    since="1.7",
    source=VIRTUAL_IPS,
    upstream=[
        "LoadBalancers should be able to change the type and ports of a TCP service",
        "LoadBalancers should be able to change the type and ports of a UDP service",
    ],
    needs=["external-client", "lb-route"],
)
def test_the_last_endpoint_leaves(world):
    service = world.service(kind="LoadBalancer", endpoints=[], ingress=world.virtual_ips())
    for count in (1, 0, 1):
        service.set_endpoints(world.backends(count))
        world.settle()

        targets = [*service.every_load_balancer_ip(), *service.every_node_port(world.nodes[0])]
        world.everywhere("outside").each_must_reach_exactly(targets, service)


def must_refuse_on_the_wire(vantage, frontend, protocol):
    flows, packets = vantage.captured(frontend, protocol, count=2)

    flows.must_stay_within_the_verdict()
    unreachable = {"IPv4": (3, 3), "IPv6": (1, 4)}[frontend.family]
    quoted = [error.quoted_port for error in icmp_errors(packets) if (error.type, error.code) == unreachable]
    assert sorted(quoted) == sorted(seen.src.port for seen in flows), "one ICMP port unreachable for each flow"
