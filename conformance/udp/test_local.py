# SPDX-License-Identifier: Apache-2.0
"""UDP flows with one source port under Local policies: it is the node's own endpoints that count."""

from conformance.sources import VIRTUAL_IPS
from plugins.requirements import requirement
from plugins.services import Port

POLICIES = VIRTUAL_IPS + "#traffic-policies"


def on_two_nodes(world):
    return world.service(endpoints=world.backends(2), ports=[Port(80, 8080, "UDP")], internalTrafficPolicy="Local")


@requirement(
    "udp.internal-local.endpoint-leaves-and-returns",
    must="Under internalTrafficPolicy Local a UDP flow MUST NOT reach its endpoint once that has left the node, "
    "and MUST be served again once the node has one.",
    level="extended",
    since="1.26",
    source=POLICIES,
    upstream=[
        (
            "Conntrack should be able to preserve UDP traffic when server pod cycles for a ClusterIP service with "
            "InternalTrafficPolicy set to Local"
        )
    ],
    arrange=on_two_nodes,
    changes=True,
)
def test_flow_waits_for_an_endpoint_of_its_node(world, service):
    node = world.node_at("first")
    old, new = node.backends[:2]
    remote = world.node_at("second").backends[0]

    with world.on(node).hold_each(service.every_cluster_ip()) as flows:
        flows.must_be_served_by(old)
        service.set_endpoints([remote])
        world.settle()
        flows.must_reach_nobody()
        service.set_endpoints([new, remote])
        world.settle()
        flows.must_be_served_by(new)


def balanced_on_two_nodes(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=world.backends(2),
        ports=[Port(80, 8080, "UDP")],
        ingress=world.virtual_ips(),
        externalTrafficPolicy="Local",
    )


@requirement(
    "udp.external-local.endpoint-leaves-and-returns",
    must="Under externalTrafficPolicy Local a UDP flow from outside MUST NOT reach its endpoint once that has left "
    "the node where it arrives, and MUST be served again once that node has one.",
    level="extended",
    since="1.0",
    source=POLICIES,
    needs=["external-client", "lb-route"],
    arrange=balanced_on_two_nodes,
    changes=True,
)
def test_flow_waits_for_an_endpoint_where_it_arrives(world, service):
    node = world.node_at("first")
    old, new = node.backends[:2]
    remote = world.node_at("second").backends[0]
    targets = [*service.every_node_port(node), *service.every_load_balancer_ip()]

    with world.everywhere("outside").hold_each(targets) as flows:
        flows.must_be_served_by(old)
        service.set_endpoints([remote])
        world.settle()
        flows.must_reach_nobody()
        service.set_endpoints([new, remote])
        world.settle()
        flows.must_be_served_by(new)
