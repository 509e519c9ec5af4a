# SPDX-License-Identifier: Apache-2.0
"""Raw rtnetlink for the lab's hot path: links, addresses, routes and neighbours in one batch per namespace.

A batch is sent with one write; only its last message asks for an acknowledgement, because the kernel reports
errors unasked. Interface indexes are chosen by the caller, so nothing ever has to be looked up. Message layouts:
rtnetlink(7), linux/rtnetlink.h, linux/if_link.h, linux/neighbour.h.
"""

import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from types import TracebackType
from typing import Self

NLMSG_ERROR = 2
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x01, 0x04, 0x200, 0x400
RTM_NEWLINK, RTM_DELLINK, RTM_SETLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH = 16, 17, 19, 20, 24, 28

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_PROTINFO, IFLA_LINKINFO, IFLA_NET_NS_FD = (
    1,
    3,
    4,
    10,
    12,
    18,
    28,
)
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_BRPORT_MODE = 4
IFLA_VXLAN_ID, IFLA_VXLAN_LINK, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LEARNING, IFLA_VXLAN_PORT = 1, 3, 4, 7, 15
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC = 1, 4, 5, 7
NDA_DST, NDA_LLADDR = 1, 2
IFF_UP = 1
IFA_F_NODAD = 0x02
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
NTF_SELF = 0x02
RTNH_F_ONLINK = 4
RT_TABLE_MAIN, RT_TABLE_LOCAL, RTPROT_STATIC, RTN_UNICAST, RTN_LOCAL = 254, 255, 4, 1, 2
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_HOST = 0, 253, 254
NESTED = 0x8000


@dataclass(frozen=True, slots=True)
class Message:
    """One rtnetlink request: its type, flags, body, and words for an error text."""

    type: int
    flags: int
    body: bytes
    what: str


@dataclass(frozen=True, slots=True)
class VethEnd:
    """One end of a veth pair: name, the index it shall have in its namespace, and its MAC address."""

    name: str
    index: int
    mac: str


def attr(kind: int, value: bytes) -> bytes:
    """An attribute with its header, padded to four bytes."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _mtu(size: int | None) -> bytes:
    return attr(IFLA_MTU, struct.pack("=I", size)) if size else b""


def _family(ip: str) -> int:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def _ifinfo(index: int, up: bool) -> bytes:
    flags = IFF_UP if up else 0
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def veth(
    here: VethEnd, there: VethEnd, peer_namespace: int, master: int | None = None, mtu: int | None = None
) -> list[Message]:
    """A veth pair, `here` in the current namespace and up, `there` in the namespace behind the descriptor."""
    size = _mtu(mtu)
    peer = _ifinfo(there.index, up=False) + size
    peer += attr(IFLA_IFNAME, there.name.encode() + b"\0") + attr(IFLA_ADDRESS, _mac(there.mac))
    peer += attr(IFLA_NET_NS_FD, struct.pack("=i", peer_namespace))
    body = _ifinfo(here.index, up=False) + size
    body += attr(IFLA_IFNAME, here.name.encode() + b"\0") + attr(IFLA_ADDRESS, _mac(here.mac))
    info = attr(IFLA_INFO_KIND, b"veth") + attr(IFLA_INFO_DATA | NESTED, attr(VETH_INFO_PEER | NESTED, peer))
    body += attr(IFLA_LINKINFO | NESTED, info)
    if master is not None:
        body += attr(IFLA_MASTER, struct.pack("=I", master))
    return [Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add veth {here.name}"), up(here.index)]


def bridge(name: str, index: int, mac: str | None = None, mtu: int | None = None) -> list[Message]:
    """A bridge, up."""
    body = _ifinfo(index, up=False) + _mtu(mtu) + attr(IFLA_IFNAME, name.encode() + b"\0")
    body += attr(IFLA_ADDRESS, _mac(mac)) if mac else b""
    body += attr(IFLA_LINKINFO | NESTED, attr(IFLA_INFO_KIND, b"bridge"))
    return [Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add bridge {name}"), up(index)]


def hairpin(index: int) -> Message:
    """Let a bridge send a frame back out of the port it came from, as a pod needs that reaches itself."""
    body = struct.pack("=BxHiII", socket.AF_BRIDGE, 0, index, 0, 0)
    body += attr(IFLA_PROTINFO | NESTED, attr(IFLA_BRPORT_MODE, b"\1"))
    return Message(RTM_SETLINK, 0, body, f"set hairpin mode on interface {index}")


def vxlan(here: VethEnd, *, number: int, port: int, over: int, local: str, mtu: int) -> list[Message]:
    """A VXLAN interface, up, that learns nothing: where frames go is said by `forwarding` (RFC 7348)."""
    body = _ifinfo(here.index, up=False) + _mtu(mtu) + attr(IFLA_IFNAME, here.name.encode() + b"\0")
    body += attr(IFLA_ADDRESS, _mac(here.mac))
    data = attr(IFLA_VXLAN_ID, struct.pack("=I", number)) + attr(IFLA_VXLAN_LINK, struct.pack("=I", over))
    data += attr(IFLA_VXLAN_LOCAL, ip_address(local).packed) + attr(IFLA_VXLAN_LEARNING, b"\0")
    data += attr(IFLA_VXLAN_PORT, struct.pack(">H", port))
    body += attr(IFLA_LINKINFO | NESTED, attr(IFLA_INFO_KIND, b"vxlan") + attr(IFLA_INFO_DATA | NESTED, data))
    return [Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add VXLAN {here.name}"), up(here.index)]


def forwarding(index: int, mac: str, remote: str) -> Message:
    """Frames for this MAC leave a VXLAN interface for this remote address."""
    state = NUD_NOARP | NUD_PERMANENT
    body = struct.pack("=BxHiHBB", socket.AF_BRIDGE, 0, index, state, NTF_SELF, 0)
    body += attr(NDA_DST, ip_address(remote).packed) + attr(NDA_LLADDR, _mac(mac))
    return Message(RTM_NEWNEIGH, NLM_F_CREATE, body, f"forward {mac} to {remote}")


def up(index: int) -> Message:
    """Set an interface up."""
    return Message(RTM_NEWLINK, 0, _ifinfo(index, up=True), f"set interface {index} up")


def address(index: int, ip: str, prefix: int) -> Message:
    """Add an address; IPv6 without duplicate address detection, so that it can be used at once."""
    raw = ip_address(ip).packed
    body = struct.pack("=BBBBI", _family(ip), prefix, IFA_F_NODAD, RT_SCOPE_UNIVERSE, index)
    body += attr(IFA_LOCAL, raw) + attr(IFA_ADDRESS, raw)
    return Message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body, f"add address {ip}/{prefix}")


def route(
    destination: str | None, prefix: int, index: int, *, gateway: str | None = None, source: str | None = None
) -> Message:
    """Add a route; `destination` None is the default route (its family is the gateway's)."""
    family = _family(destination or gateway or "")
    scope = RT_SCOPE_LINK if gateway is None and family == socket.AF_INET else RT_SCOPE_UNIVERSE
    flags = RTNH_F_ONLINK if gateway else 0
    body = struct.pack("=BBBBBBBBI", family, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, flags)
    body += attr(RTA_OIF, struct.pack("=I", index))
    if destination:
        body += attr(RTA_DST, ip_address(destination).packed)
    if gateway:
        body += attr(RTA_GATEWAY, ip_address(gateway).packed)
    if source:
        body += attr(RTA_PREFSRC, ip_address(source).packed)
    return Message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body, f"add route {destination or 'default'}/{prefix}")


def route_to(cidr: str, index: int, *, gateway: str | None = None) -> Message:
    """Add a route to a CIDR."""
    network = ip_network(cidr)
    return route(str(network.network_address), network.prefixlen, index, gateway=gateway)


def local_range(destination: str, prefix: int, index: int) -> Message:
    """Make every address of a range local to the namespace: wildcard sockets are reached at all of them."""
    family = _family(destination)
    body = struct.pack("=BBBBBBBBI", family, prefix, 0, 0, RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL, 0)
    body += attr(RTA_OIF, struct.pack("=I", index)) + attr(RTA_DST, ip_address(destination).packed)
    return Message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body, f"add local range {destination}/{prefix}")


def neighbour(index: int, ip: str, mac: str) -> Message:
    """Add a permanent neighbour entry: it neither expires nor counts against the host-global table limit."""
    body = struct.pack("=BxHiHBB", _family(ip), 0, index, NUD_PERMANENT, 0, 0)
    body += attr(NDA_DST, ip_address(ip).packed) + attr(NDA_LLADDR, _mac(mac))
    return Message(RTM_NEWNEIGH, NLM_F_CREATE, body, f"add neighbour {ip}")


class Rtnl:
    """An rtnetlink socket of the namespace the calling thread was in when it was opened."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def batch(self, messages: list[Message]) -> None:
        """Carry out all messages, in order. Raises OSError naming the first one that failed."""
        # 64 messages stay well below the default socket buffer, even if every one were answered by an error.
        for start in range(0, len(messages), 64):
            self._send(messages[start : start + 64])

    def _send(self, messages: list[Message]) -> None:
        out = bytearray()
        named: dict[int, str] = {}
        for message in messages:
            self._sequence += 1
            named[self._sequence] = message.what
            flags = NLM_F_REQUEST | message.flags | (NLM_F_ACK if message is messages[-1] else 0)
            out += struct.pack("=IHHII", 16 + len(message.body), message.type, flags, self._sequence, 0)
            out += message.body
        self._socket.send(out)
        while True:
            data = self._socket.recv(1 << 16)
            while data:
                length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data)
                if kind == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", data, 16)
                    if code:
                        raise OSError(-code, f"{named.get(sequence, '?')}: {os.strerror(-code)}")
                    if sequence == self._sequence:
                        return
                data = data[(length + 3) & ~3 :]
