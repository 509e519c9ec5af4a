# SPDX-License-Identifier: Apache-2.0
"""NodePort: a port that is given back."""

from conformance.sources import SERVICE
from plugins.requirements import requirement


@requirement(
    "nodeport.service.deleted",
    must="A deleted Service's node port MUST NOT lead to its former endpoints any more, on any node.",
    level="core",
    since="1.0",
    source=SERVICE + "#type-nodeport",
    upstream=[
        "Networking Granular Checks: Services should update nodePort: http",
        "Networking Granular Checks: Services should update nodePort: udp",
    ],
    needs=["external-client"],
)
def test_deleted_node_port_is_closed(world):
    anyone = world.everywhere("outside", "pod", "node")
    service = world.service(kind="NodePort", endpoints=world.backends(2))
    node_ports = [target for node in world.nodes for target in service.every_node_port(node)]
    world.settle()
    anyone.each_must_stay_within_the_verdict(node_ports, count=4)

    service.delete()
    world.settle()

    anyone.each_must_stay_within_the_verdict(node_ports, count=4)
