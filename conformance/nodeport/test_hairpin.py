# SPDX-License-Identifier: Apache-2.0
"""NodePort: an endpoint that reaches itself through its own Service."""

from conformance.sources import VIRTUAL_IPS
from plugins.requirements import requirement


def only_itself(world):
    return [
        world.service(kind="NodePort", endpoints=node.backends[:1], externalTrafficPolicy=policy)
        for node in world.nodes
        for policy in ("Cluster", "Local")
    ]


@requirement(
    "nodeport.hairpin.reaches-itself",
    must="A pod that is its Service's only endpoint MUST reach itself through the node port of its own node, "
    "under either externalTrafficPolicy, and MUST see its node as the client.",
    level="extended",
    since="1.7",
    source=VIRTUAL_IPS,
    upstream=[
        "Networking Granular Checks: Services should function for endpoint-Service: http",
        "Networking Granular Checks: Services should function for endpoint-Service: udp",
    ],
    arrange=only_itself,
)
def test_endpoint_reaches_itself_through_its_node_port(world, service):
    for one in service:
        itself = one.endpoints[0].backend
        node = next(node for node in world.nodes if node.name == itself.node)

        world.at(itself.vantage).each_must_stay_within_the_verdict(one.every_node_port(node), count=2)
