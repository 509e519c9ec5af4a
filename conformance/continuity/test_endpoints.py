# SPDX-License-Identifier: Apache-2.0
"""Established TCP connections, whose endpoint changes: nobody else could continue them.

There is a connection from every vantage to every frontend, and all of them must go on: the same connection, the same
endpoint, no reset.
"""

from conformance.arrangements import with_every_frontend
from conformance.sources import ISSUES, POD_LIFECYCLE, TERMINATING, VIRTUAL_IPS
from plugins.requirements import requirement
from plugins.slices import not_ready, terminating
from plugins.spread import open_again

NEEDS = ["external-client", "lb-route"]


@requirement(
    "continuity.endpoints.others-do-not-matter",
    must="An established connection MUST go on while other endpoints are added to its Service and removed again.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
    needs=NEEDS,
    arrange=lambda world: with_every_frontend(world, "TCP", world.backends(3)),
    changes=True,
)
def test_connection_goes_on_while_others_come_and_go(world, service):
    mine, others = world.backends(5)[:3], world.backends(5)[3:]

    with world.hold_everywhere("TCP", service) as connections:
        for endpoints in ([*others, *mine], mine):
            service.set_endpoints(endpoints)
            world.settle()
            connections.must_go_on()


def with_one_endpoint(world):
    return with_every_frontend(world, "TCP", world.backends(1))


@requirement(
    "continuity.endpoints.removed",
    must="An established connection MUST go on with an endpoint that has been removed from its Service and is alive.",
    level="extended",
    since="1.0",
    source=POD_LIFECYCLE + "#pod-termination",
    needs=NEEDS,
    arrange=with_one_endpoint,
    changes=True,
)
def test_connection_goes_on_with_a_removed_endpoint(world, service):
    mine, other = world.backends(2)

    with world.hold_everywhere("TCP", service) as connections:
        for endpoints in ([other], []):
            service.set_endpoints(endpoints)
            world.settle()
            connections.must_be_served_by(mine)


@requirement(
    "continuity.endpoints.terminating",
    must="An established connection MUST go on with its endpoint while that is terminating.",
    level="extended",
    since="1.26",
    source=TERMINATING,
    needs=NEEDS,
    arrange=with_one_endpoint,
    changes=True,
)
def test_connection_goes_on_with_a_terminating_endpoint(world, service):
    mine, other = world.backends(2)

    with world.hold_everywhere("TCP", service) as connections:
        service.set_endpoints([terminating(mine), other])
        world.settle()
        connections.must_be_served_by(mine)


def with_one_that_is_not_ready(world):
    mine, other = world.backends(2)
    return with_every_frontend(world, "TCP", [mine, not_ready(other)])


@requirement(
    "continuity.endpoints.readiness-flaps",
    must="An established connection MUST go on with its endpoint when that is not ready any more, "
    "and when it is ready again.",
    level="extended",
    since="1.0",
    source=POD_LIFECYCLE + "#pod-readiness-gate",
    needs=NEEDS,
    arrange=with_one_that_is_not_ready,
    changes=True,
)
def test_connection_goes_on_while_readiness_flaps(world, service):
    mine, other = world.backends(2)

    with world.hold_everywhere("TCP", service) as connections:
        for endpoints in ([not_ready(mine), other], [mine, other]):
            service.set_endpoints(endpoints)
            world.settle()
            connections.must_be_served_by(mine)


@requirement(
    "continuity.endpoints.source-ports-used-again",
    must="A new connection from a source port that a connection to a removed endpoint had MUST reach one of the "
    "endpoints that are left.",
    level="extended",
    since="1.20",
    source=ISSUES + "81775",
    arrange=lambda world: world.service(endpoints=world.backends(1)),
    changes=True,
)
def test_source_ports_are_used_again(world, service):
    _, other = world.backends(2)
    clients, targets = [world.vantage("pod"), world.vantage("node")], service.every_cluster_ip("TCP")
    before = [(client, target, client.open(*target, count=40)) for client in clients for target in targets]

    service.set_endpoints([other])
    world.settle()

    for client, target, flows in before:
        open_again(client, target, flows).must_reach_exactly(frozenset({other.name}))
