# SPDX-License-Identifier: Apache-2.0
"""UDP flows with one source port, whose Service changes, or goes, or is another one than the one that changes."""

from conformance.arrangements import beside_another
from conformance.sources import ISSUES, SERVICE, STALE_FLOWS_ONLY, VIRTUAL_IPS
from conformance.udp.test_endpoints import NEEDS, with_one_endpoint
from plugins.requirements import requirement
from plugins.services import Port

DELETED_SERVICES = "https://github.com/kubernetes/kubernetes/pull/141371"


def with_one_udp_endpoint(world):
    return world.service(endpoints=world.backends(1), ports=[Port(80, 8080, "UDP")])


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
    arrange=with_one_endpoint,
    changes=True,
)
def test_flow_follows_the_target_port(world, service):
    (only,) = world.backends(1)

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
    arrange=with_one_endpoint,
    changes=True,
)
def test_flow_ends_with_its_service(world, service):
    (only,) = world.backends(1)

    with world.hold_everywhere("UDP", service) as flows:
        flows.must_be_served_by(only)
        service.delete()
        world.settle()
        flows.must_reach_nobody()


@requirement(
    "udp.service.created-again",
    must="A UDP flow through a Service that was deleted, and created again before its new endpoints are, MUST reach "
    "those.",
    level="extended",
    since="1.0",
    source=SERVICE,
    arrange=with_one_udp_endpoint,
    changes=True,
)
def test_flow_follows_the_service_that_was_created_again(world, service):
    first, other = world.backends(2)

    with world.everywhere("pod", "node").hold_each(service.every_cluster_ip()) as flows:
        flows.must_be_served_by(first)
        service.delete()
        world.settle()
        service.create_again([], same_addresses=True)
        world.settle()
        service.set_endpoints([other])
        world.settle()
        flows.must_be_served_by(other)


@requirement(
    "udp.service.created-again-after-its-endpoints",
    must="A UDP flow through a Service that was deleted, and created again after its new endpoints are there, MUST "
    "reach those.",
    level="extended",
    since="1.0",
    source=SERVICE,
    arrange=with_one_udp_endpoint,
    changes=True,
)
def test_flow_follows_the_service_that_comes_after_its_endpoints(world, service):
    first, other = world.backends(2)

    with world.everywhere("pod", "node").hold_each(service.every_cluster_ip()) as flows:
        flows.must_be_served_by(first)
        service.delete()
        world.settle()
        service.set_endpoints([other])
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
    arrange=lambda world: beside_another(world, "UDP"),
    changes=True,
)
def test_flow_stays_whatever_other_services_do(world, service):
    own, other = service

    with world.hold_everywhere("UDP", own) as flows:
        for count in (1, 0):
            other.set_endpoints(world.backends(count))
            world.settle()
            flows.must_go_on()
        other.delete()
        world.settle()
        flows.must_go_on()


def beside_a_node_port_of_the_same_number(world):
    shared = world.backends(3)
    exposed = world.service(kind="NodePort", endpoints=shared, ports=[Port(80, 8080, "UDP")])
    number = exposed.live["spec"]["ports"][0]["nodePort"]
    return world.service(endpoints=shared, ports=[Port(number, 8080, "UDP")]), exposed


@requirement(
    "udp.service.same-number-as-a-node-port",
    should="A UDP flow to a port that has the number of another Service's node port SHOULD stay with its endpoint "
    "while that Service changes.",
    level="extended",
    since="1.0",
    source=ISSUES + "49881",
    arrange=beside_a_node_port_of_the_same_number,
    changes=True,
)
def test_flow_is_not_taken_for_one_through_a_node_port(world, service):
    own, exposed = service

    with world.everywhere("pod", "node").hold_each(own.every_cluster_ip()) as flows:
        exposed.set_endpoints(world.backends(5)[3:])
        world.settle()
        flows.must_go_on()
