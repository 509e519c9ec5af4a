# SPDX-License-Identifier: Apache-2.0
"""Established TCP connections, whose Service changes: what it says from now on is for new connections."""

from conformance.arrangements import beside_another, with_every_frontend
from conformance.continuity.test_endpoints import NEEDS
from conformance.sources import SERVICE, VIRTUAL_IPS
from plugins.requirements import requirement
from plugins.services import Port


def with_three_endpoints(world):
    return with_every_frontend(world, "TCP", world.backends(3))


@requirement(
    "continuity.service.port-added",
    must="An established connection MUST go on while another port is added to its Service and removed again.",
    level="extended",
    since="1.0",
    source=SERVICE,
    needs=NEEDS,
    arrange=with_three_endpoints,
    changes=True,
)
def test_connection_goes_on_while_ports_come_and_go(world, service):
    one, another = Port(80, 8080, "TCP"), Port(81, 8081, "TCP")

    with world.hold_everywhere("TCP", service) as connections:
        for ports in ([another, one], [one]):
            service.change(ports=ports)
            service.set_endpoints(world.backends(3))
            world.settle()
            connections.must_go_on()


@requirement(
    "continuity.service.affinity-switched",
    must="An established connection MUST go on while session affinity is switched on and off again.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS + "#session-affinity",
    needs=NEEDS,
    arrange=with_three_endpoints,
    changes=True,
)
def test_connection_goes_on_while_affinity_is_switched(world, service):
    with world.hold_everywhere("TCP", service) as connections:
        service.change(sessionAffinity="ClientIP")
        world.settle()
        connections.must_go_on()
        service.change(sessionAffinity="None", sessionAffinityConfig=None)
        world.settle()
        connections.must_go_on()


def with_two_endpoints(world):
    return with_every_frontend(world, "TCP", world.backends(2))


@requirement(
    "continuity.service.policy-flipped",
    must="An established connection MUST go on when the traffic policies of its Service become Local, "
    "and when they become Cluster again.",
    level="extended",
    since="1.26",
    source=VIRTUAL_IPS + "#traffic-policies",
    needs=NEEDS,
    arrange=with_two_endpoints,
    changes=True,
)
def test_connection_goes_on_while_policies_flip(world, service):
    with world.hold_everywhere("TCP", service) as connections:
        for policy in ("Local", "Cluster"):
            service.change(externalTrafficPolicy=policy, internalTrafficPolicy=policy)
            world.settle()
            connections.must_go_on()


@requirement(
    "continuity.service.deleted",
    should="An established connection SHOULD go on when its Service is deleted.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
    needs=NEEDS,
    arrange=with_two_endpoints,
    changes=True,
)
def test_connection_goes_on_without_its_service(world, service):
    with world.hold_everywhere("TCP", service) as connections:
        service.delete()
        world.settle()
        connections.must_go_on()


@requirement(
    "continuity.service.others-do-not-matter",
    must="An established connection MUST go on while other Services that share its endpoints and addresses change "
    "and go.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
    needs=NEEDS,
    arrange=lambda world: beside_another(world, "TCP"),
    changes=True,
)
def test_connection_goes_on_whatever_other_services_do(world, service):
    own, other = service

    with world.hold_everywhere("TCP", own) as connections:
        for count in (1, 0):
            other.set_endpoints(world.backends(count))
            world.settle()
            connections.must_go_on()
        other.delete()
        world.settle()
        connections.must_go_on()
