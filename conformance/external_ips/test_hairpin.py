# SPDX-License-Identifier: Apache-2.0
"""`externalIPs`: an endpoint that reaches itself through its own Service."""

from conformance.sources import SERVICE
from plugins.requirements import requirement


def only_itself(world):
    return [
        world.service(
            kind="NodePort",
            endpoints=node.backends[:1],
            externalIPs=world.virtual_ips(),
            externalTrafficPolicy=policy,
        )
        for node in world.nodes
        for policy in ("Cluster", "Local")
    ]


@requirement(
    "external-ips.hairpin.reaches-itself",
    must="A pod that is its Service's only endpoint MUST reach itself through an external IP, under either "
    "externalTrafficPolicy, and MUST see its node as the client.",
    level="extended",
    since="1.7",
    source=SERVICE + "#external-ips",
    needs=["lb-route"],
    arrange=only_itself,
)
def test_endpoint_reaches_itself_through_an_external_ip(world, service):
    for one in service:
        itself = world.at(one.endpoints[0].backend.vantage)

        itself.each_must_stay_within_the_verdict(one.every_external_ip(), count=2)
