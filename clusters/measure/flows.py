# SPDX-License-Identifier: Apache-2.0
"""Connections that nobody has: entries in a namespace's connection table, written by raw netlink.

The kernel's limit (net.netfilter.nf_conntrack_max) is the machine's and only its first namespace may change it, but
every namespace is counted for itself: one can be filled to the limit without any other one noticing.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from clusters.errors import PlumblineError
from clusters.lab.namespaces import inside_network

NETLINK_NETFILTER = 12
# linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h, nf_conntrack_common.h, nf_conntrack_tcp.h.
CT_NEW = 1 << 8
REQUEST, EXCL, CREATE = 1, 0x200, 0x400
NESTED = 0x8000
TUPLE_ORIG, TUPLE_REPLY, STATUS, PROTOINFO, TIMEOUT = 1, 2, 3, 4, 7
SEEN_REPLY, ASSURED, CONFIRMED = 2, 4, 8
SYN_SENT, ESTABLISHED = 1, 3
# Of the range of documentation (RFC 5737, TEST-NET-2 and 3) and of benchmarks (RFC 2544): no lab has them.
FIRST_CLIENT, SERVER = IPv4Address("198.18.0.0"), IPv4Address("203.0.113.9")
PORTS = 60_000
FIRST_PORT, SERVER_PORT = 1_024, 9
LIFETIME = 3600
AT_ONCE = 200
MAXIMUM, COUNT = "net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_count"
# What a program of another namespace sees of a table.
_HEADER = struct.Struct("=IHHIIBBH")


def maximum() -> int | None:
    """How many connections the kernel tracks in a namespace at most; None where it tracks none."""
    with suppress(OSError, ValueError):
        return int(Path("/proc/sys", MAXIMUM).read_text(encoding="ascii"))
    return None


def fill(namespace: Path, count: int, *, established: bool = True) -> None:
    """Make so many entries in a namespace, as long as it has room for them.

    `established`: such that the kernel gives up none of them for a new one; else ones that were never answered.
    Raises PlumblineError where it does not take them.
    """
    with inside_network(namespace):
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    with netlink:
        netlink.bind((0, 0))
        try:
            for messages in _batches(count, established=established):
                netlink.send(messages)
                with suppress(BlockingIOError):
                    # Refusals: of what has no room any more, which is what was wanted.
                    netlink.recv(1 << 16, socket.MSG_DONTWAIT)
        except OSError as error:
            if not isinstance(error, PermissionError):
                return
            raise PlumblineError(f"connections cannot be written into a connection table: {error}") from None


def _batches(count: int, *, established: bool) -> Iterator[bytes]:
    template = entry(0, established=established)
    # Where the client's address and port are: source of the first tuple, destination of the second.
    addresses, ports = _all(template, FIRST_CLIENT.packed), _all(template, FIRST_PORT.to_bytes(2, "big"))
    first = int(FIRST_CLIENT)
    for begin in range(0, count, AT_ONCE):
        numbers = range(begin, min(begin + AT_ONCE, count))
        messages = bytearray(template * len(numbers))
        clients = b"".join((first + number // PORTS).to_bytes(4, "big") for number in numbers)
        theirs = b"".join((FIRST_PORT + number % PORTS).to_bytes(2, "big") for number in numbers)
        for places, values, width in ((addresses, clients, 4), (ports, theirs, 2)):
            for at in places[:2]:
                for byte in range(width):
                    messages[at + byte :: len(template)] = values[byte::width]
        yield bytes(messages)


def entry(number: int, *, established: bool) -> bytes:
    """A message that asks for the entry with this number: a TCP connection of its own."""
    client, port = divmod(number, PORTS)
    here, there = ((FIRST_CLIENT + client).packed, FIRST_PORT + port), (SERVER.packed, SERVER_PORT)
    status = CONFIRMED | (SEEN_REPLY | ASSURED if established else 0)
    state = _attribute(1, bytes([ESTABLISHED if established else SYN_SENT]))
    body = (
        _tuple(TUPLE_ORIG, here, there)
        + _tuple(TUPLE_REPLY, there, here)
        + _attribute(STATUS, status.to_bytes(4, "big"))
        + _attribute(PROTOINFO | NESTED, _attribute(1 | NESTED, state))
        + _attribute(TIMEOUT, LIFETIME.to_bytes(4, "big"))
    )
    flags = REQUEST | CREATE | EXCL
    return _HEADER.pack(_HEADER.size + len(body), CT_NEW, flags, 0, 0, socket.AF_INET, 0, 0) + body


def _tuple(kind: int, source: tuple[bytes, int], destination: tuple[bytes, int]) -> bytes:
    addresses = _attribute(1, source[0]) + _attribute(2, destination[0])
    protocol = (
        _attribute(1, bytes([socket.IPPROTO_TCP]))
        + _attribute(2, source[1].to_bytes(2, "big"))
        + _attribute(3, destination[1].to_bytes(2, "big"))
    )
    return _attribute(kind | NESTED, _attribute(1 | NESTED, addresses) + _attribute(2 | NESTED, protocol))


def _attribute(kind: int, value: bytes) -> bytes:
    """One netlink attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _all(data: bytes, pattern: bytes) -> list[int]:
    found, at = [], data.find(pattern)
    while at >= 0:
        found.append(at)
        at = data.find(pattern, at + 1)
    return found
