# SPDX-License-Identifier: Apache-2.0
"""Load balancers' IPs: an endpoint that reaches itself through its own Service."""

from conformance.sources import VIRTUAL_IPS
from plugins.requirements import requirement


def only_itself(world):
    return [
        world.service(
            kind="LoadBalancer",
            endpoints=node.backends[:1],
            ingress=world.virtual_ips(),
            externalTrafficPolicy=policy,
        )
        for node in world.nodes
        for policy in ("Cluster", "Local")
    ]


@requirement(
    "loadbalancer.hairpin.reaches-itself",
    must="A pod that is its Service's only endpoint MUST reach itself through the load balancer's IP, under either "
    "externalTrafficPolicy, and MUST see its node as the client.",
    level="extended",
    since="1.7",
    source=VIRTUAL_IPS,
    arrange=only_itself,
)
def test_endpoint_reaches_itself_through_its_load_balancer(world, service):
    for one in service:
        itself = world.at(one.endpoints[0].backend.vantage)

        itself.each_must_stay_within_the_verdict(one.every_load_balancer_ip(), count=2)
