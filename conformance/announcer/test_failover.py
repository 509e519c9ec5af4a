# SPDX-License-Identifier: Apache-2.0
"""The announcer on the node that leads dies; the node lives on, its proxy too. Another node has to take over."""

from conformance.sources import METALLB_ELECTION, METALLB_FAILOVER, METALLB_SPLIT
from plugins.announcing import announced, apart, killed, overhearing, settled
from plugins.packets import ip
from plugins.requirements import everywhere, requirement
from plugins.services import family_of

FAMILIES = ("IPv4", "IPv6")


def served_where_it_is_led(world, family):
    """A Service with one IP whose endpoints are all on the node that answers for it, and that node."""
    ips = [address for address in world.announced_ips() if family_of(address) == family]
    service = announced(world, endpoints=world.backends(3), ingress=ips)
    answers = settled(world, service)
    answers.must_be_right()
    (leader,) = (node for node in world.nodes if node.name in answers.leaders.values())
    service.set_endpoints(leader.backends)
    settled(world, service, of=[leader]).must_be_right()
    world.everywhere("outside").each_must_reach_exactly(service.every_load_balancer_ip(), service)
    return service, leader


@requirement(
    "announcer.failover.another-node-takes-over",
    must="When the announcer of the node that answers for an IP dies, another node, even if it has no endpoint of "
    "the Service, MUST make itself known unasked within ten seconds and answer, it alone, and traffic MUST enter "
    "there and be served.",
    level="extended",
    since="1.21",
    source=METALLB_FAILOVER,
    needs=["nodes:2", "external-client", "announcer", "disruptive"],
)
@everywhere(family=FAMILIES)
def test_another_node_takes_over(world, family):
    service, dead = served_where_it_is_led(world, family)

    with overhearing(world) as heard, killed(world, dead) as since:
        answers = settled(world, service)
        answers.must_be_right()
        with world.watching(**{node.name: node for node in world.nodes}) as wire:
            world.everywhere("outside").each_must_reach_exactly(service.every_load_balancer_ip(), service)

    heard.must_have_announced(world, answers.leaders, within=world.deadlines.failover, since=since)
    for address, leader in answers.leaders.items():
        wire.at(leader).must_have(ip(dst=address))
    settled(world, service, of=[dead])  # or its coming back would be in the next test's way


@requirement(
    "announcer.failover.comes-back",
    must="When an announcer that has died is back, its node MUST answer again for an IP that it had, it alone, since "
    "who answers depends on nothing but who may, and MUST make itself known unasked.",
    level="extended",
    since="1.21",
    source=METALLB_ELECTION,
    needs=["nodes:2", "external-client", "announcer", "disruptive"],
)
@everywhere(family=FAMILIES)
def test_comes_back(world, family):
    service, dead = served_where_it_is_led(world, family)
    with overhearing(world) as heard:
        with killed(world, dead):
            settled(world, service).must_be_right()
        since = world.now()
        answers = settled(world, service, of=[dead])

    answers.must_be_right()
    heard.must_have_announced(world, answers.leaders, within=world.deadlines.failover, since=since)
    world.everywhere("outside").each_must_reach_exactly(service.every_load_balancer_ip(), service)


@requirement(
    "announcer.failover.split-heals",
    should="When announcers that were out of touch, so that several nodes or none may have answered for an IP, are "
    "in touch again, the node that answered before SHOULD answer within ten seconds, it alone.",
    level="record",
    since="1.21",
    source=METALLB_SPLIT,
    needs=["nodes:3", "external-client", "announcer", "disruptive"],
)
@everywhere(family=FAMILIES)
def test_split_heals(world, family):
    service, leader = served_where_it_is_led(world, family)
    with apart(world, leader, [service]):
        pass

    try:
        settled(world, service, of=[leader]).must_be_right()
    finally:
        # They find each other when they start, whatever else becomes of them.
        with killed(world, leader):
            settled(world, service)
        settled(world, service, of=[leader])
