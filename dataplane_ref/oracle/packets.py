# SPDX-License-Identifier: Apache-2.0
"""The first packet of a flow, as bytes from the Ethernet header on: a TCP SYN, a UDP datagram, an SCTP INIT.

RFC 791 and RFC 8200 (IP), RFC 9293 (TCP), RFC 768 (UDP), RFC 9260 (SCTP).
"""

import struct
from array import array
from functools import cache
from ipaddress import ip_address

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
TTL = 64
SYN, WINDOW = 0x02, 64240
INIT, INIT_TAG = 1, 0x706C756D
PAYLOAD = b"plumbline"


def first_packet(source: str, destination: str, source_port: int, destination_port: int, protocol: str) -> bytes:
    """A frame whose checksums are right. Raises ValueError for what is no such flow."""
    one, other = ip_address(source), ip_address(destination)
    if one.version != other.version:
        raise ValueError(f"a packet from {source} to {destination} is of two families")
    number = PROTOCOLS.get(protocol)
    if number is None:
        raise ValueError(f"a flow's protocol is {', '.join(PROTOCOLS)}, not {protocol!r}")
    addresses = one.packed + other.packed
    transport = _transport(number, source_port, destination_port, addresses)
    if one.version == 4:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(transport), 0, 0x4000, TTL, number, 0) + addresses
        head = head[:10] + _checksum(head) + head[12:]
    else:
        head = struct.pack(">IHBB", 6 << 28, len(transport), number, TTL) + addresses
    return bytes(12) + struct.pack(">H", ETHERTYPES[one.version]) + head + transport


def _transport(number: int, source_port: int, destination_port: int, addresses: bytes) -> bytes:
    if number == PROTOCOLS["TCP"]:
        segment = struct.pack(">HHIIBBHHH", source_port, destination_port, 1, 0, 5 << 4, SYN, WINDOW, 0, 0)
        return segment[:16] + _checksum(_pseudo_header(number, addresses, len(segment)) + segment) + segment[18:]
    if number == PROTOCOLS["UDP"]:
        datagram = struct.pack(">HHHH", source_port, destination_port, 8 + len(PAYLOAD), 0) + PAYLOAD
        checksum = _checksum(_pseudo_header(number, addresses, len(datagram)) + datagram)
        # No checksum at all would be zero.
        return datagram[:6] + (checksum if any(checksum) else b"\xff\xff") + datagram[8:]
    chunk = struct.pack(">BBHIIHHI", INIT, 0, 20, INIT_TAG, 1 << 16, 1, 1, 1)
    head = struct.pack(">HHI", source_port, destination_port, 0)
    return head + struct.pack("<I", _crc32c(head + bytes(4) + chunk)) + chunk


def _pseudo_header(number: int, addresses: bytes, length: int) -> bytes:
    """The same sum for both families: what IPv6's has more is zero."""
    return addresses + struct.pack(">HH", length, number)


def _checksum(data: bytes) -> bytes:
    """RFC 1071, whose sum is the same in either byte order."""
    words = array("H", data if len(data) % 2 == 0 else data + b"\0")
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("=H", ~total & 0xFFFF)


def _crc32c(data: bytes) -> int:
    """RFC 9260, appendix A."""
    table, register = _crc_table(), 0xFFFFFFFF
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ register >> 8
    return register ^ 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)  # noqa: PLW2901 - eight shifts of one register
        table.append(number)
    return tuple(table)
