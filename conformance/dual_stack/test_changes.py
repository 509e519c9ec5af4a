# SPDX-License-Identifier: Apache-2.0
"""A Service that gains its second IP family, and loses it."""

from conformance.sources import DUAL_STACK
from plugins.requirements import requirement

SOURCE = DUAL_STACK + "#switching-services-between-single-stack-and-dual-stack"
ORDERS = (["IPv4", "IPv6"], ["IPv6", "IPv4"])


def of_one_family_each(world):
    return [
        world.service(endpoints=world.backends(2), ipFamilyPolicy="SingleStack", ipFamilies=families[:1])
        for families in ORDERS
    ]


@requirement(
    "dual-stack.single-to-dual.both-cluster-ips-answer",
    must="A single-stack Service of either family that becomes dual-stack MUST be served at its new ClusterIP "
    "and go on being served at its old one.",
    level="core",
    since="1.23",
    source=SOURCE,
    arrange=of_one_family_each,
    changes=True,
)
def test_new_family_is_served(world, service):
    anyone = world.everywhere("pod", "node")
    before = [target for one in service for target in one.every_cluster_ip()]
    anyone.each_must_stay_within_the_verdict(before, count=4)

    for one, families in zip(service, ORDERS, strict=True):
        one.change(ipFamilyPolicy="RequireDualStack", ipFamilies=families)
    world.settle()

    after = [target for one in service for target in one.every_cluster_ip()]
    anyone.each_must_reach_exactly(after, world.backends(2))


def of_both_families_in_either_order(world):
    return [
        world.service(endpoints=world.backends(2), ipFamilyPolicy="RequireDualStack", ipFamilies=families)
        for families in ORDERS
    ]


@requirement(
    "dual-stack.dual-to-single.other-cluster-ip-is-gone",
    must="A dual-stack Service that becomes single-stack MUST go on being served at its first ClusterIP, "
    "and MUST NOT be at the other any more.",
    level="core",
    since="1.23",
    source=SOURCE,
    arrange=of_both_families_in_either_order,
    changes=True,
)
def test_lost_family_falls_silent(world, service):
    anyone = world.everywhere("pod", "node")
    both = [target for one in service for target in one.every_cluster_ip()]
    anyone.each_must_stay_within_the_verdict(both, count=4)

    for one in service:
        one.change(ipFamilyPolicy="SingleStack")
    world.settle()

    kept = [target for one in service for target in one.every_cluster_ip()]
    anyone.each_must_reach_exactly(kept, world.backends(2))
    anyone.each_must_stay_within_the_verdict(both, count=4)
