# SPDX-License-Identifier: Apache-2.0
"""Load balancers' addresses: several, of either mode, and gone."""

from conformance.sources import IP_MODE, SERVICE, SERVICE_API
from plugins.requirements import everywhere, requirement


def several_ips(world):
    addresses = [*world.virtual_ips(through="first"), *world.virtual_ips(through="second")]
    return world.service(kind="LoadBalancer", endpoints=world.backends(1), ingress=addresses)


@requirement(
    "loadbalancer.ingress.every-ip",
    must="Each of several IPs in a load balancer's status MUST lead to every ready endpoint.",
    level="core",
    since="1.0",
    source=SERVICE_API + "#ServiceStatus",
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=several_ips,
)
@everywhere(family=["IPv4", "IPv6"])
def test_every_ingress_ip_answers(world, service, family):
    anyone = world.everywhere("pod", "node", "outside")

    anyone.each_must_reach_exactly(service.every_load_balancer_ip(family=family), service)


def with_a_name(world):
    addresses = [{"ip": ip} for ip in world.virtual_ips()]
    return world.service(
        kind="LoadBalancer", endpoints=world.backends(2), ingress=[{"hostname": "balancer.example"}, *addresses]
    )


@requirement(
    "loadbalancer.ingress.hostname-beside-ips",
    must="A host name in a load balancer's status MUST NOT keep nodes from answering for the IPs beside it.",
    level="extended",
    since="1.0",
    source=SERVICE_API + "#ServiceStatus",
    needs=["external-client", "lb-route"],
    arrange=with_a_name,
)
def test_hostname_does_no_harm(world, service):
    anyone = world.everywhere("pod", "node", "outside")

    anyone.each_must_reach_exactly(service.every_load_balancer_ip(), service)


def at_a_nodes_address(world):
    node = world.node_at("second")
    balanced = world.service(
        kind="LoadBalancer",
        endpoints=world.backends(2),
        ingress=[node.addresses[family] for family in world.families],
    )
    return balanced, world.service(kind="NodePort", endpoints=[node.host_backend])


@requirement(
    "loadbalancer.ingress.nodes-own-address",
    must="An IP in a load balancer's status that is a node's own address MUST lead to the Service at its ports, and "
    "every other port MUST go on leading to the node's own processes and to node ports.",
    level="extended",
    since="1.0",
    source=SERVICE_API + "#ServiceStatus",
    needs=["nodes:2", "external-client"],
)
def test_nodes_own_address(world):
    # On its own: a proxy that gives the address to every node cuts the node off, and what is arranged beside it.
    balanced, other = at_a_nodes_address(world)
    world.settle()
    process = other.endpoints[0]
    own = [target for family in world.families for target in other.at_endpoint(process, family)]
    others = [*other.every_node_port(world.node_at("second")), *own]
    anyone = world.everywhere("pod", "node", "outside")

    anyone.each_must_stay_within_the_verdict(balanced.every_load_balancer_ip(), count=4)
    anyone.each_must_reach_exactly(others, [process.backend])


def both_modes(world):
    def balanced(mode):
        ingress = [{"ip": ip, "ipMode": mode} for ip in world.virtual_ips()]
        return world.service(kind="LoadBalancer", endpoints=world.backends(2), ingress=ingress)

    return balanced("VIP"), balanced("Proxy")


@requirement(
    "loadbalancer.ip-mode.proxy-is-left-to-the-balancer",
    must="Nodes MUST NOT answer for a load balancer's IP whose ipMode is Proxy, while they MUST for one whose ipMode "
    "is VIP.",
    level="core",
    since="1.30",
    source=SERVICE + "#load-balancer-ip-mode",
    needs=["external-client", "lb-route"],
    arrange=both_modes,
)
@everywhere(family=["IPv4", "IPv6"])
def test_proxy_mode_ip_is_left_to_the_balancer(world, service, family):
    nodes, balancer = service
    anyone = world.everywhere("pod", "node", "outside")

    anyone.each_must_reach_exactly(nodes.every_load_balancer_ip(family=family), nodes)
    anyone.each_must_stay_within_the_verdict(balancer.every_load_balancer_ip(family=family), count=4)


@requirement(
    "loadbalancer.ip-mode.proxy-keeps-other-frontends",
    must="A Service whose load balancer's ipMode is Proxy MUST be served at its ClusterIP and its node ports.",
    level="core",
    since="1.30",
    source=IP_MODE,
    upstream=[
        (
            "Services should serve endpoints on same port and different protocol "
            "for internal traffic on Type LoadBalancer"
        )
    ],
    needs=["external-client"],
    arrange=both_modes,
)
@everywhere(family=["IPv4", "IPv6"])
def test_proxy_mode_leaves_other_frontends(world, service, family):
    _, balancer = service

    world.everywhere("pod", "node").each_must_reach_exactly(balancer.every_cluster_ip(family=family), balancer)
    node_ports = [target for node in world.nodes for target in balancer.every_node_port(node, family=family)]
    world.everywhere("outside").each_must_reach_exactly(node_ports, balancer)


def at_two_ips(world):
    stays, goes = ([{"ip": ip} for ip in world.virtual_ips()] for _ in range(2))
    balanced = world.service(kind="LoadBalancer", endpoints=world.backends(2), ingress=[*stays, *goes])
    return balanced, stays, goes


@requirement(
    "loadbalancer.ingress.withdrawn",
    must="An IP that is taken out of a load balancer's status MUST NOT lead to the endpoints any more, "
    "and those that remain MUST.",
    level="core",
    since="1.0",
    source=SERVICE_API + "#ServiceStatus",
    upstream=["LoadBalancers should be able to change the type and ports of a TCP service"],
    needs=["external-client", "lb-route"],
    arrange=at_two_ips,
    changes=True,
)
def test_withdrawn_ip_falls_silent(world, service):
    anyone = world.everywhere("pod", "node", "outside")
    balanced, stays, goes = service
    withdrawn = [target for item in goes for target in balanced.at("LoadBalancer", item["ip"])]
    anyone.each_must_stay_within_the_verdict(balanced.every_load_balancer_ip(), count=4)

    balanced.set_ingress(*stays)
    world.settle()

    anyone.each_must_reach_exactly(balanced.every_load_balancer_ip(), balanced)
    anyone.each_must_stay_within_the_verdict(withdrawn, count=4)
