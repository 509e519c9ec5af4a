# SPDX-License-Identifier: Apache-2.0
"""The announcer on the node that leads dies; the node lives on, its proxy too. Another node has to take over."""

from conformance.sources import METALLB_FAILOVER
from plugins.announcing import announced, killed, overhearing, settled
from plugins.packets import ip
from plugins.requirements import requirement


def served_where_it_is_led(world):
    """A Service whose endpoints are all on the node that answers for its first IP, that node, and all IPs of it."""
    service = announced(world, endpoints=world.backends(3))
    answers = settled(world, service)
    answers.must_be_right()
    name = next(iter(answers.leaders.values()))
    leader = next(node for node in world.nodes if node.name == name)
    service.set_endpoints(leader.backends)
    answers = settled(world, service)
    answers.must_be_right()
    world.everywhere("outside").each_must_reach_exactly(service.every_load_balancer_ip(), service)
    return service, leader, {ip for ip, node in answers.leaders.items() if node == name}


def of(leaders, addresses):
    return {address: node for address, node in leaders.items() if address in addresses}


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
def test_another_node_takes_over(world):
    service, dead, lost = served_where_it_is_led(world)

    with overhearing(world) as heard, killed(world, dead) as since:
        answers = settled(world, service)
        answers.must_be_right()
        with world.watching(**{node.name: node for node in world.nodes}) as wire:
            world.everywhere("outside").each_must_reach_exactly(service.every_load_balancer_ip(), service)

    heard.must_have_announced(world, of(answers.leaders, lost), within=world.deadlines.failover, since=since)
    for address, leader in answers.leaders.items():
        wire.at(leader).must_have(ip(dst=address))


@requirement(
    "announcer.failover.comes-back",
    must="When an announcer that has died is back, exactly one node MUST answer for each IP again, and MUST have "
    "made itself known unasked if it is another than before.",
    level="extended",
    since="1.21",
    source=METALLB_FAILOVER,
    needs=["nodes:2", "external-client", "announcer", "disruptive"],
)
def test_comes_back(world):
    service, dead, _ = served_where_it_is_led(world)
    with killed(world, dead):
        before = settled(world, service)
        before.must_be_right()

    with overhearing(world) as heard:
        since = world.now()
        after = settled(world, service)
    after.must_be_right()

    moved = {ip for ip, node in after.leaders.items() if before.leaders[ip] != node}
    heard.must_have_announced(world, of(after.leaders, moved), within=world.deadlines.failover, since=since)
    world.everywhere("outside").each_must_reach_exactly(service.every_load_balancer_ip(), service)
