# SPDX-License-Identifier: Apache-2.0
"""SCTP beside TCP and UDP."""

from conformance.sources import SERVICE
from plugins.requirements import everywhere, requirement
from plugins.services import Port


def same_number(world):
    ports = [Port(80, 8080, "TCP"), Port(80, 8081, "UDP"), Port(80, 8082, "SCTP")]
    return world.service(endpoints=world.backends(2), ports=ports)


@requirement(
    "sctp.port.same-number-three-protocols",
    must="Ports of a Service with one number, for TCP, UDP and SCTP, MUST each lead to their own target port.",
    level="extended",
    since="1.20",
    source=SERVICE + "#protocol-support",
    upstream=["Services should serve endpoints on same port and different protocols"],
    features=["sctp"],
    needs=["sctp"],
    arrange=same_number,
)
@everywhere(family=["IPv4", "IPv6"])
def test_protocols_are_told_apart(world, service, family):
    targets = {port.protocol: port.target for port in service.ports}

    for flows in world.everywhere("pod", "node").open_each(service.every_cluster_ip(family=family)):
        flows.must_reach_exactly(service.ready_backends)
        assert {seen.served_at.port for seen in flows} == {targets[seen.protocol] for seen in flows}
