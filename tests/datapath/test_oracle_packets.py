# SPDX-License-Identifier: Apache-2.0
"""The oracle's packets, read by another program: scapy, which checks every length and checksum."""

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet

from dataplane_ref.oracle.packets import first_packet

FAMILIES = [("10.244.0.2", "10.96.0.1", IP), ("fd00::2", "fd00:10:96::1", IPv6)]
TRANSPORTS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}


def computed(frame: bytes) -> bytes:
    """The same packet with lengths and checksums left to scapy."""
    packet: Packet = Ether(frame)
    for layer, fields in ((IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum",)), (UDP, ("len", "chksum"))):
        for field in fields if packet.haslayer(layer) else ():
            packet[layer].delfieldval(field)
    if packet.haslayer(SCTP):
        packet[SCTP].delfieldval("chksum")
    return bytes(packet)


@pytest.mark.parametrize("protocol", TRANSPORTS)
@pytest.mark.parametrize(("source", "destination", "layer"), FAMILIES)
@pytest.mark.parametrize("source_port", [1, 40000, 65535])
def test_a_first_packet_is_what_it_says(
    source: str, destination: str, layer: type[Packet], protocol: str, source_port: int
) -> None:
    frame = first_packet(source, destination, source_port, 80, protocol)
    packet = Ether(frame)
    assert (packet[layer].src, packet[layer].dst) == (source, destination)
    transport = packet[TRANSPORTS[protocol]]
    assert (transport.sport, transport.dport) == (source_port, 80)
    assert computed(frame) == frame


def test_what_begins_a_connection_is_there() -> None:
    assert Ether(first_packet("10.0.0.1", "10.0.0.2", 1, 2, "TCP"))[TCP].flags == "S"
    assert Ether(first_packet("10.0.0.1", "10.0.0.2", 1, 2, "SCTP")).haslayer(SCTPChunkInit)


def test_a_checksum_of_zero_is_sent_as_ones() -> None:
    """RFC 768: zero means that there is none."""
    frames = [first_packet("10.0.0.1", "10.0.0.2", port, 2, "UDP") for port in range(65536)]
    sums = {frame[40:42] for frame in frames}
    assert b"\0\0" not in sums
    assert b"\xff\xff" in sums


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("10.0.0.1", "fd00::1", 1, 2, "TCP"), "a packet from 10.0.0.1 to fd00::1 is of two families"),
        (("10.0.0.1", "10.0.0.2", 1, 2, "ICMP"), "a flow's protocol is TCP, UDP, SCTP, not 'ICMP'"),
        (("node-a", "10.0.0.2", 1, 2, "TCP"), "'node-a' does not appear to be an IPv4 or IPv6 address"),
    ],
)
def test_what_is_no_flow_is_one_sentence(arguments: tuple[str, str, int, int, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        first_packet(*arguments)
