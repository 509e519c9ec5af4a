# SPDX-License-Identifier: Apache-2.0
"""The node's interfaces and addresses, as the kernel says them: rtnetlink(7), linux/if_link.h, linux/if_addr.h."""

import errno
import socket
import struct
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE = 24, 25
RTM_NEWNEIGH = 28
# RTMGRP_LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE
GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400
IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_LINK_NETNSID, IFLA_INFO_KIND = 3, 10, 18, 37, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
NDA_DST, NDA_LLADDR = 1, 2
IFF_LOOPBACK = 0x8
MAPPED = b"\0" * 10 + b"\xff\xff"
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, device type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_MOST_NEIGHBOURS = 65536
_RECEIVE = 1 << 18


class Interface(Struct, frozen=True):
    """A network interface. `has_far_peer`: the other end of a veth is in another namespace. `type` is ARPHRD_*."""

    index: int
    name: str
    type: int
    kind: str = ""
    master: int = 0
    is_loopback: bool = False
    has_far_peer: bool = False


class Interfaces(Struct, frozen=True):
    """All interfaces by index, and every address as its 16 bytes with the interface that has it."""

    links: Mapping[int, Interface]
    addresses: frozenset[tuple[int, bytes]]


class RoutesChanged(Struct, frozen=True):
    """What flows remember of the way may be wrong."""


def attributes(data: bytes, offset: int) -> dict[int, bytes]:
    """Attributes by type, from an offset."""
    found = {}
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += length + 3 & ~3
    return found


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and body of each message in what was received."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
        if length < 16:
            return
        yield kind, flags, data[offset + 16 : offset + length]
        offset += length + 3 & ~3


def read_interfaces() -> Interfaces:
    """What there is now. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asked:
        asked.bind((0, 0))
        links = {}
        for body in _dump(asked, RTM_GETLINK, RTM_NEWLINK, _LINK.pack(0, 0, 0, 0, 0)):
            link = _parse_link(body)
            links[link.index] = link
        addresses = {
            found
            for body in _dump(asked, RTM_GETADDR, RTM_NEWADDR, _ADDRESS.pack(0, 0, 0, 0, 0))
            if (found := _parse_address(body))
        }
        return Interfaces(links, frozenset(addresses))


def _dump(asked: socket.socket, request: int, answer: int, body: bytes) -> list[bytes]:
    """All answers to a dump; again where it was interrupted by a change."""
    while True:
        asked.send(_HEADER.pack(16 + len(body), request, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
        found, interrupted, done = [], False, False
        while not done:
            for kind, flags, data in messages(asked.recv(_RECEIVE)):
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", data)[0]
                    raise OSError(code, "rtnetlink")
                if kind == NLMSG_DONE:
                    done = True
                elif kind == answer:
                    found.append(data)
        if not interrupted:
            return found


def _parse_link(body: bytes) -> Interface:
    _, device_type, index, flags, _ = _LINK.unpack_from(body)
    found = attributes(body, _LINK.size)
    info = attributes(found.get(IFLA_LINKINFO, b""), 0)
    return Interface(
        index=index,
        name=_text(found.get(IFLA_IFNAME, b"")),
        type=device_type,
        kind=_text(info.get(IFLA_INFO_KIND, b"")),
        master=int.from_bytes(found.get(IFLA_MASTER, b""), "little"),
        is_loopback=bool(flags & IFF_LOOPBACK),
        has_far_peer=IFLA_LINK_NETNSID in found,
    )


def _parse_address(body: bytes) -> tuple[int, bytes] | None:
    family, _, _, _, index = _ADDRESS.unpack_from(body)
    found = attributes(body, _ADDRESS.size)
    packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS) or b""
    if family == socket.AF_INET and len(packed) == 4:
        return index, MAPPED + packed
    return (index, packed) if family == socket.AF_INET6 and len(packed) == 16 else None


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")


class Monitor:
    """Tells of changes. It listens from when it is made, so that nothing is missed after a first reading."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((0, GROUPS))
        self._neighbours: dict[tuple[int, bytes], bytes] = {}

    def follow(self, tell: Callable[[Interfaces | RoutesChanged], None]) -> None:
        """Tell of everything that changes, for ever; several changes at a time are one. Raises OSError."""
        while True:
            links, routes = self._receive()
            if links:
                tell(read_interfaces())
            elif routes:
                tell(RoutesChanged())

    def _receive(self) -> tuple[bool, bool]:
        """Wait, and read all there is: did interfaces or addresses change, and did routes or neighbours?"""
        links = routes = False
        flags = 0
        while True:
            try:
                received = self._socket.recv(_RECEIVE, flags)
            except BlockingIOError:
                return links, routes
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return True, True  # more than the socket holds: something was missed
            flags = socket.MSG_DONTWAIT
            for kind, _, body in messages(received):
                if kind in (RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR):
                    links = True
                elif kind == RTM_NEWNEIGH:
                    routes = self._moved(body) or routes
                else:
                    routes = routes or kind in (RTM_NEWROUTE, RTM_DELROUTE) or kind in (32, 33)  # RTM_*RULE

    def _moved(self, body: bytes) -> bool:
        """Whether a neighbour is at another link-layer address than before; that it was seen again is no news."""
        family, index, _, _, _ = _NEIGHBOUR.unpack_from(body)
        found = attributes(body, _NEIGHBOUR.size)
        if family not in (socket.AF_INET, socket.AF_INET6) or not found.get(NDA_LLADDR):
            return False
        key = index, found.get(NDA_DST, b"")
        before = self._neighbours.get(key)
        if len(self._neighbours) >= _MOST_NEIGHBOURS:
            self._neighbours.clear()
        self._neighbours[key] = found[NDA_LLADDR]
        return before is not None and before != found[NDA_LLADDR]
