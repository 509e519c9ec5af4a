# SPDX-License-Identifier: Apache-2.0
"""Packets as scapy's layers: read, compared with what they must be, made, and put into words.

The only module that imports scapy (GPL-2.0-only), and only when a test needs it. What is expected of a packet is
written as layers too (`ip(...) / udp(...)`): the fields that are given must be so, and all others may be anything.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any, Literal

from clusters.agent.client import CapturedPacket, Recording
from clusters.observation import Family

# A packet, or what is expected of one, from its IP header on: a scapy `Packet`, which mypy knows nothing of.
Layers = Any
Kind = Literal["port-unreachable", "too-big", "time-exceeded"]
# Type and code (RFC 792, RFC 1191; RFC 4443).
ERRORS: Mapping[tuple[Kind, Family], tuple[int, int]] = {
    ("port-unreachable", "IPv4"): (3, 3),
    ("port-unreachable", "IPv6"): (1, 4),
    ("too-big", "IPv4"): (3, 4),
    ("too-big", "IPv6"): (2, 0),
    ("time-exceeded", "IPv4"): (11, 0),
    ("time-exceeded", "IPv6"): (3, 0),
}
# As much of a packet as an error quotes: with its own headers it stays within 576 bytes (RFC 1812, 4.3.2.3), or
# within 1,280 (RFC 4443, 2.4).
MOST_QUOTED: Mapping[Family, int] = {"IPv4": 576 - 28, "IPv6": 1280 - 48}
ARP_REPLY = 2
BROADCAST = "ff:ff:ff:ff:ff:ff"
# ff02::1:ff00:0/104, to which the last three bytes of an address are added (RFC 4291, 2.7.1).
SOLICITED_NODES = IPv6Address("ff02::1:ff00:0").packed[:13]
ICMP_DESTINATION_UNREACHABLE, ICMPV6_DESTINATION_UNREACHABLE = 3, 1
# https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html, with times in microseconds.
PCAP_HEADER = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
PCAP_RECORD = struct.Struct("=IIII")
# Enough to read; the pcap file has them all.
MOST_LINES = 400


@dataclass(frozen=True, slots=True)
class Claim:
    """A packet on a LAN that says at which MAC an IP address is: an answer, or, where nobody `asked`, unsolicited."""

    t: float
    ip: str
    mac: str
    asked: bool


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


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that is not as expected; `layer` is `IP`, or `quoted IP` of a packet inside an ICMP error."""

    layer: str
    field: str
    observed: Any
    expected: Any

    def in_words(self, names: Mapping[str, str]) -> str:
        """`IP.src is 10.244.0.4 (client), expected 172.18.0.10 (node-a)`; `names` says whose an address is."""
        if self.field == "":
            return f"{self.layer} is {self.observed}, expected {self.expected}"
        observed, expected = (_named(value, names) for value in (self.observed, self.expected))
        return f"{self.layer}.{self.field} is {observed}, expected {expected}"


def _named(value: Any, names: Mapping[str, str]) -> str:
    return f"{value} ({names[str(value)]})" if str(value) in names else str(value)


# Layers, of either family.


def ip(src: str | None = None, dst: str | None = None, **fields: Any) -> Layers:
    """An IP or IPv6 header with these fields, of the family that the addresses are of; `ttl` is a hop limit too."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    ends = {name: address for name, address in (("src", src), ("dst", dst)) if address is not None}
    if not ends:
        raise ValueError("an address says of which family a packet is; give src or dst")
    fields |= ends
    if not any(":" in address for address in ends.values()):
        return IP(**fields)
    if "ttl" in fields:
        fields["hlim"] = fields.pop("ttl")
    return IPv6(**fields)


def udp(**fields: Any) -> Layers:
    """A UDP header with these fields."""
    from scapy.layers.inet import UDP

    return UDP(**fields)


def tcp(**fields: Any) -> Layers:
    """A TCP header with these fields."""
    from scapy.layers.inet import TCP

    return TCP(**fields)


def icmp(kind: Kind, family: Family, mtu: int | None = None) -> Layers:
    """The head of an ICMP or ICMPv6 error; what follows it is the packet that it quotes."""
    from scapy.layers.inet import ICMP
    from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded

    number, code = ERRORS[kind, family]
    fields: dict[str, Any] = {"type": number, "code": code}
    if mtu is not None:
        fields["nexthopmtu" if family == "IPv4" else "mtu"] = mtu
    if family == "IPv4":
        return ICMP(**fields)
    if kind == "too-big":
        return ICMPv6PacketTooBig(**fields)
    return (ICMPv6TimeExceeded if kind == "time-exceeded" else ICMPv6DestUnreach)(**fields)


# Reading and comparing.


def network_of(packet: CapturedPacket) -> Layers | None:
    """A captured frame from its IP header on; None where it holds anything else."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    network = Ether(packet.data).payload
    return network if isinstance(network, IP | IPv6) else None


def differences(expected: Layers, observed: Layers) -> list[Difference]:
    """The fields that were given and are not so, and each checksum that an ICMP error has wrong; none: it matches."""
    from scapy.packet import NoPayload

    found: list[Difference] = []
    quoted = ""
    whole = observed
    while not isinstance(expected, NoPayload):
        layer = f"{quoted}{type(expected).__name__}"
        while type(observed).__name__.startswith("IPv6ExtHdr"):
            observed = observed.payload
        if not isinstance(observed, type(expected)):
            other = "nothing" if isinstance(observed, NoPayload) else type(observed).__name__.removesuffix("error")
            return [*found, Difference(f"{quoted}layer", "", other, type(expected).__name__)]
        for field, value in expected.fields.items():
            seen = getattr(observed, field)
            if field == "options" and not value:
                continue  # scapy's own: nobody gave it
            if seen != getattr(expected, field):
                found.append(Difference(layer, field, seen, value))
        quoted = "quoted " if layer.startswith("ICMP") else quoted
        expected, observed = expected.payload, observed.payload
    return [*found, *wrong_checksums(whole)]


def wrong_checksums(packet: Layers) -> list[Difference]:
    """Checksums that an ICMP error has wrong: its own, and the IPv4 headers'. Others are the card's to fill in."""
    from scapy.layers.inet import ICMP, IP, IPerror
    from scapy.layers.inet6 import IPv6
    from scapy.utils import checksum

    found = []
    if isinstance(packet, IPv6) and packet.nh == 58 and not _is_icmp6_right(packet):
        found.append(Difference(type(packet.payload).__name__, "checksum", "wrong", "right"))
    if ICMP in packet:
        parts = [("IP", packet[IP]), ("quoted IP", packet.getlayer(IPerror))]
        for layer, header in parts:
            if header is not None and checksum(bytes(header)[: header.ihl * 4]):
                found.append(Difference(layer, "checksum", "wrong", "right"))
        if checksum(bytes(packet[ICMP])):
            found.append(Difference("ICMP", "checksum", "wrong", "right"))
    return found


def _is_icmp6_right(packet: Layers) -> bool:
    """Whether the checksum is right, or is the pseudo-header's sum, to which a card will add the rest.

    So a dataplane may leave it that rewrites addresses (IPVS does), as a sender leaves those of TCP and UDP.
    """
    from scapy.layers.inet6 import in6_chksum
    from scapy.utils import checksum

    message = bytes(packet.payload)
    if not in6_chksum(58, packet, message):  # type: ignore[no-untyped-call]
        return True
    ends = IPv6Address(packet.src).packed + IPv6Address(packet.dst).packed
    left = ~checksum(ends + struct.pack("!II", len(message), 58)) & 0xFFFF
    return int.from_bytes(message[2:4], "big") == left


def summary_of(packet: Layers) -> str:
    """A packet, or what is expected of one, in scapy's words."""
    return str(packet.summary())


def length_of(packet: CapturedPacket) -> int:
    """How long the packet was on the wire, from its IP header on."""
    return packet.wire_length - 14


def link_source(packet: CapturedPacket) -> str:
    """The MAC that a frame came from: who brought it here."""
    return packet.data[6:12].hex(":")


# Making.


def again(packet: Layers, *, payload: bytes | None = None, **fields: Any) -> Layers:
    """A packet once more, with other fields in its IP or its transport header, and its checksums computed anew."""
    copy = _emptied(packet)
    for field, value in fields.items():
        name = "hlim" if field == "ttl" and copy.version == 6 else field
        setattr(copy if name in copy.default_fields and name != "flags" else copy.payload, name, value)
    if payload is not None:
        copy.payload.remove_payload()
        copy = copy / payload
    return type(copy)(bytes(copy))


def far_ahead(segment: Layers, **fields: Any) -> Layers:
    """A TCP segment once more, without data and far beyond its connection's window."""
    return again(segment, payload=b"", seq=(segment.payload.seq + BEYOND) % (1 << 32), **fields)


def without_checksum(packet: Layers) -> Layers:
    """A UDP datagram over IPv4 that says of its checksum that it has none (RFC 768)."""
    copy = _emptied(packet)
    copy.payload.chksum = 0
    return type(copy)(bytes(copy))


def with_options(packet: Layers) -> Layers:
    """A packet with something before its transport header that means nothing.

    IPv4: two options, one of which no router looks at (RFC 791, 3.1); IPv6: a header of destination options with one
    that is to be skipped by who does not know it (RFC 8200, 4.2).
    """
    from scapy.layers.inet import IPOption_EOL, IPOption_NOP
    from scapy.layers.inet6 import HBHOptUnknown, IPv6ExtHdrDestOpt

    copy = _emptied(packet)
    if copy.version == 4:
        del copy.ihl
        copy.options = [IPOption_NOP(), IPOption_NOP(), IPOption_NOP(), IPOption_EOL()]
        return type(copy)(bytes(copy))
    transport = copy.payload
    copy.remove_payload()
    del copy.nh
    option = IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1E, optdata=b"nothing")])
    whole = copy / option / transport
    return type(copy)(bytes(whole))


def fragments_of(packet: Layers, size: int) -> list[bytes]:
    """A packet's fragments of about `size` bytes, in their order."""
    from scapy.layers.inet import fragment
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6

    copy = _emptied(packet)
    if copy.version == 4:
        copy.flags = 0
        return [bytes(part) for part in fragment(type(copy)(bytes(copy)), size)]  # type: ignore[no-untyped-call]
    transport = copy.payload
    copy.remove_payload()
    del copy.nh
    whole = IPv6(bytes(copy / IPv6ExtHdrFragment(id=77) / transport))
    return [bytes(part) for part in fragment6(whole, size)]  # type: ignore[no-untyped-call]


def error_about(packet: Layers, kind: Kind, *, by: str, mtu: int = 0) -> bytes:
    """The ICMP error that `by` sends to whoever sent a packet, quoting it as `by` saw it."""
    from scapy.packet import Raw

    family: Family = "IPv6" if packet.version == 6 else "IPv4"
    quoted = bytes(_emptied(packet))[: MOST_QUOTED[family]]
    return bytes(
        ip(src=by, dst=packet.src) / icmp(kind, family, mtu=mtu if kind == "too-big" else None) / Raw(quoted)
    )


def echo_request(src: str, dst: str) -> bytes:
    """A ping."""
    from scapy.layers.inet import ICMP
    from scapy.layers.inet6 import ICMPv6EchoRequest

    return bytes(ip(src=src, dst=dst) / (ICMPv6EchoRequest(id=7) if ":" in dst else ICMP(type=8, id=7)))


def echo_reply(src: str) -> Layers:
    """What is expected of the answer to a ping."""
    from scapy.layers.inet import ICMP
    from scapy.layers.inet6 import ICMPv6EchoReply

    return ip(src=src) / (ICMPv6EchoReply() if ":" in src else ICMP(type=0))


def who_has(address: str, asker: str, asker_mac: str) -> tuple[bytes, str]:
    """The question at which MAC an address is (RFC 826; RFC 4861, 7.2.2): the packet, and the MAC that it goes to."""
    from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
    from scapy.layers.l2 import ARP

    if ":" not in address:
        return bytes(ARP(op=1, hwsrc=asker_mac, psrc=asker, pdst=address)), BROADCAST
    last = IPv6Address(address).packed[-3:]
    group = IPv6Address(SOLICITED_NODES + last)
    question = IPv6(src=asker, dst=str(group), hlim=255) / ICMPv6ND_NS(tgt=address)
    return bytes(question / ICMPv6NDOptSrcLLAddr(lladdr=asker_mac)), f"33:33:ff:{last.hex(':')}"


def claims(packets: Iterable[CapturedPacket]) -> list[Claim]:
    """All that arrived of who is where on the LAN: ARP replies and gratuitous ARP, neighbour advertisements."""
    from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr
    from scapy.layers.l2 import ARP, Ether

    found = []
    for packet in packets:
        frame = Ether(packet.data)
        if packet.direction == "outgoing":
            continue
        if ARP in frame and (frame[ARP].op == ARP_REPLY or frame[ARP].psrc == frame[ARP].pdst):
            arp = frame[ARP]
            found.append(Claim(packet.t, arp.psrc, arp.hwsrc, asked=arp.psrc != arp.pdst))
        elif ICMPv6ND_NA in frame:
            said = frame[ICMPv6ND_NA]
            mac = said[ICMPv6NDOptDstLLAddr].lladdr if ICMPv6NDOptDstLLAddr in said else frame.src
            found.append(Claim(packet.t, said.tgt, mac, asked=bool(said.S)))
    return found


def _emptied(packet: Layers) -> Layers:
    """A copy whose lengths and checksums will be computed: a card would have done so with the one captured."""
    copy = packet.copy()
    layer = copy
    while layer:
        for field in ("chksum", "len", "plen", "cksum"):
            if field in layer.fields:
                delattr(layer, field)
        layer = layer.payload
    return copy


def out_of_window(packets: Iterable[CapturedPacket]) -> bytes:
    """The last TCP segment that left the vantage with data, again, as an IP packet far ahead of its connection.

    Raises LookupError where there is none.
    """
    from scapy.layers.inet import TCP

    for packet in reversed(list(packets)):
        network = network_of(packet) if packet.direction == "outgoing" else None
        if network is None or TCP not in network or not len(network[TCP].payload):
            continue
        copy = _emptied(network)
        copy[TCP].seq = (copy[TCP].seq + BEYOND) % (1 << 32)
        return bytes(copy)
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
