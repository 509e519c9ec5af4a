# SPDX-License-Identifier: Apache-2.0
"""internalTrafficPolicy Local: traffic to a ClusterIP stays on the client's own node."""

from conformance.sources import VIRTUAL_IPS
from plugins.requirements import everywhere, requirement

POLICY = VIRTUAL_IPS + "#internal-traffic-policy"


def on_every_node(world):
    endpoints = [backend for node in world.nodes for backend in node.backends[:2]]
    return world.service(endpoints=endpoints, internalTrafficPolicy="Local")


@requirement(
    "traffic-policy.internal-local.endpoints-of-the-node",
    must="Under internalTrafficPolicy Local a ClusterIP MUST lead pods and processes of a node to every ready "
    "endpoint on that node and to no other.",
    level="core",
    since="1.22",
    source=POLICY,
    upstream=[
        "Services should respect internalTrafficPolicy=Local Pod to Pod",
        "Services should respect internalTrafficPolicy=Local Pod (hostNetwork: true) to Pod",
    ],
    needs=["nodes:2"],
    arrange=on_every_node,
)
@everywhere(family=["IPv4", "IPv6"])
def test_cluster_ip_stays_on_the_node(world, service, family):
    for flows in world.everywhere("pod", "node").open_each(service.every_cluster_ip(family=family)):
        flows.must_reach_all_that_is_allowed()
        assert {seen.backend.partition(".")[0] for seen in flows} == {seen.node for seen in flows}


def on_one_node(world):
    return world.service(endpoints=world.node_at("first").backends[:1], internalTrafficPolicy="Local")


@requirement(
    "traffic-policy.internal-local.dropped-without-local-endpoints",
    must="Under internalTrafficPolicy Local traffic to a ClusterIP MUST be dropped on a node without endpoints, "
    "while a node with endpoints MUST serve it.",
    level="core",
    since="1.22",
    source=POLICY,
    upstream=[
        "Services should respect internalTrafficPolicy=Local Pod to Pod",
        "Services should respect internalTrafficPolicy=Local Pod (hostNetwork: true) to Pod",
    ],
    needs=["nodes:2"],
    arrange=on_one_node,
)
def test_cluster_ip_is_dropped_elsewhere(world, service):
    world.everywhere("pod", "node").each_must_reach_all_that_is_allowed(service.every_cluster_ip())


def on_the_host_network(world):
    return world.service(endpoints=[world.node_at("first").host_backend], internalTrafficPolicy="Local")


@requirement(
    "traffic-policy.internal-local.host-network-endpoint",
    must="Under internalTrafficPolicy Local an endpoint on a node's host network MUST serve that node's pods and "
    "processes, and no other node's.",
    level="core",
    since="1.22",
    source=POLICY,
    upstream=["Services should respect internalTrafficPolicy=Local Pod and Node, to Pod (hostNetwork: true)"],
    needs=["nodes:2"],
    arrange=on_the_host_network,
)
def test_host_network_endpoint_serves_its_node(world, service):
    world.everywhere("pod", "node").each_must_reach_all_that_is_allowed(service.every_cluster_ip())


def with_node_ports(world):
    return world.service(
        kind="NodePort", endpoints=world.node_at("second").backends[:1], internalTrafficPolicy="Local"
    )


@requirement(
    "traffic-policy.internal-local.says-nothing-about-node-ports",
    must="internalTrafficPolicy Local MUST NOT keep anybody from reaching endpoints of other nodes at a node port.",
    level="core",
    since="1.22",
    source=POLICY,
    needs=["nodes:2", "external-client"],
    arrange=with_node_ports,
)
@everywhere(family=["IPv4", "IPv6"])
def test_node_ports_are_not_bound_by_the_internal_policy(world, service, family):
    node_ports = [target for node in world.nodes for target in service.every_node_port(node, family=family)]

    world.everywhere("outside").each_must_reach_exactly(node_ports, service)


def with_virtual_ips(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=world.node_at("second").backends[:1],
        ingress=world.virtual_ips(),
        externalIPs=world.virtual_ips(),
        internalTrafficPolicy="Local",
    )


@requirement(
    "traffic-policy.internal-local.says-nothing-about-external-ips",
    must="internalTrafficPolicy Local MUST NOT keep pods, nodes or clients outside from reaching endpoints of other "
    "nodes at a load balancer's IP or at an external IP.",
    level="extended",
    since="1.22",
    source=POLICY,
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=with_virtual_ips,
)
@everywhere(family=["IPv4", "IPv6"])
def test_external_ips_are_not_bound_by_the_internal_policy(world, service, family):
    targets = [*service.every_load_balancer_ip(family=family), *service.every_external_ip(family=family)]

    world.everywhere("pod", "node", "outside").each_must_reach_exactly(targets, service)


@requirement(
    "traffic-policy.internal-local.changed",
    must="A Service whose internalTrafficPolicy changes to Local MUST be served by the endpoints of the client's own "
    "node alone, and by all of them once it has changed back to Cluster.",
    level="extended",
    since="1.22",
    source=POLICY,
    needs=["nodes:2"],
)
def test_internal_policy_changes(world):
    service = world.service(endpoints=[node.backends[0] for node in world.nodes])
    for policy in ("Cluster", "Local", "Cluster"):
        service.change(internalTrafficPolicy=policy)
        world.settle()

        world.everywhere("pod", "node").each_must_reach_all_that_is_allowed(service.every_cluster_ip())
