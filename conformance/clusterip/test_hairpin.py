# SPDX-License-Identifier: Apache-2.0
"""ClusterIP: an endpoint that reaches itself through its own Service."""

from conformance.sources import SECONDARY_FAMILY, VIRTUAL_IPS
from plugins.requirements import everywhere, requirement


def only_itself(world, node):
    return world.service(endpoints=world.node_at(node).backends[:1])


@requirement(
    "clusterip.hairpin.reaches-itself",
    must="A pod that is its Service's only endpoint MUST reach itself through the ClusterIP, "
    "and MUST see its node as the client.",
    level="core",
    since="1.7",
    source=VIRTUAL_IPS,
    upstream=[
        "Services should allow pods to hairpin back to themselves through services",
        "Networking Granular Checks: Services should function for endpoint-Service: http",
        "Networking Granular Checks: Services should function for endpoint-Service: udp",
        SECONDARY_FAMILY + "should function for endpoint-Service: http",
        SECONDARY_FAMILY + "should function for endpoint-Service: udp",
    ],
    arrange=only_itself,
)
@everywhere(protocol=["TCP", "UDP"], family=["IPv4", "IPv6"], node=["first", "second", "third"])
def test_endpoint_reaches_itself(world, service, protocol, family, node):
    itself = service.endpoints[0].backend

    flows = world.prober(itself.vantage).open(
        service.cluster_ip(family), protocol, count=service.enough_to_see_every_endpoint()
    )

    flows.must_reach_exactly({itself.name})
    assert {seen.client_seen.ip for seen in flows} <= node.own_addresses(family)
