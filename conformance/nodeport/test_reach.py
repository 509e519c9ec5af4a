# SPDX-License-Identifier: Apache-2.0
"""NodePort: every node answers for every endpoint."""

from conformance.sources import SERVICE
from plugins.requirements import everywhere, requirement


def behind_a_node_port(world):
    return world.service(kind="NodePort", endpoints=world.backends(3))


PLACES = {
    "protocol": ["TCP", "UDP"],
    "family": ["IPv4", "IPv6"],
    "node": ["first", "second", "third"],
}


@requirement(
    "nodeport.reach.from-outside",
    must="A connection from outside the cluster to a node port MUST reach a ready endpoint through every node, "
    "and each endpoint MUST be reachable.",
    level="core",
    since="1.0",
    source=SERVICE + "#type-nodeport",
    upstream=["Services should be able to create a functioning NodePort service"],
    needs=["nodes:3", "external-client"],
    arrange=behind_a_node_port,
)
@everywhere(vantage=["outside"], **PLACES)
def test_node_port_from_outside(service, vantage, protocol, family, node):
    reach_all(service, vantage, protocol, family, node)


@requirement(
    "nodeport.reach.from-pod",
    must="A connection from a pod to a node port MUST reach a ready endpoint through its own and every other node, "
    "and each endpoint MUST be reachable.",
    level="core",
    since="1.0",
    source=SERVICE + "#type-nodeport",
    upstream=["Networking Granular Checks: Services should function for pod-Service: http"],
    needs=["nodes:3"],
    arrange=behind_a_node_port,
)
@everywhere(vantage=["pod"], **PLACES)
def test_node_port_from_a_pod(service, vantage, protocol, family, node):
    reach_all(service, vantage, protocol, family, node)


@requirement(
    "nodeport.reach.from-node",
    must="A connection from a node to a node port MUST reach a ready endpoint through its own and every other node, "
    "and each endpoint MUST be reachable.",
    level="core",
    since="1.0",
    source=SERVICE + "#type-nodeport",
    upstream=[
        "Networking Granular Checks: Services should function for node-Service: http",
        "Networking Granular Checks: Services should support basic nodePort: udp functionality",
    ],
    needs=["nodes:3"],
    arrange=behind_a_node_port,
)
@everywhere(vantage=["node"], **PLACES)
def test_node_port_from_a_node(service, vantage, protocol, family, node):
    reach_all(service, vantage, protocol, family, node)


def reach_all(service, vantage, protocol, family, node):
    frontend = service.node_port(node, family, protocol)

    flows = vantage.open(frontend, protocol, count=service.enough_to_see_every_endpoint())

    flows.must_reach_exactly(service.ready_backends)
