# SPDX-License-Identifier: Apache-2.0
"""Load balancers whose address, ports or node ports change."""

from conformance.sources import SERVICE, SERVICE_API
from plugins.requirements import requirement
from plugins.services import Port

UPSTREAM = [
    "LoadBalancers should be able to change the type and ports of a TCP service",
    "LoadBalancers should be able to change the type and ports of a UDP service",
]


def balanced(world):
    return world.service(kind="LoadBalancer", endpoints=world.backends(2), ingress=world.virtual_ips())


def node_ports_of(world, service):
    return [target for node in world.nodes for target in service.every_node_port(node)]


@requirement(
    "loadbalancer.ingress.replaced",
    must="An IP that takes another's place in a load balancer's status MUST lead to every ready endpoint, "
    "and the one it replaces MUST NOT lead to any.",
    level="extended",
    since="1.0",
    source=SERVICE_API + "#ServiceStatus",
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=balanced,
    changes=True,
)
def test_replaced_ip(world, service):
    anyone = world.everywhere("pod", "node", "outside")
    replaced = service.every_load_balancer_ip()
    anyone.each_must_stay_within_the_verdict(replaced, count=4)

    service.set_ingress(*({"ip": ip} for ip in world.virtual_ips(through="second")))
    world.settle()

    anyone.each_must_reach_exactly(service.every_load_balancer_ip(), service)
    anyone.each_must_stay_within_the_verdict(replaced, count=4)


@requirement(
    "loadbalancer.port.changed",
    must="A load balancer's Service whose port gets another number MUST be served at the new one, at its ClusterIP "
    "and at the load balancer's IP, and MUST NOT be at the old one any more.",
    level="extended",
    since="1.0",
    source=SERVICE + "#loadbalancer",
    upstream=UPSTREAM,
    needs=["external-client", "lb-route"],
    arrange=balanced,
    changes=True,
)
def test_port_gets_another_number(world, service):
    inside, outside = world.everywhere("pod", "node"), world.everywhere("outside")
    old = [*service.every_cluster_ip(), *service.every_load_balancer_ip()]
    inside.each_must_stay_within_the_verdict(old, count=4)

    service.change(ports=[Port(443, 8080, protocol) for protocol in ("TCP", "UDP")])
    service.set_slices(*service.slices)
    world.settle()

    new = [*service.every_cluster_ip(), *service.every_load_balancer_ip()]
    inside.each_must_stay_within_the_verdict([*old, *new], count=4)
    outside.each_must_stay_within_the_verdict(service.every_load_balancer_ip(), count=4)


def without_node_ports(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=world.backends(2),
        ingress=world.virtual_ips(),
        allocateLoadBalancerNodePorts=False,
    )


@requirement(
    "loadbalancer.node-ports.asked-for-later",
    must="A load balancer's Service that gets node ports later (allocateLoadBalancerNodePorts: true) MUST be served "
    "there, and MUST go on being served at the load balancer's IP.",
    level="extended",
    since="1.24",
    source=SERVICE + "#load-balancer-nodeport-allocation",
    upstream=["LoadBalancers should be able to create LoadBalancer Service without NodePort and change it"],
    needs=["external-client", "lb-route"],
    arrange=without_node_ports,
    changes=True,
)
def test_node_ports_that_come_later(world, service):
    anyone = world.everywhere("pod", "node", "outside")
    anyone.each_must_stay_within_the_verdict(service.every_load_balancer_ip(), count=4)

    service.change(allocateLoadBalancerNodePorts=True)
    world.settle()

    ways_in = [*service.every_load_balancer_ip(), *node_ports_of(world, service)]
    anyone.each_must_stay_within_the_verdict(ways_in, count=4)
