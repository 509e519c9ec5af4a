# SPDX-License-Identifier: Apache-2.0
"""UDP flows with one source port, whose Service changes, or goes, or is another one than the one that changes."""

from conformance.arrangements import with_every_frontend
from conformance.sources import ISSUES, SERVICE, STALE_FLOWS_ONLY, VIRTUAL_IPS
from conformance.udp.test_endpoints import NEEDS
from plugins.requirements import requirement
from plugins.services import Port

DELETED_SERVICES = "https://github.com/kubernetes/kubernetes/pull/141371"


@requirement(
    "udp.service.target-port-changed",
    must="A UDP flow MUST reach the new target port of its Service once that has changed, and not the old one.",
    level="extended",
    since="1.32",
    source=VIRTUAL_IPS,
    upstream=[
        (
            "Conntrack should be able to cleanup conntrack entries when UDP service target port changes for a "
            "NodePort service"
        ),
        (
            "Conntrack should be able to cleanup conntrack entries when UDP service target port changes for a "
            "ClusterIP service"
        ),
    ],
    needs=NEEDS,
)
def test_flow_follows_the_target_port(world):
    (only,) = world.backends(1)
    service = with_every_frontend(world, "UDP", [only])
    world.settle()

    with world.hold_everywhere("UDP", service) as flows:
        flows.must_be_served_by(only)
        service.change(ports=[Port(80, 8081, "UDP")])
        service.set_endpoints([only])
        world.settle()
        flows.must_be_served_by(only)


@requirement(
    "udp.service.deleted",
    must="A UDP flow MUST NOT reach an endpoint through a Service that has been deleted.",
    level="extended",
    since="1.0",
    source=DELETED_SERVICES,
    needs=NEEDS,
)
def test_flow_ends_with_its_service(world):
    (only,) = world.backends(1)
    service = with_every_frontend(world, "UDP", [only])
    world.settle()

    with world.hold_everywhere("UDP", service) as flows:
        flows.must_be_served_by(only)
        service.delete()
        world.settle()
        flows.must_reach_nobody()


@requirement(
    "udp.service.created-again",
    must="A UDP flow through a Service that was deleted, and created again with other endpoints, MUST reach those.",
    level="extended",
    since="1.0",
    source=SERVICE,
)
def test_flow_follows_the_service_that_was_created_again(world):
    first, other = world.backends(2)
    service = world.service(endpoints=[first], ports=[Port(80, 8080, "UDP")])
    world.settle()

    with world.everywhere("pod", "node").hold_each(service.every_cluster_ip()) as flows:
        flows.must_be_served_by(first)
        service.delete()
        world.settle()
        service.create_again([other], same_addresses=True)
        world.settle()
        flows.must_be_served_by(other)


@requirement(
    "udp.service.others-do-not-matter",
    must="A UDP flow MUST stay with its endpoint while other Services that share its endpoints and addresses change "
    "and go.",
    level="extended",
    since="1.32",
    source=STALE_FLOWS_ONLY,
    needs=NEEDS,
)
def test_flow_stays_whatever_other_services_do(world):
    shared = world.backends(3)
    other = with_every_frontend(world, "UDP", shared)
    service = world.service(
        endpoints=shared, ports=[Port(81, 8080, "UDP")], externalIPs=other.live["spec"]["externalIPs"]
    )
    world.settle()

    with world.hold_everywhere("UDP", service) as flows:
        for count in (1, 0):
            other.set_endpoints(world.backends(count))
            world.settle()
            flows.must_go_on()
        other.delete()
        world.settle()
        flows.must_go_on()


@requirement(
    "udp.service.same-number-as-a-node-port",
    should="A UDP flow to a port that has the number of another Service's node port SHOULD stay with its endpoint "
    "while that Service changes.",
    level="extended",
    since="1.0",
    source=ISSUES + "49881",
)
def test_flow_is_not_taken_for_one_through_a_node_port(world):
    mine, other = world.backends(5)[:3], world.backends(5)[3:]
    exposed = world.service(kind="NodePort", endpoints=mine, ports=[Port(80, 8080, "UDP")])
    number = exposed.live["spec"]["ports"][0]["nodePort"]
    service = world.service(endpoints=mine, ports=[Port(number, 8080, "UDP")])
    world.settle()

    with world.everywhere("pod", "node").hold_each(service.every_cluster_ip()) as flows:
        exposed.set_endpoints(other)
        world.settle()
        flows.must_go_on()
