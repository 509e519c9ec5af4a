# SPDX-License-Identifier: Apache-2.0
"""ClusterIP: which port of an endpoint answers for which port of the Service."""

from conformance.sources import SERVICE
from plugins.requirements import ON_EVERY_NODE, everywhere, requirement
from plugins.services import Port


def two_ports(world):
    ports = [
        Port(port, target, protocol) for port, target in ((80, 8081), (443, 8082)) for protocol in ("TCP", "UDP")
    ]
    return world.service(endpoints=world.backends(2), ports=ports)


@requirement(
    "clusterip.port.leads-to-its-target-port",
    must="Each port of a Service MUST lead to its own target port on the endpoints, and to no other.",
    level="core",
    since="1.0",
    source=SERVICE + "#multi-port-services",
    upstream=["Services should serve multiport endpoints from pods"],
    arrange=two_ports,
)
@everywhere(vantage=ON_EVERY_NODE, protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_each_port_leads_to_its_own_target(service, vantage, protocol, family):
    for port, target in ((80, 8081), (443, 8082)):
        flows = vantage.open(service.cluster_ip(family, port), protocol, count=service.enough_to_see_every_endpoint())

        flows.must_reach_exactly(service.ready_backends)
        assert {seen.served_at.port for seen in flows} == {target}


def same_number(world):
    return world.service(endpoints=world.backends(2), ports=[Port(80, 8081, "TCP"), Port(80, 8082, "UDP")])


@requirement(
    "clusterip.port.same-number-two-protocols",
    must="Two ports of a Service with one number and different protocols MUST each lead to their own target port.",
    level="core",
    since="1.0",
    source=SERVICE + "#protocol-support",
    upstream=["Services should serve endpoints on same port and different protocols"],
    arrange=same_number,
)
@everywhere(vantage=ON_EVERY_NODE, protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_protocols_are_told_apart(service, vantage, protocol, family):
    flows = vantage.open(service.cluster_ip(family), protocol, count=service.enough_to_see_every_endpoint())

    flows.must_reach_exactly(service.ready_backends)
    assert {seen.served_at.port for seen in flows} == {8081 if protocol == "TCP" else 8082}


@requirement(
    "clusterip.port.added-and-removed",
    must="A port added to a Service MUST be served beside the others, and one that is removed MUST NOT be any more, "
    "though the same number under another protocol remains.",
    level="core",
    since="1.0",
    source=SERVICE + "#multi-port-services",
    upstream=[
        "Services should be updated after adding or deleting ports",
        "Services should serve endpoints on same port and different protocols",
    ],
    arrange=same_number,
    changes=True,
)
def test_ports_come_and_go(world, service):
    after = [Port(80, 8081, "TCP"), Port(443, 8080, "UDP")]
    removed = service.every_cluster_ip("UDP")
    world.everywhere("pod", "node").each_must_stay_within_the_verdict(service.every_cluster_ip(), count=4)

    service.change(ports=after)
    service.set_slices(*service.slices)
    world.settle()

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)
    world.everywhere("pod", "node").each_must_stay_within_the_verdict(removed, count=4)


def beside_a_process(world):
    """A Service at a port where no process of a node listens; at its target port they do."""
    return world.service(endpoints=world.backends(2))


@requirement(
    "clusterip.port.not-the-nodes-own",
    must="A port of a ClusterIP that the Service does not have MUST NOT lead to a process of the node that listens "
    "there at all of its addresses.",
    level="extended",
    since="1.27",
    source="https://github.com/kubernetes/kubernetes/issues/72236",
    arrange=beside_a_process,
)
@everywhere(protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_nodes_processes_are_not_there(world, service, protocol, family):
    (listening, *_) = world.nodes[0].host_backend.ports
    served, unserved = ((service.cluster_ip(family, port), protocol) for port in (80, listening))
    inside = world.everywhere("pod", "node")

    inside.each_must_reach_exactly([served], service)
    inside.each_must_stay_within_the_verdict([unserved], count=2)
