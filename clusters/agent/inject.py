# SPDX-License-Identifier: Apache-2.0
"""Packets as they are: sent from a namespace with the IP header they came with (raw(7)), whatever it claims."""

import base64
import binascii
import socket
from typing import Any

from clusters.agent.control import Operation, Reply
from clusters.agent.netns import Namespaces
from clusters.agent.wire import RequestError

# Where the destination stands in a header, by IP version, and the least length of the header.
_DESTINATION = {4: (socket.AF_INET, slice(16, 20), 20), 6: (socket.AF_INET6, slice(24, 40), 40)}


class Injector:
    """Sends what it is given. The header's checksum is the kernel's to fill in (IPv4), the transport's is not."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def operations(self) -> dict[str, Operation]:
        return {"inject": self._inject}

    def _inject(self, request: dict[str, Any], reply: Reply) -> None:
        """{netns, packet: base64} → {sent: bytes}"""
        try:
            packet = base64.b64decode(request["packet"], validate=True)
        except binascii.Error:
            raise RequestError("the packet to inject is not base64") from None
        family, destination, least = _DESTINATION.get(packet[0] >> 4 if packet else 0, (0, slice(0), 1 << 16))
        if len(packet) < least:
            raise RequestError("the packet to inject is no IPv4 or IPv6 packet")
        namespace = self._namespaces.open(request.get("netns"))
        try:
            with self._namespaces.inside(namespace):
                sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        except PermissionError:
            raise RequestError(f"the agent may not send raw packets in {namespace}") from None
        finally:
            namespace.close()
        with sock:
            reply.ok({"sent": sock.sendto(packet, (socket.inet_ntop(family, packet[destination]), 0))})
