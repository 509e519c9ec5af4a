# SPDX-License-Identifier: Apache-2.0
"""SCTP: every kind of address of a Service leads to its endpoints."""

from conformance.sources import SERVICE
from plugins.requirements import everywhere, requirement
from plugins.services import Port

SOURCE = SERVICE + "#protocol-sctp"
SCTP = [Port(80, 8080, "SCTP")]


def over_sctp(world):
    return world.service(endpoints=world.backends(3), ports=SCTP)


@requirement(
    "sctp.clusterip.every-ready-endpoint",
    must="A new association with a ClusterIP's SCTP port MUST reach one of the ready endpoints, and each of them "
    "MUST be reachable.",
    level="extended",
    since="1.20",
    source=SOURCE,
    upstream=[
        "Networking Granular Checks: Services should function for pod-Service: sctp",
        "Networking Granular Checks: Services should function for node-Service: sctp",
        "[Feature:IPv6DualStack] Granular Checks: Services Secondary IP Family [LinuxOnly] should function for "
        "pod-Service: sctp",
    ],
    features=["sctp"],
    needs=["sctp"],
    arrange=over_sctp,
)
@everywhere(family=["IPv4", "IPv6"])
def test_cluster_ip(world, service, family):
    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)
