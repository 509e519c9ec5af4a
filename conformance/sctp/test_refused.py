# SPDX-License-Identifier: Apache-2.0
"""SCTP: a Service without endpoints refuses."""

from conformance.sources import VIRTUAL_IPS
from plugins.requirements import everywhere, requirement
from plugins.services import Port


def nobody(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=[],
        ports=[Port(80, 8080, "SCTP")],
        ingress=world.virtual_ips(),
        externalIPs=world.virtual_ips(through="second"),
    )


@requirement(
    "sctp.no-endpoints.refused",
    must="An INIT to a Service without endpoints MUST be answered with ICMP port unreachable, at a ClusterIP, a node "
    "port, a load balancer's IP and an external IP, from outside, from pods and from nodes.",
    level="extended",
    since="1.20",
    source=VIRTUAL_IPS,
    features=["sctp"],
    needs=["nodes:2", "sctp", "external-client", "lb-route"],
    arrange=nobody,
)
@everywhere(family=["IPv4", "IPv6"])
def test_init_is_refused(world, service, family):
    from_elsewhere = [
        *service.every_load_balancer_ip(family=family),
        *service.every_external_ip(family=family),
        *(target for node in world.nodes for target in service.every_node_port(node, family=family)),
    ]
    inside = world.everywhere("pod", "node")

    inside.each_must_stay_within_the_verdict([*service.every_cluster_ip(family=family), *from_elsewhere], count=2)
    world.everywhere("outside").each_must_stay_within_the_verdict(from_elsewhere, count=2)
