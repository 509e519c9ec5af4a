# SPDX-License-Identifier: Apache-2.0
"""Addresses, ports and ranges as the maps hold them (dataplane_ref/bpf/types.h).

An IPv4 address a.b.c.d is the 16 bytes of ::ffff:a.b.c.d (RFC 4291, 2.5.5.2); ports are in network byte order.
"""

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

MAPPED = b"\0" * 10 + b"\xff\xff"  # what stands before an IPv4 address
NO_ADDRESS = b"\0" * 16
PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}  # IANA's protocol numbers


def address(text: str) -> bytes:
    """An address's 16 bytes. Raises ValueError where the text is none."""
    try:
        return inet_pton(AF_INET6, text) if ":" in text else MAPPED + inet_pton(AF_INET, text)
    except (OSError, TypeError):
        raise ValueError(f"{text!r} is no IP address") from None


def text(packed: bytes) -> str:
    """An address as people write it."""
    if packed[:12] == MAPPED:
        return inet_ntop(AF_INET, packed[12:])
    return inet_ntop(AF_INET6, packed)


def family_of(packed: bytes) -> int:
    """4 or 6."""
    return 4 if packed[:12] == MAPPED else 6


def port(number: int) -> bytes:
    """A port's two bytes. Raises ValueError outside 1 to 65,535."""
    if not 0 < number < 65536:
        raise ValueError(f"{number} is no port")
    return number.to_bytes(2, "big")


def network(cidr: str) -> tuple[bytes, int]:
    """A range: its first address and its prefix length over the 16 bytes (96 more for IPv4). Raises ValueError."""
    base, slash, length = cidr.partition("/")
    packed = address(base)
    offset = 96 if packed[:12] == MAPPED and ":" not in base else 0
    widest = 128 - offset
    if slash and not (length.isascii() and length.isdigit() and int(length) <= widest):
        raise ValueError(f"{cidr!r} is no range such as 192.0.2.0/24 or 2001:db8::/64")
    bits = offset + (int(length) if slash else widest)
    kept = int.from_bytes(packed, "big") >> (128 - bits) << (128 - bits)
    return kept.to_bytes(16, "big"), bits


def within(packed: bytes, ranges: list[tuple[bytes, int]]) -> bool:
    """Whether an address lies in one of the ranges that `network` gave."""
    number = int.from_bytes(packed, "big")
    return any(number >> (128 - bits) == int.from_bytes(base, "big") >> (128 - bits) for base, bits in ranges)
