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
    upstream=["Services should be rejected when no endpoints exist"],
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


def must_refuse_on_the_wire(vantage, frontend, protocol):
    flows, packets = vantage.captured(frontend, protocol, count=2)

    flows.must_stay_within_the_verdict()
    unreachable = {"IPv4": (3, 3), "IPv6": (1, 4)}[frontend.family]
    quoted = [error.quoted_port for error in icmp_errors(packets) if (error.type, error.code) == unreachable]
    assert sorted(quoted) == sorted(seen.src.port for seen in flows), "one ICMP port unreachable for each flow"
