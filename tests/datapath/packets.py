# SPDX-License-Identifier: Apache-2.0
"""Packets as scapy layers, by role: what a test expects is written with them, and scapy is the judge of bytes."""

import socket
import struct
from dataclasses import dataclass
from functools import lru_cache
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


# ---- The same by struct, for tests that need very many -------------------------------------------------------

NUMBERS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": socket.IPPROTO_SCTP}
TCP_FLAGS = {"F": 1, "S": 2, "R": 4, "A": 16}
_MACS = bytes.fromhex((UPLINK_MAC + NEIGHBOUR_MAC).replace(":", ""))


@lru_cache(maxsize=4096)
def address_bytes(address: str) -> bytes:
    """An address as it stands in a header."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def checksum(data: bytes) -> int:
    """RFC 1071, as the field is written."""
    total = int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF
    return 0xFFFF - total if total or not any(data) else 0


def transport_bytes(protocol: str, source: str, destination: str, sport: int, dport: int, flags: str = "S") -> bytes:
    """A transport header without payload. SCTP's checksum is left to the device (zero)."""
    if protocol == "SCTP":
        return struct.pack("!HHII", sport, dport, 9, 0)
    if protocol == "TCP":
        bits = sum(TCP_FLAGS[flag] for flag in flags)
        part, place = struct.pack("!HHIIBBHHH", sport, dport, 1, 1, 0x50, bits, 100, 0, 0), 16
    else:
        part, place = struct.pack("!HHHH", sport, dport, 8, 0), 6
    pseudo = address_bytes(source) + address_bytes(destination) + struct.pack("!HH", len(part), NUMBERS[protocol])
    return part[:place] + (checksum(pseudo + part) or 0xFFFF).to_bytes(2, "big") + part[place + 2 :]


def internet_bytes(source: str, destination: str, protocol: str, part: bytes) -> bytes:
    """A frame with a plain IP header."""
    one, other, number = address_bytes(source), address_bytes(destination), NUMBERS[protocol]
    if len(one) == 16:
        return _MACS + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(part), number, 64) + one + other + part
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(part), 1, 0, 64, number, 0, one, other)
    return _MACS + b"\x08\x00" + head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + part


def ends(data: bytes) -> tuple[str, int, str, int]:
    """Source and destination of a plain packet: addresses and ports."""
    family, at, size = (socket.AF_INET, 26, 4) if data[12] == 8 else (socket.AF_INET6, 22, 16)
    one, other = (socket.inet_ntop(family, data[place : place + size]) for place in (at, at + size))
    sport, dport = struct.unpack_from("!HH", data, at + 2 * size)
    return one, sport, other, dport
