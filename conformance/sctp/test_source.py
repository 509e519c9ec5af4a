# SPDX-License-Identifier: Apache-2.0
"""SCTP: the client's address as an endpoint sees it, and traffic policies, which are the same as for TCP and UDP."""

from conformance.sources import PROTOCOL_SCTP, SOURCE_IP
from plugins.requirements import everywhere, requirement
from plugins.services import Port

SCTP = (Port(80, 8080, "SCTP"),)


def behind_both(world):
    return world.service(kind="NodePort", endpoints=world.backends(2), ports=SCTP)


@requirement(
    "sctp.source.shown",
    must="An endpoint that another pod reaches over SCTP MUST see that pod's address through a ClusterIP, and an "
    "address of the node that was dialled through a node port.",
    level="extended",
    since="1.20",
    source=SOURCE_IP,
    features=["sctp"],
    needs=["sctp"],
    arrange=behind_both,
)
@everywhere(family=["IPv4", "IPv6"])
def test_whom_an_endpoint_sees(world, service, family):
    pods = world.everywhere("pod")

    for flows in pods.open_each(service.every_cluster_ip(family=family)):
        flows.must_reach_exactly(service.ready_backends)
        assert {seen.client_seen.ip for seen in flows} == {seen.src.ip for seen in flows}
    for node in world.nodes:
        for flows in pods.open_each(service.every_node_port(node, family=family)):
            flows.must_reach_exactly(service.ready_backends)
            assert {seen.client_seen.ip for seen in flows} <= node.own_addresses(family)


def on_the_first_node(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=world.node_at("first").backends[:2],
        ports=SCTP,
        ingress=[*world.virtual_ips(through="first"), *world.virtual_ips(through="second")],
        externalTrafficPolicy="Local",
    )


@requirement(
    "sctp.external-local.endpoints-of-the-node",
    must="Under externalTrafficPolicy Local an association from outside MUST reach the endpoints of the node that it "
    "arrives at, with the client's address kept, and MUST be dropped on a node without any.",
    level="extended",
    since="1.20",
    source=PROTOCOL_SCTP,
    features=["sctp"],
    needs=["nodes:2", "sctp", "external-client", "lb-route"],
    arrange=on_the_first_node,
)
def test_external_traffic_policy_local(world, service):
    node_ports = [target for node in world.nodes for target in service.every_node_port(node)]

    for flows in world.everywhere("outside").open_each([*service.every_load_balancer_ip(), *node_ports]):
        flows.must_reach_all_that_is_allowed()
        assert {seen.client_seen.ip for seen in flows if seen.client_seen} <= {seen.src.ip for seen in flows}
