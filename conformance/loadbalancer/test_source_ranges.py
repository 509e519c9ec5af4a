# SPDX-License-Identifier: Apache-2.0
"""`loadBalancerSourceRanges`: who may use a load balancer's IPs. The platform's choice, so nothing here is core."""

from conformance.sources import FIREWALL, SERVICE_API
from plugins.requirements import everywhere, requirement

RANGES = {"IPv4": "/32", "IPv6": "/128"}


def ranges_of(*vantages):
    return [ip + RANGES[family] for vantage in vantages for family, ip in vantage.vantage.addresses.items()]


def one_pod_and_one_node(world):
    allowed = ranges_of(world.vantage("pod@first"), world.vantage("node@second"))
    return world.service(
        kind="LoadBalancer",
        endpoints=world.backends(2),
        ingress=world.virtual_ips(),
        loadBalancerSourceRanges=allowed,
    )


@requirement(
    "loadbalancer.source-ranges.only-clients-in-them",
    must="A load balancer's IP MUST answer clients whose address is in loadBalancerSourceRanges "
    "and MUST ignore all others, in the cluster and outside.",
    level="extended",
    since="1.5",
    source=FIREWALL,
    upstream=["LoadBalancers should only allow access from service loadbalancer source ranges"],
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=one_pod_and_one_node,
)
@everywhere(family=["IPv4", "IPv6"])
def test_source_ranges_let_only_their_clients_in(world, service, family):
    anyone = world.everywhere("pod", "node", "outside")

    anyone.each_must_reach_all_that_is_allowed(service.every_load_balancer_ip(family=family))


@requirement(
    "loadbalancer.source-ranges.guard-nothing-else",
    must="loadBalancerSourceRanges MUST NOT keep anybody from the Service's ClusterIP and node ports.",
    level="extended",
    since="1.5",
    source=SERVICE_API + "#ServiceSpec",
    needs=["nodes:2", "external-client"],
    arrange=one_pod_and_one_node,
)
@everywhere(family=["IPv4", "IPv6"])
def test_source_ranges_guard_nothing_else(world, service, family):
    node_ports = [target for node in world.nodes for target in service.every_node_port(node, family=family)]

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)
    world.everywhere("pod", "node", "outside").each_must_reach_exactly(node_ports, service)


@requirement(
    "loadbalancer.source-ranges.taken-away",
    must="A load balancer's IP MUST answer everybody once loadBalancerSourceRanges are gone.",
    level="extended",
    since="1.5",
    source=FIREWALL,
    upstream=["LoadBalancers should only allow access from service loadbalancer source ranges"],
    needs=["external-client", "lb-route"],
)
def test_without_source_ranges_everybody_is_let_in(world):
    anyone = world.everywhere("pod", "node", "outside")
    service = world.service(
        kind="LoadBalancer",
        endpoints=world.backends(2),
        ingress=world.virtual_ips(),
        loadBalancerSourceRanges=ranges_of(world.vantage("outside")),
    )
    world.settle()
    anyone.each_must_reach_all_that_is_allowed(service.every_load_balancer_ip())

    service.change(loadBalancerSourceRanges=None)
    world.settle()

    anyone.each_must_reach_exactly(service.every_load_balancer_ip(), service)
