# SPDX-License-Identifier: Apache-2.0
"""NodePort: a port that is given back, or becomes another."""

from dataclasses import replace

from conformance.arrangements import two_behind_a_node_port
from conformance.sources import SERVICE
from plugins.requirements import requirement

# Of the part of the range that is not given out by itself (KEP-3668).
SPARE = 30007


@requirement(
    "nodeport.service.deleted",
    must="A deleted Service's node port MUST NOT lead to its former endpoints any more, on any node.",
    level="core",
    since="1.0",
    source=SERVICE + "#type-nodeport",
    upstream=[
        "Networking Granular Checks: Services should update nodePort: http",
        "Networking Granular Checks: Services should update nodePort: udp",
        "Services should release NodePorts on delete",
    ],
    needs=["external-client"],
    arrange=two_behind_a_node_port,
    changes=True,
)
def test_deleted_node_port_is_closed(world, service):
    anyone = world.everywhere("outside", "pod", "node")
    node_ports = [target for node in world.nodes for target in service.every_node_port(node)]
    anyone.each_must_stay_within_the_verdict(node_ports, count=4)

    service.delete()
    world.settle()

    anyone.each_must_stay_within_the_verdict(node_ports, count=4)


@requirement(
    "nodeport.number.changed",
    must="A Service whose node port is changed to another number MUST be served at the new one on every node, "
    "and MUST NOT be at the old one any more.",
    level="extended",
    since="1.0",
    source=SERVICE + "#type-nodeport",
    upstream=[
        "LoadBalancers should be able to change the type and ports of a TCP service",
        "LoadBalancers should be able to change the type and ports of a UDP service",
    ],
    needs=["external-client"],
    arrange=two_behind_a_node_port,
    changes=True,
)
def test_changed_node_port_is_served(world, service):
    anyone = world.everywhere("outside", "pod", "node")
    old = [target for node in world.nodes for target in service.every_node_port(node)]
    anyone.each_must_stay_within_the_verdict(old, count=4)

    service.change(ports=[replace(port, node_port=SPARE) for port in service.ports])
    world.settle()

    new = [target for node in world.nodes for target in service.every_node_port(node)]
    anyone.each_must_stay_within_the_verdict([*new, *old], count=4)
