# SPDX-License-Identifier: Apache-2.0
"""Endpoints on the nodes' host network: their addresses are the nodes' own."""

from conformance.sources import SERVICE
from plugins.requirements import everywhere, requirement


def on_host_networks(world):
    return world.service(kind="NodePort", endpoints=[node.host_backend for node in world.nodes])


@requirement(
    "endpoints.host-network.served",
    must="Endpoints on the nodes' host network MUST be served like any other, at the ClusterIP and at node ports, "
    "to pods and processes of the same node and of others, and to clients outside.",
    level="core",
    since="1.0",
    source=SERVICE,
    upstream=[
        "Networking Granular Checks: Services should function for service endpoints using hostNetwork",
        (
            "[Feature:IPv6DualStack] Granular Checks: Services Secondary IP Family [LinuxOnly] "
            "should function for service endpoints using hostNetwork"
        ),
    ],
    needs=["nodes:2", "external-client"],
    arrange=on_host_networks,
)
@everywhere(family=["IPv4", "IPv6"])
def test_host_network_endpoints_are_served(world, service, family):
    node_ports = [target for node in world.nodes for target in service.every_node_port(node, family=family)]

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)
    world.everywhere("outside").each_must_reach_exactly(node_ports, service)
