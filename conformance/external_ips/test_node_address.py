# SPDX-License-Identifier: Apache-2.0
"""`externalIPs` that are a node's own address.

Each test makes its own Service: a proxy that gives the address to every node cuts the node off from the others, and
what was arranged beside it would suffer.
"""

from conformance.sources import SERVICE
from plugins.requirements import requirement

SOURCE = SERVICE + "#external-ips"


def at_a_nodes_address(world):
    node = world.node_at("second")
    addresses = [node.addresses[family] for family in world.families]
    there = world.service(endpoints=world.backends(2), externalIPs=addresses)
    return there, world.service(kind="NodePort", endpoints=[node.host_backend])


@requirement(
    "external-ips.node-address.is-served",
    must="An external IP that is a node's own address MUST lead to every ready endpoint at the Service's port, "
    "from pods, nodes and outside.",
    level="extended",
    since="1.0",
    source=SOURCE,
    needs=["nodes:2", "external-client"],
)
def test_nodes_address_leads_to_the_service(world):
    there, _ = at_a_nodes_address(world)
    world.settle()

    world.everywhere("pod", "node", "outside").each_must_reach_exactly(there.every_external_ip(), there)


@requirement(
    "external-ips.node-address.other-ports-keep-working",
    must="A node whose own address is an external IP MUST go on answering there for node ports and for its own "
    "processes, at every port that is not the Service's.",
    level="extended",
    since="1.0",
    source=SOURCE,
    needs=["nodes:2", "external-client"],
)
def test_node_goes_on_at_its_other_ports(world):
    _, other = at_a_nodes_address(world)
    world.settle()
    process = other.endpoints[0]
    own = [target for family in world.families for target in other.at_endpoint(process, family)]
    targets = [*other.every_node_port(world.node_at("second")), *own]

    world.everywhere("pod", "node", "outside").each_must_reach_exactly(targets, [process.backend])
