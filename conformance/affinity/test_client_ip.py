# SPDX-License-Identifier: Apache-2.0
"""Session affinity ClientIP: one client, one endpoint."""

from conformance.sources import ISSUES, VIRTUAL_IPS
from plugins.requirements import everywhere, requirement
from plugins.services import Port
from plugins.slices import not_ready

SOURCE = VIRTUAL_IPS + "#session-affinity"
# By chance three endpoints look like one to 30 new connections once in 3^29.
ENOUGH = 30


def sticky(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=world.backends(3),
        ingress=world.virtual_ips(),
        externalIPs=world.virtual_ips(through="second"),
        sessionAffinity="ClientIP",
    )


@requirement(
    "affinity.client-ip.cluster-ip",
    must="Under ClientIP affinity all connections of a client to a ClusterIP MUST reach one and the same endpoint.",
    level="core",
    since="1.0",
    source=SOURCE,
    upstream=[
        "Services should have session affinity work for service with type clusterIP",
        "Networking Granular Checks: Services should function for client IP based session affinity: http",
        "Networking Granular Checks: Services should function for client IP based session affinity: udp",
        (
            "[Feature:IPv6DualStack] Granular Checks: Services Secondary IP Family [LinuxOnly] should function for "
            "client IP based session affinity: http"
        ),
        (
            "[Feature:IPv6DualStack] Granular Checks: Services Secondary IP Family [LinuxOnly] should function for "
            "client IP based session affinity: udp"
        ),
    ],
    arrange=sticky,
)
@everywhere(family=["IPv4", "IPv6"])
def test_client_sticks_at_the_cluster_ip(world, service, family):
    world.everywhere("pod", "node").each_must_stick_to_one(service.every_cluster_ip(family=family), count=ENOUGH)


@requirement(
    "affinity.client-ip.node-port",
    must="Under ClientIP affinity all connections of a client to a node's node port MUST reach one and the same "
    "endpoint.",
    level="core",
    since="1.0",
    source=SOURCE,
    upstream=["Services should have session affinity work for NodePort service"],
    needs=["external-client"],
    arrange=sticky,
)
@everywhere(family=["IPv4", "IPv6"])
def test_client_sticks_at_a_node_port(world, service, family):
    for node in world.nodes:
        node_ports = service.every_node_port(node, family=family)

        world.everywhere("outside", "pod").each_must_stick_to_one(node_ports, count=ENOUGH)


@requirement(
    "affinity.client-ip.load-balancer",
    must="Under ClientIP affinity all connections of a client to a load balancer's IP MUST reach one and the same "
    "endpoint.",
    level="core",
    since="1.0",
    source=SOURCE,
    upstream=["LoadBalancers should have session affinity work for LoadBalancer service with Cluster traffic policy"],
    needs=["external-client", "lb-route"],
    arrange=sticky,
)
@everywhere(family=["IPv4", "IPv6"])
def test_client_sticks_at_the_load_balancer(world, service, family):
    anyone = world.everywhere("outside", "pod", "node")

    anyone.each_must_stick_to_one(service.every_load_balancer_ip(family=family), count=ENOUGH)


@requirement(
    "affinity.client-ip.external-ip",
    must="Under ClientIP affinity all connections of a client to an external IP MUST reach one and the same "
    "endpoint.",
    level="extended",
    since="1.0",
    source=SOURCE,
    needs=["external-client", "lb-route"],
    arrange=sticky,
)
@everywhere(family=["IPv4", "IPv6"])
def test_client_sticks_at_an_external_ip(world, service, family):
    anyone = world.everywhere("outside", "pod", "node")

    anyone.each_must_stick_to_one(service.every_external_ip(family=family), count=ENOUGH)


@requirement(
    "affinity.client-ip.clients-are-spread",
    must="Under ClientIP affinity different clients MUST NOT all be sent to one endpoint.",
    level="extended",
    since="1.0",
    source=SOURCE,
    needs=["external-client"],
    arrange=lambda world: world.service(kind="NodePort", endpoints=world.backends(6), sessionAffinity="ClientIP"),
)
def test_clients_are_spread(world, service):
    clients = world.crowd("outside", "pod", "node")

    world.pin(clients.lines(service.every_node_port(world.node_at("first")))).must_be_spread()


@requirement(
    "affinity.client-ip.one-for-all-ports",
    must="Under ClientIP affinity all connections of a client to a Service MUST reach one and the same endpoint, "
    "whichever of its ports they go to.",
    level="record",
    since="1.0",
    source=ISSUES + "103000",
    arrange=lambda world: world.service(
        endpoints=world.backends(6),
        ports=[Port(80, 8080, "TCP"), Port(81, 8081, "TCP")],
        sessionAffinity="ClientIP",
    ),
)
def test_client_sticks_at_all_ports(world, service):
    clients = world.everywhere("pod", "node")
    one, other = (
        clients.lines([(service.cluster_ip(family, port), "TCP") for family in world.families]) for port in (80, 81)
    )

    world.pin(one).elsewhere(other).must_hold()


@requirement(
    "affinity.client-ip.switched-off",
    must="Once ClientIP affinity is taken from a Service, its clients MUST reach every ready endpoint again.",
    level="core",
    since="1.0",
    source=SOURCE,
    upstream=[
        "Services should be able to switch session affinity for service with type clusterIP",
        "Services should be able to switch session affinity for NodePort service",
    ],
    arrange=lambda world: world.service(endpoints=world.backends(2), sessionAffinity="ClientIP"),
    changes=True,
)
def test_affinity_is_switched_off(world, service):
    anyone = world.everywhere("pod", "node")
    anyone.each_must_stick_to_one(service.every_cluster_ip(), count=ENOUGH)

    service.change(sessionAffinity="None", sessionAffinityConfig=None)
    world.settle()

    anyone.each_must_reach_exactly(service.every_cluster_ip(), service)


def two_services_with_one_endpoint(world):
    """It is all that any client can be with."""
    return [world.service(endpoints=world.backends(1), sessionAffinity="ClientIP") for _ in range(2)]


@requirement(
    "affinity.client-ip.endpoint-gone",
    must="A client whose endpoint has left the Service, or is no longer ready, MUST be served by another one.",
    level="core",
    since="1.0",
    source=SOURCE,
    arrange=two_services_with_one_endpoint,
    changes=True,
)
def test_clients_leave_an_endpoint_that_is_gone(world, service):
    anyone = world.everywhere("pod", "node")
    one, other = world.backends(2)
    removed, unready = service
    anyone.each_must_stick_to_one([*removed.every_cluster_ip(), *unready.every_cluster_ip()], count=2)

    removed.set_endpoints([other])
    unready.set_endpoints([not_ready(one), other])
    world.settle()

    anyone.each_must_reach_exactly([*removed.every_cluster_ip(), *unready.every_cluster_ip()], [other])
