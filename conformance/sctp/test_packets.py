# SPDX-License-Identifier: Apache-2.0
"""SCTP: packets after translation. Both ends here count a wrong CRC32c as no answer, as any stack does."""

from plugins.requirements import requirement
from plugins.services import Port

# Bytes of a line each way: packets in which every bit of a length is set once, up to what fits any link.
SIZES = (40, 300, 555, 1100)


def one_endpoint(world):
    return world.service(kind="NodePort", endpoints=world.backends(2)[1:], ports=[Port(80, 8080, "SCTP")])


@requirement(
    "sctp.packet.checksum",
    must="A translated SCTP packet's CRC32c MUST be right at the endpoint and at the client, whatever its length.",
    level="extended",
    since="1.20",
    source="https://www.rfc-editor.org/rfc/rfc9260#section-6.8",
    features=["sctp"],
    needs=["nodes:2", "sctp", "external-client"],
    arrange=one_endpoint,
)
def test_checksum_is_right_in_both_directions(world, service):
    node_ports = [target for node in world.nodes[:2] for target in service.every_node_port(node)]

    for vantages, targets in (
        (world.everywhere("pod", "node"), service.every_cluster_ip()),
        (world.everywhere("outside", "pod"), node_ports),
    ):
        with vantages.hold_each(targets) as flows:
            for size in SIZES:
                flows.must_be_served_by(service.endpoints[0].backend, size=size)
