# SPDX-License-Identifier: Apache-2.0
"""SCTP: every kind of address of a Service leads to its endpoints."""

from conformance.sources import PROTOCOL_SCTP
from plugins.requirements import everywhere, requirement
from plugins.services import Port

SCTP = (Port(80, 8080, "SCTP"),)


def at_a_cluster_ip(world):
    return world.service(endpoints=world.backends(3), ports=SCTP)


@requirement(
    "sctp.reach.cluster-ip",
    must="A new association with an SCTP port of a ClusterIP MUST reach a ready endpoint, and each endpoint MUST be "
    "reachable.",
    level="extended",
    since="1.20",
    source=PROTOCOL_SCTP,
    upstream=[
        "Networking Granular Checks: Services should function for pod-Service: sctp",
        "Networking Granular Checks: Services should function for node-Service: sctp",
        (
            "[Feature:IPv6DualStack] Granular Checks: Services Secondary IP Family [LinuxOnly] "
            "should function for pod-Service: sctp"
        ),
    ],
    features=["sctp"],
    needs=["sctp"],
    arrange=at_a_cluster_ip,
)
@everywhere(family=["IPv4", "IPv6"])
def test_cluster_ip(world, service, family):
    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)


def at_node_ports(world):
    return world.service(kind="NodePort", endpoints=world.backends(2), ports=SCTP)


@requirement(
    "sctp.reach.node-port",
    must="A new association with an SCTP node port MUST reach a ready endpoint through every node, from outside, "
    "pods and nodes, and each endpoint MUST be reachable.",
    level="extended",
    since="1.20",
    source=PROTOCOL_SCTP,
    upstream=[
        "Networking Granular Checks: Services should function for pod-Service: sctp",
        "Networking Granular Checks: Services should function for node-Service: sctp",
        (
            "[Feature:IPv6DualStack] Granular Checks: Services Secondary IP Family [LinuxOnly] "
            "should function for pod-Service: sctp"
        ),
    ],
    features=["sctp"],
    needs=["sctp", "external-client"],
    arrange=at_node_ports,
)
@everywhere(family=["IPv4", "IPv6"])
def test_node_port(world, service, family):
    node_ports = [target for node in world.nodes for target in service.every_node_port(node, family=family)]

    world.everywhere("outside", "pod", "node").each_must_reach_exactly(node_ports, service)


def at_virtual_ips(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=world.backends(2),
        ports=SCTP,
        ingress=world.virtual_ips(),
        externalIPs=world.virtual_ips(through="second"),
    )


@requirement(
    "sctp.reach.virtual-ips",
    must="A new association with an SCTP port of a load balancer's IP or an external IP MUST reach a ready endpoint, "
    "from outside, from pods and from nodes, and each endpoint MUST be reachable.",
    level="extended",
    since="1.20",
    source=PROTOCOL_SCTP,
    features=["sctp"],
    needs=["nodes:2", "sctp", "external-client", "lb-route"],
    arrange=at_virtual_ips,
)
@everywhere(family=["IPv4", "IPv6"])
def test_virtual_ips(world, service, family):
    targets = [*service.every_load_balancer_ip(family=family), *service.every_external_ip(family=family)]

    world.everywhere("outside", "pod", "node").each_must_reach_exactly(targets, service)


def on_two_nodes(world):
    return world.service(kind="NodePort", endpoints=world.backends(2), ports=SCTP)


@requirement(
    "sctp.reach.from-an-endpoint",
    must="An endpoint MUST reach every endpoint of its own Service over SCTP, itself included, through the ClusterIP "
    "and through node ports.",
    level="extended",
    since="1.20",
    source=PROTOCOL_SCTP,
    upstream=["Networking Granular Checks: Services should function for endpoint-Service: sctp"],
    features=["sctp"],
    needs=["sctp"],
    arrange=on_two_nodes,
)
@everywhere(family=["IPv4", "IPv6"])
def test_from_an_endpoint(world, service, family):
    node_ports = [target for node in world.nodes[:2] for target in service.every_node_port(node, family=family)]

    for endpoint in service.endpoints:
        world.at(endpoint.backend.vantage).each_must_reach_exactly(
            [*service.every_cluster_ip(family=family), *node_ports], service
        )
