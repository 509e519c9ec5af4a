# SPDX-License-Identifier: Apache-2.0
"""A Service that gains its second IP family, and loses it. Transitions: each pays for its own settling."""

from conformance.sources import DUAL_STACK
from plugins.requirements import everywhere, requirement

SOURCE = DUAL_STACK + "#switching-services-between-single-stack-and-dual-stack"


@requirement(
    "dual-stack.single-to-dual.both-cluster-ips-answer",
    must="A single-stack Service that becomes dual-stack MUST be served at its new ClusterIP and go on being served "
    "at its old one.",
    level="core",
    since="1.23",
    source=SOURCE,
)
@everywhere(family=["IPv4", "IPv6"])
def test_new_family_is_served(world, family):
    service = world.service(endpoints=world.backends(2), ipFamilyPolicy="SingleStack", ipFamilies=[family])
    world.settle()
    world.everywhere("pod", "node").each_must_stay_within_the_verdict(service.every_cluster_ip(), count=4)

    service.change(ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv4", "IPv6"][:: 1 if family == "IPv4" else -1])
    world.settle()

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)


@requirement(
    "dual-stack.dual-to-single.second-cluster-ip-is-gone",
    must="A dual-stack Service that becomes single-stack MUST go on being served at its first ClusterIP, "
    "and MUST NOT be at the second any more.",
    level="core",
    since="1.23",
    source=SOURCE,
)
@everywhere(family=["IPv4", "IPv6"])
def test_lost_family_falls_silent(world, family):
    families = ["IPv4", "IPv6"][:: 1 if family == "IPv4" else -1]
    service = world.service(endpoints=world.backends(2), ipFamilyPolicy="RequireDualStack", ipFamilies=families)
    both = service.every_cluster_ip()
    world.settle()
    world.everywhere("pod", "node").each_must_stay_within_the_verdict(both, count=4)

    service.change(ipFamilyPolicy="SingleStack")
    world.settle()

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)
    world.everywhere("pod", "node").each_must_stay_within_the_verdict(both, count=4)
