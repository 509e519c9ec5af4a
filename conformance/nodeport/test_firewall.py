# SPDX-License-Identifier: Apache-2.0
"""NodePort: a node whose firewall forwards nothing of itself."""

from conformance.sources import VIRTUAL_IPS
from plugins.requirements import requirement


@requirement(
    "nodeport.firewall.forwards-nothing-else",
    must="A node port MUST lead from outside to endpoints on any node, and back, although the firewall of the node "
    "that is dialled forwards nothing of itself (policy DROP of iptables' FORWARD).",
    level="extended",
    since="1.9",
    source=VIRTUAL_IPS + "#migrating-from-iptables-mode-to-nftables",
    needs=["host-rules", "disruptive", "external-client"],
)
def test_node_port_passes_a_firewall(world):
    service = world.service(kind="NodePort", endpoints=world.backends(3))
    node = world.node_at("first")
    world.settle()

    with world.forwarding_nothing(node):
        world.everywhere("outside").each_must_reach_exactly(service.every_node_port(node), service)
