# SPDX-License-Identifier: Apache-2.0
"""Packets as scapy layers, by role: what a test expects is written with them, and scapy is the judge of bytes."""

from dataclasses import dataclass
from typing import Any

from tests.datapath.network import NEIGHBOUR_MAC, UPLINK_MAC

PROTOCOLS = ("TCP", "UDP", "SCTP")
FAMILIES = ("IPv4", "IPv6")
PAYLOAD = b"what a client says, of an odd length."
SPORT, PORT, TARGET, NODE_PORT = 40000, 80, 8080, 30080
EXTENSIONS = ("hop by hop", "routing", "destination options")


@dataclass(frozen=True)
class Roles:
    """Who is who in one family. `second`: the node's other address."""

    pod: str
    other_pod: str
    remote_pod: str
    outside: str
    node: str
    second: str
    cluster_ip: str
    external_ip: str


ROLES = {
    "IPv4": Roles(
        "10.244.0.2", "10.244.0.3", "10.244.1.2", "172.18.0.2", "172.18.0.10", "172.19.0.10", "10.96.0.10",
        "198.51.100.7",
    ),
    "IPv6": Roles(
        "fd00:10:244::2", "fd00:10:244::3", "fd00:10:244:1::2", "fd00:172:18::2", "fd00:172:18::10",
        "fd00:172:18::11", "fd00:10:96::10", "2001:db8::7",
    ),
}  # fmt: skip


def other(family: str) -> str:
    return "IPv6" if family == "IPv4" else "IPv4"


def scapy() -> Any:
    """scapy's layers, in one namespace."""
    import scapy.all

    return scapy.all


def transport(
    protocol: str, sport: int, dport: int, *, flags: str = "S", payload: bytes = PAYLOAD, **fields: Any
) -> Any:
    """A transport header and what it carries."""
    s = scapy()
    if protocol == "TCP":
        return s.TCP(sport=sport, dport=dport, flags=flags, seq=7, **fields) / s.Raw(payload)
    if protocol == "UDP":
        return s.UDP(sport=sport, dport=dport, **fields) / s.Raw(payload)
    return s.SCTP(sport=sport, dport=dport, tag=9, **fields) / s.SCTPChunkData(data=payload)


def internet(source: str, destination: str, *, ttl: int = 64, **fields: Any) -> Any:
    """An IP header of the family that the addresses have."""
    s = scapy()
    if ":" in source:
        return s.IPv6(src=source, dst=destination, hlim=ttl, **fields)
    return s.IP(src=source, dst=destination, ttl=ttl, id=fields.pop("id", 4711), **fields)


def frame(ip: Any, *, source: str = NEIGHBOUR_MAC, destination: str = UPLINK_MAC) -> bytes:
    """An Ethernet frame's bytes, every checksum and length computed by scapy."""
    return bytes(scapy().Ether(src=source, dst=destination) / ip)


def packet(
    source: str, sport: int, destination: str, dport: int, protocol: str = "TCP", *, ttl: int = 64, **fields: Any
) -> bytes:
    """A whole packet; `fields` are of `transport`."""
    return frame(internet(source, destination, ttl=ttl) / transport(protocol, sport, dport, **fields))


def recomputed(data: bytes) -> bytes:
    """The frame with every checksum in it computed anew, also that of a packet inside an ICMP error."""
    s = scapy()
    parsed = s.Ether(data)
    layer = parsed
    while layer:
        if isinstance(layer, s.IP | s.TCP | s.UDP | s.ICMP | s.SCTP):
            layer.chksum = None
        elif "cksum" in layer.fields:
            layer.cksum = None
        layer = layer.payload
    return bytes(parsed)


def shown(data: bytes) -> str:
    """A frame in words, for the message of a failure."""
    text: str = scapy().Ether(data).show2(dump=True)
    return text


def same(observed: bytes, expected: bytes, *, macs: bool = True) -> None:
    """Fail with both packets decoded, unless they are the same to the byte."""
    skipped = 0 if macs else 12
    if observed[skipped:] != expected[skipped:]:
        raise AssertionError(
            f"observed\n{shown(observed)}\n{observed.hex()}\nbut should be\n{shown(expected)}\n{expected.hex()}"
        )
