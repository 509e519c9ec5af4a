# SPDX-License-Identifier: Apache-2.0
"""Captured packets in words. The only module that imports scapy (GPL-2.0-only), and only when a test needs it."""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from clusters.agent.client import CapturedPacket, Recording

ICMP_DESTINATION_UNREACHABLE, ICMPV6_DESTINATION_UNREACHABLE = 3, 1
# https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html, with times in microseconds.
PCAP_HEADER = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
PCAP_RECORD = struct.Struct("=IIII")
# Enough to read; the pcap file has them all.
MOST_LINES = 400


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP or ICMPv6 destination-unreachable on the wire, with the client port of the packet it quotes."""

    type: int
    code: int
    sender: str
    receiver: str
    quoted_port: int


# Far beyond any window that a connection of a few lines can have.
BEYOND = 1 << 29


def out_of_window(packets: Iterable[CapturedPacket]) -> bytes:
    """The last TCP segment that left the vantage with data, again, as an IP packet far ahead of its connection.

    Raises LookupError where there is none.
    """
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    for packet in reversed(list(packets)):
        frame = Ether(packet.data)
        if packet.direction != "outgoing" or TCP not in frame or not len(frame[TCP].payload):
            continue
        segment = frame[TCP]
        segment.seq = (segment.seq + BEYOND) % (1 << 32)
        # Emptied, they are computed anew; the card would have done it for the packet as it was captured.
        segment.chksum = None
        network = frame[IPv6] if IPv6 in frame else frame[IP]
        if IP in frame:
            network.chksum = None
        return bytes(network)
    raise LookupError("no TCP segment with data left the vantage")


def resets(packets: Iterable[CapturedPacket]) -> int:
    """How many TCP segments with RST set left the vantage."""
    from scapy.layers.inet import TCP
    from scapy.layers.l2 import Ether

    outgoing = (Ether(packet.data) for packet in packets if packet.direction == "outgoing")
    return sum(TCP in frame and "R" in frame[TCP].flags for frame in outgoing)


def icmp_errors(packets: Iterable[CapturedPacket]) -> list[IcmpError]:
    """All destination-unreachable messages that arrived at the vantage (RFC 792, RFC 4443), oldest first."""
    from scapy.layers.inet import ICMP, IP, TCPerror, UDPerror
    from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
    from scapy.layers.l2 import Ether
    from scapy.layers.sctp import SCTP, SCTPerror

    errors = []
    for packet in packets:
        if packet.direction == "outgoing":
            continue
        frame = Ether(packet.data)
        # Of an SCTP packet in an ICMPv6 error scapy does not say that it is a quoted one.
        quoted = next(filter(None, map(frame.getlayer, (TCPerror, UDPerror, SCTPerror, SCTP))), None)
        if quoted is None:
            continue
        for outer, layer, wanted in (
            (IP, ICMP, ICMP_DESTINATION_UNREACHABLE),
            (IPv6, ICMPv6DestUnreach, ICMPV6_DESTINATION_UNREACHABLE),
        ):
            if layer in frame and frame[layer].type == wanted:
                network = frame[outer]
                errors.append(IcmpError(wanted, frame[layer].code, network.src, network.dst, quoted.sport))
    return errors


def as_text(recording: Recording) -> str:
    """A line per packet: milliseconds since the first, interface, direction, and scapy's summary."""
    from scapy.layers import inet, inet6, sctp  # noqa: F401 - once loaded, Ethernet knows what it carries
    from scapy.layers.l2 import Ether

    first = recording.packets[0].t if recording.packets else 0.0
    lines = [
        f"{(one.t - first) * 1e3:9.3f} ms  {one.interface:<9} {one.direction:<9} {_summary(Ether, one.data)}"
        for one in recording.packets[:MOST_LINES]
    ]
    left = len(recording.packets) - len(lines)
    lines += [f"and {left} more: see the pcap file"] if left else []
    lines += [f"{recording.dropped} later ones found no room"] if recording.dropped else []
    return "\n".join(lines) + "\n"


def _summary(layer: Callable[[bytes], Any], data: bytes) -> str:
    """What a frame says, without the Ethernet header that is the same in all of them."""
    frame = layer(data)
    return str((frame.payload or frame).summary())


def as_pcap(recording: Recording) -> bytes:
    """The packets as a pcap file; times count from the machine's start."""
    parts = [PCAP_HEADER]
    for packet in recording.packets:
        seconds, fraction = divmod(packet.t, 1)
        parts += [
            PCAP_RECORD.pack(int(seconds), int(fraction * 1e6), len(packet.data), packet.wire_length),
            packet.data,
        ]
    return b"".join(parts)
