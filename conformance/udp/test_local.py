# SPDX-License-Identifier: Apache-2.0
"""UDP flows with one source port under Local policies: it is the node's own endpoints that count."""

from conformance.sources import VIRTUAL_IPS
from plugins.requirements import requirement
from plugins.services import Port

POLICIES = VIRTUAL_IPS + "#traffic-policies"


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
)
def test_flow_waits_for_an_endpoint_of_its_node(world):
    node = world.node_at("first")
    old, new = node.backends[:2]
    remote = world.node_at("second").backends[0]
    service = world.service(endpoints=[old, remote], ports=[Port(80, 8080, "UDP")], internalTrafficPolicy="Local")
    world.settle()

    with world.on(node).hold_each(service.every_cluster_ip()) as flows:
        flows.must_be_served_by(old)
        service.set_endpoints([remote])
        world.settle()
        flows.must_reach_nobody()
        service.set_endpoints([new, remote])
        world.settle()
        flows.must_be_served_by(new)


@requirement(
    "udp.external-local.endpoint-leaves-and-returns",
    must="Under externalTrafficPolicy Local a UDP flow from outside MUST NOT reach its endpoint once that has left "
    "the node where it arrives, and MUST be served again once that node has one.",
    level="extended",
    since="1.0",
    source=POLICIES,
    needs=["external-client", "lb-route"],
)
def test_flow_waits_for_an_endpoint_where_it_arrives(world):
    node = world.node_at("first")
    old, new = node.backends[:2]
    remote = world.node_at("second").backends[0]
    service = world.service(
        kind="LoadBalancer",
        endpoints=[old, remote],
        ports=[Port(80, 8080, "UDP")],
        ingress=world.virtual_ips(),
        externalTrafficPolicy="Local",
    )
    world.settle()
    targets = [*service.every_node_port(node), *service.every_load_balancer_ip()]

    with world.everywhere("outside").hold_each(targets) as flows:
        flows.must_be_served_by(old)
        service.set_endpoints([remote])
        world.settle()
        flows.must_reach_nobody()
        service.set_endpoints([new, remote])
        world.settle()
        flows.must_be_served_by(new)
