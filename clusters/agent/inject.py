# SPDX-License-Identifier: Apache-2.0
"""Packets as they are: sent from a namespace with the IP header they came with (raw(7)), whatever it claims.

By a route of the namespace, or past all routes in a frame to a MAC (packet(7)): loopback addresses have no other way
onto a wire. So has ARP, which no route leads anywhere.
"""

import base64
import binascii
import socket
from typing import Any

from clusters.agent.control import Operation, Reply
from clusters.agent.netns import Namespaces
from clusters.agent.sockets import explain
from clusters.agent.wire import RequestError

_ETHERTYPE = {4: 0x0800, 6: 0x86DD}
# How a packet begins that asks or answers where an IPv4 address is: hardware type 1, protocol 0x0800 (RFC 826).
_ARP, _ARP_TYPE, _ARP_LENGTH = b"\0\1\x08\0", 0x0806, 28
# Where the destination stands in a header, by IP version, and the least length of the header.
_DESTINATION = {4: (socket.AF_INET, slice(16, 20), 20), 6: (socket.AF_INET6, slice(24, 40), 40)}


class Injector:
    """Sends what it is given. On a route an IPv4 header's checksum is the kernel's to fill in; no other ever is."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def operations(self) -> dict[str, Operation]:
        return {"inject": self._inject}

    def _inject(self, request: dict[str, Any], reply: Reply) -> None:
        """{netns, packet: base64, iface and mac, both or neither} → {sent: bytes}"""
        try:
            packet = base64.b64decode(request["packet"], validate=True)
        except binascii.Error:
            raise RequestError("the packet to inject is not base64") from None
        interface, mac = request.get("iface"), request.get("mac") or ""
        is_arp = bool(interface) and packet.startswith(_ARP) and len(packet) >= _ARP_LENGTH
        family, destination, least = _DESTINATION.get(packet[0] >> 4 if packet else 0, (0, slice(0), 1 << 16))
        if len(packet) < least and not is_arp:
            raise RequestError("the packet to inject is no IPv4 or IPv6 packet, nor ARP for a link")
        namespace = self._namespaces.open(request.get("netns"))
        try:
            with self._namespaces.inside(namespace):
                sock = self._socket(family, interface)
        except PermissionError:
            raise RequestError(f"the agent may not send raw packets in {namespace}") from None
        finally:
            namespace.close()
        to: tuple[Any, ...]
        with sock:
            try:
                if interface:
                    kind = _ARP_TYPE if is_arp else _ETHERTYPE[packet[0] >> 4]
                    to = (interface, kind, 0, 0, bytes.fromhex(mac.replace(":", "")))
                else:
                    to = (socket.inet_ntop(family, packet[destination]), 0)
                reply.ok({"sent": sock.sendto(packet, to)})
            except (OSError, ValueError) as error:
                why = explain(error) if isinstance(error, OSError) else str(error)
                raise RequestError(f"the packet cannot be sent from {namespace}: {why}") from None

    @staticmethod
    def _socket(family: int, interface: str | None) -> socket.socket:
        if interface is None:
            return socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)  # the kernel writes the Ethernet header
