# SPDX-License-Identifier: Apache-2.0
"""UDP flows with one source port, whose endpoint changes: what was decided for them once must not outlive it.

For ClusterIPs `clusterip.udp.flow-leaves-removed-endpoint` says the same; here are the other frontends, and the
other ways in which an endpoint may come and go. Wherever frontends are not what a requirement is about, there is a
flow from every vantage to each of them.
"""

from conformance.arrangements import with_every_frontend
from conformance.sources import ISSUES, STALE_FLOWS_ONLY, TERMINATING, VIRTUAL_IPS
from plugins.requirements import requirement
from plugins.services import Port
from plugins.slices import not_ready, terminating

NEEDS = ["external-client", "lb-route"]


def one_behind_a_node_port(world):
    return world.service(kind="NodePort", endpoints=world.backends(1), ports=[Port(80, 8080, "UDP")])


@requirement(
    "udp.node-port.flow-leaves-removed-endpoint",
    must="A UDP flow through a node port MUST move to a remaining endpoint once its own has been removed.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
    upstream=["Conntrack should be able to preserve UDP traffic when server pod cycles for a NodePort service"],
    needs=["external-client"],
    arrange=one_behind_a_node_port,
    changes=True,
)
def test_flow_through_a_node_port_moves(world, service):
    first, other = world.backends(2)

    with world.everywhere("outside", "pod", "node").hold_each(world.outer_frontends(service)) as flows:
        flows.must_be_served_by(first)
        service.set_endpoints([other])
        world.settle()
        flows.must_be_served_by(other)


def with_one_endpoint(world):
    return with_every_frontend(world, "UDP", world.backends(1))


@requirement(
    "udp.external.flow-leaves-removed-endpoint",
    must="A UDP flow through a load balancer's IP or an external IP MUST move to a remaining endpoint once its own "
    "has been removed, whether that is on the same node or on another one.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
    upstream=[
        (
            "LoadBalancers should be able to preserve UDP traffic when server pod cycles for a LoadBalancer service "
            "on different nodes"
        ),
        (
            "LoadBalancers should be able to preserve UDP traffic when server pod cycles for a LoadBalancer service "
            "on the same nodes"
        ),
    ],
    needs=NEEDS,
    arrange=with_one_endpoint,
    changes=True,
)
def test_flow_through_an_external_address_moves(world, service):
    here, neighbour = world.node_at("first").backends[:2]
    elsewhere = world.node_at("second").backends[0]
    targets = [*service.every_load_balancer_ip(), *service.every_external_ip()]

    with world.everywhere("outside", "pod", "node").hold_each(targets) as flows:
        flows.must_be_served_by(here)
        for other in (neighbour, elsewhere):
            service.set_endpoints([other])
            world.settle()
            flows.must_be_served_by(other)


@requirement(
    "udp.endpoints.first-one-is-used",
    must="A UDP flow that began while its Service had no endpoint MUST be served once it has one.",
    level="extended",
    since="1.0",
    source=ISSUES + "48370",
    upstream=[
        "Conntrack should be able to preserve UDP traffic when server pod cycles for a NodePort service",
        "Conntrack should be able to preserve UDP traffic when server pod cycles for a ClusterIP service",
        (
            "Conntrack should be able to preserve UDP traffic when server pod cycles for a ClusterIP service and "
            "client is hostNetwork"
        ),
    ],
    needs=NEEDS,
    arrange=lambda world: with_every_frontend(world, "UDP", []),
    changes=True,
)
def test_flow_from_before_the_first_endpoint_is_served(world, service):
    (first,) = world.backends(1)

    with world.hold_everywhere("UDP", service) as flows:
        flows.must_reach_nobody()
        service.set_endpoints([first])
        world.settle()
        flows.must_be_served_by(first)


def without_node_ports(world):
    return with_every_frontend(world, "UDP", world.backends(1), allocateLoadBalancerNodePorts=False)


@requirement(
    "udp.endpoints.last-one-is-left",
    must="A UDP flow through a ClusterIP, an external IP or a load balancer's IP MUST NOT reach its endpoint any "
    "more once that was removed as the last of its Service.",
    level="extended",
    since="1.0",
    source=ISSUES + "139628",
    needs=NEEDS,
    arrange=without_node_ports,
    changes=True,
)
def test_flow_leaves_the_last_endpoint(world, service):
    (last,) = world.backends(1)

    with world.hold_everywhere("UDP", service) as flows:
        flows.must_be_served_by(last)
        service.set_endpoints([])
        world.settle()
        flows.must_reach_nobody()


@requirement(
    "udp.node-port.last-endpoint-is-left",
    must="A UDP flow through a node port MUST NOT reach its endpoint any more once that was removed as the last of "
    "its Service.",
    level="extended",
    since="1.0",
    source=ISSUES + "139628",
    needs=["external-client"],
    arrange=one_behind_a_node_port,
    changes=True,
)
def test_flow_through_a_node_port_leaves_the_last_endpoint(world, service):
    (last,) = world.backends(1)

    with world.everywhere("outside", "pod", "node").hold_each(world.outer_frontends(service)) as flows:
        flows.must_be_served_by(last)
        service.set_endpoints([])
        world.settle()
        flows.must_reach_nobody()


@requirement(
    "udp.endpoints.none-and-back",
    must="A UDP flow whose Service lost all endpoints MUST be served by those that it has later.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
    needs=NEEDS,
    arrange=with_one_endpoint,
    changes=True,
)
def test_flow_survives_a_time_without_endpoints(world, service):
    first, other = world.backends(2)

    with world.hold_everywhere("UDP", service) as flows:
        flows.must_be_served_by(first)
        for endpoints in ([], [other]):
            service.set_endpoints(endpoints)
            world.settle()
        flows.must_be_served_by(other)


@requirement(
    "udp.endpoints.becomes-ready",
    must="A UDP flow that began while its Service's endpoints were not ready MUST be served once one is.",
    level="extended",
    since="1.22",
    source=ISSUES + "105657",
    upstream=["Conntrack should be able to preserve UDP traffic when initial unready endpoints get ready"],
    needs=NEEDS,
    arrange=lambda world: with_every_frontend(world, "UDP", [not_ready(*world.backends(1))]),
    changes=True,
)
def test_flow_is_served_once_an_endpoint_is_ready(world, service):
    (only,) = world.backends(1)

    with world.hold_everywhere("UDP", service) as flows:
        flows.must_reach_nobody()
        service.set_endpoints([only])
        world.settle()
        flows.must_be_served_by(only)


def with_one_that_is_not_ready(world):
    first, other = world.backends(2)
    return with_every_frontend(world, "UDP", [first, not_ready(other)])


@requirement(
    "udp.endpoints.not-ready-is-left",
    must="A UDP flow MUST move to a ready endpoint once its own is no longer ready.",
    level="extended",
    since="1.22",
    source=VIRTUAL_IPS,
    needs=NEEDS,
    arrange=with_one_that_is_not_ready,
    changes=True,
)
def test_flow_leaves_an_endpoint_that_is_not_ready(world, service):
    first, other = world.backends(2)

    with world.hold_everywhere("UDP", service) as flows:
        flows.must_be_served_by(first)
        service.set_endpoints([not_ready(first), other])
        world.settle()
        flows.must_be_served_by(other)


@requirement(
    "udp.endpoints.terminating-goes-on",
    must="A UDP flow MUST stay with an endpoint that is terminating while that is serving, "
    "and MUST move to another one once it is not.",
    level="extended",
    since="1.26",
    source=TERMINATING,
    needs=NEEDS,
    arrange=with_one_endpoint,
    changes=True,
)
def test_flow_stays_while_its_endpoint_serves(world, service):
    first, other = world.backends(2)

    with world.hold_everywhere("UDP", service) as flows:
        service.set_endpoints([terminating(first), other])
        world.settle()
        flows.must_be_served_by(first)
        service.set_endpoints([terminating(first, serving=False), other])
        world.settle()
        flows.must_be_served_by(other)


@requirement(
    "udp.endpoints.others-do-not-matter",
    must="A UDP flow MUST stay with its endpoint while others are added to its Service and removed again.",
    level="extended",
    since="1.32",
    source=STALE_FLOWS_ONLY,
    needs=NEEDS,
    arrange=with_one_endpoint,
    changes=True,
)
def test_flow_stays_while_others_come_and_go(world, service):
    mine, *others = world.backends(4)

    with world.hold_everywhere("UDP", service) as flows:
        for endpoints in ([mine, *others], [mine, others[0]]):
            service.set_endpoints(endpoints)
            world.settle()
            flows.must_be_served_by(mine)
