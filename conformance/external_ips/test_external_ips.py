# SPDX-License-Identifier: Apache-2.0
"""`externalIPs`: addresses that an administrator leads to the nodes; optional, so nothing here is core."""

from conformance.sources import SERVICE
from plugins.requirements import everywhere, requirement

SOURCE = SERVICE + "#external-ips"


def at_an_external_ip(world):
    return world.service(endpoints=world.backends(3), externalIPs=world.virtual_ips())


@requirement(
    "external-ips.reach.every-ready-endpoint",
    must="A connection to an external IP of a Service MUST reach a ready endpoint, from pods, nodes and outside, "
    "and each endpoint MUST be reachable.",
    level="extended",
    since="1.0",
    source=SOURCE,
    upstream=[
        (
            "Services should be possible to connect to a service via ExternalIP "
            "when the external IP is not assigned to a node"
        )
    ],
    needs=["external-client", "lb-route"],
    arrange=at_an_external_ip,
)
@everywhere(family=["IPv4", "IPv6"])
def test_external_ip_answers(world, service, family):
    anyone = world.everywhere("pod", "node", "outside")

    anyone.each_must_reach_exactly(service.every_external_ip(family=family), service)


def under_local_policy(world):
    return [
        world.service(
            kind="NodePort",
            endpoints=world.node_at("first").backends[:1],
            externalIPs=world.virtual_ips(through=node),
            externalTrafficPolicy="Local",
        )
        for node in ("first", "second")
    ]


@requirement(
    "external-ips.local.only-endpoints-of-the-node",
    must="Under externalTrafficPolicy Local an external IP MUST lead from outside to endpoints of the node that the "
    "traffic arrives at, with the client's address kept, and MUST lead nowhere on a node without any.",
    level="extended",
    since="1.7",
    source=SOURCE,
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=under_local_policy,
)
@everywhere(family=["IPv4", "IPv6"])
def test_external_ip_under_local_policy(world, service, family):
    targets = [target for one in service for target in one.every_external_ip(family=family)]

    world.everywhere("outside").each_must_reach_all_that_is_allowed(targets)


@requirement(
    "external-ips.removed",
    must="An external IP that is taken from a Service MUST NOT lead to its endpoints any more.",
    level="extended",
    since="1.0",
    source=SOURCE,
    needs=["external-client", "lb-route"],
    arrange=lambda world: world.service(endpoints=world.backends(2), externalIPs=world.virtual_ips()),
    changes=True,
)
def test_removed_external_ip_falls_silent(world, service):
    anyone = world.everywhere("pod", "node", "outside")
    removed = service.every_external_ip()
    anyone.each_must_stay_within_the_verdict(removed, count=4)

    service.change(externalIPs=None)
    world.settle()

    anyone.each_must_stay_within_the_verdict(removed, count=4)
