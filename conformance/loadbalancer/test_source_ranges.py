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


def restricted_at_one_of_two(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=world.backends(2),
        ingress=world.virtual_ips(),
        externalIPs=world.virtual_ips(),
        loadBalancerSourceRanges=ranges_of(world.vantage("pod@first")),
    )


@requirement(
    "loadbalancer.source-ranges.not-at-external-ips",
    must="loadBalancerSourceRanges MUST NOT keep anybody from the Service's external IPs, beside a load balancer's "
    "IP that they guard.",
    level="extended",
    since="1.5",
    source=SERVICE_API + "#ServiceSpec",
    needs=["external-client", "lb-route"],
    arrange=restricted_at_one_of_two,
)
def test_source_ranges_leave_external_ips_alone(world, service):
    ways_in = [*service.every_external_ip(), *service.every_load_balancer_ip()]

    world.everywhere("pod", "node", "outside").each_must_stay_within_the_verdict(ways_in, count=2)


def outside_alone(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=world.backends(2),
        ingress=world.virtual_ips(),
        loadBalancerSourceRanges=ranges_of(world.vantage("outside")),
    )


@requirement(
    "loadbalancer.source-ranges.taken-away",
    must="A load balancer's IP MUST answer everybody once loadBalancerSourceRanges are gone.",
    level="extended",
    since="1.5",
    source=FIREWALL,
    upstream=["LoadBalancers should only allow access from service loadbalancer source ranges"],
    needs=["external-client", "lb-route"],
    arrange=outside_alone,
    changes=True,
)
def test_without_source_ranges_everybody_is_let_in(world, service):
    anyone = world.everywhere("pod", "node", "outside")
    anyone.each_must_reach_all_that_is_allowed(service.every_load_balancer_ip())

    service.change(loadBalancerSourceRanges=None)
    world.settle()

    anyone.each_must_reach_exactly(service.every_load_balancer_ip(), service)


def at_two_ips(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=world.backends(2),
        ingress=[*world.virtual_ips(through="first"), *world.virtual_ips(through="second")],
        loadBalancerSourceRanges=ranges_of(world.vantage("pod@second"), world.vantage("node@first")),
    )


@requirement(
    "loadbalancer.source-ranges.at-every-ip",
    must="loadBalancerSourceRanges MUST decide alike at each of a load balancer's several IPs, for pods, nodes and "
    "clients outside.",
    level="extended",
    since="1.5",
    source=FIREWALL,
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=at_two_ips,
)
def test_source_ranges_hold_at_every_ip(world, service):
    anyone = world.everywhere("pod", "node", "outside")

    anyone.each_must_stay_within_the_verdict(service.every_load_balancer_ip(), count=2)


def wide_ranges(world):
    pods = world.node_at("second").pod_cidrs
    return [
        world.service(
            kind="LoadBalancer",
            endpoints=world.backends(2),
            ingress=world.virtual_ips(),
            loadBalancerSourceRanges=ranges,
        )
        for ranges in (["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"], list(pods))
    ]


@requirement(
    "loadbalancer.source-ranges.of-any-length",
    must="A range in loadBalancerSourceRanges MUST let in every client whose address lies in it, be it a node's pods "
    "or half of all addresses.",
    level="extended",
    since="1.5",
    source=FIREWALL,
    upstream=["LoadBalancers should only allow access from service loadbalancer source ranges"],
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=wide_ranges,
)
def test_source_ranges_of_any_length(world, service):
    everybody, pods = service
    anyone = world.everywhere("pod", "node", "outside")

    ways_in = [*everybody.every_load_balancer_ip(), *pods.every_load_balancer_ip()]
    anyone.each_must_stay_within_the_verdict(ways_in, count=2)


def restricted_beside_others(world):
    def balanced(port, addresses, *allowed):
        return world.service(
            kind="LoadBalancer",
            endpoints=world.backends(2),
            port=port,
            ingress=addresses,
            loadBalancerSourceRanges=ranges_of(*allowed) or None,
        )

    shared = world.virtual_ips()
    return [
        balanced(80, shared, world.vantage("pod@first")),
        balanced(443, shared),
        balanced(80, world.virtual_ips(), world.vantage("pod@second")),
    ]


@requirement(
    "loadbalancer.source-ranges.of-their-own-service",
    must="loadBalancerSourceRanges MUST decide about their own Service's ports only, not about those of another one "
    "at the same IP or at another.",
    level="extended",
    since="1.5",
    source=SERVICE_API + "#ServiceSpec",
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=restricted_beside_others,
)
def test_source_ranges_are_their_own_services(world, service):
    anyone = world.everywhere("pod", "node", "outside")

    ways_in = [way for one in service for way in one.every_load_balancer_ip()]
    anyone.each_must_stay_within_the_verdict(ways_in, count=2)


def one_pod_and_outside(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=world.backends(2),
        ingress=world.virtual_ips(),
        loadBalancerSourceRanges=ranges_of(world.vantage("pod@first"), world.vantage("outside")),
    )


@requirement(
    "loadbalancer.source-ranges.changed",
    must="Once loadBalancerSourceRanges are changed, a load balancer's IP MUST answer the clients in the new ones "
    "and MUST ignore those that were only in the old.",
    level="extended",
    since="1.5",
    source=FIREWALL,
    upstream=["LoadBalancers should only allow access from service loadbalancer source ranges"],
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=one_pod_and_outside,
    changes=True,
)
def test_changed_source_ranges_decide(world, service):
    anyone = world.everywhere("pod", "node", "outside")
    world.at(world.vantage("pod@first").vantage).each_must_stay_within_the_verdict(
        service.every_load_balancer_ip(), count=4
    )

    service.change(loadBalancerSourceRanges=ranges_of(world.vantage("pod@second"), world.vantage("outside")))
    world.settle()

    anyone.each_must_stay_within_the_verdict(service.every_load_balancer_ip(), count=4)
