# SPDX-License-Identifier: Apache-2.0
"""Load balancers' addresses (`status.loadBalancer`): every node answers for them, as for a ClusterIP."""

from conformance.sources import SERVICE, VIRTUAL_IPS
from plugins.requirements import everywhere, requirement


def behind_a_load_balancer(world):
    return world.service(kind="LoadBalancer", endpoints=world.backends(3), ingress=world.virtual_ips())


@requirement(
    "loadbalancer.reach.from-pod",
    must="A connection from a pod to a load balancer's IP MUST reach a ready endpoint, whichever node the pod is on, "
    "and each endpoint MUST be reachable.",
    level="core",
    since="1.0",
    source=SERVICE + "#loadbalancer",
    upstream=["LoadBalancers should be able to change the type and ports of a TCP service"],
    arrange=behind_a_load_balancer,
)
@everywhere(family=["IPv4", "IPv6"])
def test_load_balancer_ip_from_pods(world, service, family):
    world.everywhere("pod").each_must_reach_exactly(service.every_load_balancer_ip(family=family), service)


@requirement(
    "loadbalancer.reach.from-node",
    must="A connection from a process on a node to a load balancer's IP MUST reach a ready endpoint, "
    "and each endpoint MUST be reachable.",
    level="core",
    since="1.0",
    source=SERVICE + "#loadbalancer",
    arrange=behind_a_load_balancer,
)
@everywhere(family=["IPv4", "IPv6"])
def test_load_balancer_ip_from_nodes(world, service, family):
    world.everywhere("node").each_must_reach_exactly(service.every_load_balancer_ip(family=family), service)


def entered_at(world, node):
    return world.service(kind="LoadBalancer", endpoints=world.backends(3), ingress=world.virtual_ips(through=node))


@requirement(
    "loadbalancer.reach.from-outside",
    must="Traffic that a load balancer delivers to any node with its own IP as the destination MUST reach a ready "
    "endpoint on any node, and each endpoint MUST be reachable.",
    level="core",
    since="1.0",
    source=SERVICE + "#loadbalancer",
    upstream=[
        "LoadBalancers should be able to change the type and ports of a TCP service",
        "LoadBalancers should be able to change the type and ports of a UDP service",
    ],
    needs=["nodes:3", "external-client", "lb-route"],
    arrange=entered_at,
)
@everywhere(family=["IPv4", "IPv6"], node=["first", "second", "third"])
def test_load_balancer_ip_from_outside(world, service, family, node):  # noqa: ARG001 - where the traffic enters
    world.everywhere("outside").each_must_reach_exactly(service.every_load_balancer_ip(family=family), service)


def without_endpoints(world):
    return world.service(kind="LoadBalancer", endpoints=[], ingress=world.virtual_ips())


@requirement(
    "loadbalancer.no-endpoints.refused",
    must="A connection to the IP of a load balancer without endpoints MUST be refused with ICMP port unreachable, "
    "from pods and from outside.",
    level="core",
    since="1.7",
    source=VIRTUAL_IPS,
    upstream=["LoadBalancers should be able to change the type and ports of a UDP service"],
    needs=["external-client", "lb-route"],
    arrange=without_endpoints,
)
@everywhere(family=["IPv4", "IPv6"])
def test_load_balancer_ip_without_endpoints_refuses(world, service, family):
    anyone = world.everywhere("pod", "outside")

    anyone.each_must_stay_within_the_verdict(service.every_load_balancer_ip(family=family), count=4)


def without_node_ports(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=world.backends(2),
        ingress=world.virtual_ips(),
        allocateLoadBalancerNodePorts=False,
    )


@requirement(
    "loadbalancer.node-ports.not-needed",
    must="A load balancer's IP MUST reach every ready endpoint of a Service that has no node ports "
    "(allocateLoadBalancerNodePorts: false).",
    level="core",
    since="1.24",
    source=SERVICE + "#load-balancer-nodeport-allocation",
    upstream=["LoadBalancers should be able to create LoadBalancer Service without NodePort and change it"],
    needs=["external-client", "lb-route"],
    arrange=without_node_ports,
)
@everywhere(family=["IPv4", "IPv6"])
def test_load_balancer_needs_no_node_ports(world, service, family):
    assert not any("nodePort" in port for port in service.live["spec"]["ports"])

    anyone = world.everywhere("pod", "node", "outside")

    anyone.each_must_reach_exactly(service.every_load_balancer_ip(family=family), service)
