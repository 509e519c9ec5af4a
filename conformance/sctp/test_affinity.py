# SPDX-License-Identifier: Apache-2.0
"""SCTP: session affinity ClientIP."""

from conformance.sources import VIRTUAL_IPS
from plugins.requirements import everywhere, requirement
from plugins.services import Port

# By chance three endpoints look like one to 15 new associations once in 3^14, from each vantage.
ENOUGH = 15


def sticky(world):
    ports = [Port(80, 8080, "SCTP")]
    return world.service(kind="NodePort", endpoints=world.backends(3), ports=ports, sessionAffinity="ClientIP")


@requirement(
    "sctp.affinity.client-ip",
    must="Under ClientIP affinity all associations of a client with a ClusterIP, or with a node port, MUST reach one "
    "and the same endpoint.",
    level="extended",
    since="1.20",
    source=VIRTUAL_IPS + "#session-affinity",
    features=["sctp"],
    needs=["sctp", "external-client"],
    arrange=sticky,
)
@everywhere(family=["IPv4", "IPv6"])
def test_client_sticks(world, service, family):
    node_ports = service.every_node_port(world.nodes[0], family=family)

    world.everywhere("pod", "node").each_must_stick_to_one(service.every_cluster_ip(family=family), count=ENOUGH)
    world.everywhere("outside", "pod").each_must_stick_to_one(node_ports, count=ENOUGH)
