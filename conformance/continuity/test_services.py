# SPDX-License-Identifier: Apache-2.0
"""Established TCP connections, whose Service changes: what it says from now on is for new connections."""

from conformance.arrangements import with_every_frontend
from conformance.continuity.test_endpoints import NEEDS
from conformance.sources import SERVICE, VIRTUAL_IPS
from plugins.requirements import requirement
from plugins.services import Port


@requirement(
    "continuity.service.port-added",
    must="An established connection MUST go on while another port is added to its Service and removed again.",
    level="extended",
    since="1.0",
    source=SERVICE,
    needs=NEEDS,
)
def test_connection_goes_on_while_ports_come_and_go(world):
    service = with_every_frontend(world, "TCP", world.backends(3))
    one, another = Port(80, 8080, "TCP"), Port(81, 8081, "TCP")
    world.settle()

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
)
def test_connection_goes_on_while_affinity_is_switched(world):
    service = with_every_frontend(world, "TCP", world.backends(3))
    world.settle()

    with world.hold_everywhere("TCP", service) as connections:
        service.change(sessionAffinity="ClientIP")
        world.settle()
        connections.must_go_on()
        service.change(sessionAffinity="None", sessionAffinityConfig=None)
        world.settle()
        connections.must_go_on()


@requirement(
    "continuity.service.policy-flipped",
    must="An established connection MUST go on when the traffic policies of its Service become Local, "
    "and when they become Cluster again.",
    level="extended",
    since="1.26",
    source=VIRTUAL_IPS + "#traffic-policies",
    needs=NEEDS,
)
def test_connection_goes_on_while_policies_flip(world):
    service = with_every_frontend(world, "TCP", world.backends(2))
    world.settle()

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
)
def test_connection_goes_on_without_its_service(world):
    service = with_every_frontend(world, "TCP", world.backends(2))
    world.settle()

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
)
def test_connection_goes_on_whatever_other_services_do(world):
    shared = world.backends(3)
    other = with_every_frontend(world, "TCP", shared)
    service = world.service(
        endpoints=shared, ports=[Port(81, 8080, "TCP")], externalIPs=other.live["spec"]["externalIPs"]
    )
    world.settle()

    with world.hold_everywhere("TCP", service) as connections:
        for count in (1, 0):
            other.set_endpoints(world.backends(count))
            world.settle()
            connections.must_go_on()
        other.delete()
        world.settle()
        connections.must_go_on()
