# SPDX-License-Identifier: Apache-2.0
"""A proxy that is started again on every node: what it had programmed stays, and follows the API again."""

from conformance.arrangements import with_every_frontend
from conformance.sources import ISSUES
from plugins.requirements import requirement

NEEDS = ["external-client", "lb-route", "proxy-restart"]


@requirement(
    "continuity.restart.connections-go-on",
    must="An established connection MUST go on while the proxy is restarted, and each endpoint MUST get new "
    "connections afterwards.",
    level="extended",
    since="1.15",
    source=ISSUES + "73154",
    needs=NEEDS,
)
def test_connections_go_on(world):
    service = with_every_frontend(world, "TCP", world.backends(3))
    world.settle()

    with world.hold_everywhere("TCP", service) as connections:
        world.restart_proxy()
        connections.must_go_on()
    reach_each(world, service)


@requirement(
    "continuity.restart.endpoint-comes-back",
    must="An endpoint that was removed before the proxy was restarted, with connections that went on, MUST get new "
    "connections when it comes back.",
    level="extended",
    since="1.26",
    source=ISSUES + "108319",
    needs=NEEDS,
)
def test_endpoint_comes_back(world):
    mine, other = world.backends(2)
    service = with_every_frontend(world, "TCP", [mine])
    world.settle()

    with world.hold_everywhere("TCP", service) as connections:
        service.set_endpoints([other])
        world.settle()
        world.restart_proxy()
        connections.must_be_served_by(mine)
        service.set_endpoints([mine, other])
        world.settle()
        reach_each(world, service)


def reach_each(world, service):
    """Every endpoint gets new connections, through every frontend."""
    inside, outside = world.everywhere("pod", "node"), world.everywhere("outside")
    inside.each_must_reach_exactly(service.every_cluster_ip(), service)
    outside.each_must_reach_exactly(world.outer_frontends(service), service)
