# SPDX-License-Identifier: Apache-2.0
"""The recorder: the last packets of many namespaces, kept by the kernel and read only when somebody wants to know.

A capture costs time for every packet; this costs the kernel a reference, and one cheap call per packet when it is
rewound. Where the buffer was full, the oldest packets are there and the newest are not, so it is rewound before each
test.
"""

import ctypes
import socket
import struct
from typing import Any

from clusters.agent.capture import as_json, dropped, open_capture, queued
from clusters.agent.control import Operation, Reply
from clusters.agent.flowspec import parse_count
from clusters.agent.netns import Namespaces
from clusters.agent.sockets import SO_ATTACH_FILTER

_SNAPLEN = 256
# Some thousand small packets, enough for a test; for an ordinary user the kernel may grant less (net.core.rmem_max).
_BUFFER = 1 << 20
_MOST = 1 << 20
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter
_PROGRAM = struct.Struct("@HP")  # struct sock_fprog


class Recorder:
    """One socket per namespace, in the kernel's care."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._sockets: dict[str, socket.socket] = {}

    def operations(self) -> dict[str, Operation]:
        return {"record_start": self._start, "record_rewind": self._rewind, "record_read": self._read}

    def _start(self, request: dict[str, Any], reply: Reply) -> None:
        """{netns: [path…], except_tcp_port} → null: record there, and only there, all but one TCP port over IPv4."""
        port = parse_count(request["except_tcp_port"], "a port", 1, 65535)
        while self._sockets:
            self._sockets.popitem()[1].close()
        for netns in request["netns"]:
            self._sockets[netns] = open_capture(self._namespaces, netns, buffer=_BUFFER)
            _ignore(self._sockets[netns], port)
        reply.ok()

    def _rewind(self, _: dict[str, Any], reply: Reply) -> None:
        """{} → null: forget everything recorded so far."""
        nothing = bytearray(1)
        for sock in self._sockets.values():
            try:
                while True:
                    sock.recv_into(nothing)
            except OSError:  # nothing is left
                dropped(sock)
        reply.ok()

    def _read(self, request: dict[str, Any], reply: Reply) -> None:
        """{netns: [path…]} → {packets: {path: [row…]}, dropped: {path: number}}: all since the last rewind."""
        packets = {
            netns: [as_json(row) for _, row in queued(self._sockets[netns], _SNAPLEN, _MOST)]
            for netns in request["netns"]
            if netns in self._sockets
        }
        reply.ok({"packets": packets, "dropped": {netns: dropped(self._sockets[netns]) for netns in packets}})


def _ignore(sock: socket.socket, port: int) -> None:
    """Have the kernel drop one TCP port over IPv4 before it is recorded (Documentation/networking/filter.rst)."""
    load_half, load_byte, load_header, load_indexed, equal, give = 0x28, 0x30, 0xB1, 0x48, 0x15, 0x06
    program = (
        (load_half, 0, 0, 12),  # EtherType
        (equal, 0, 8, 0x0800),
        (load_byte, 0, 0, 23),  # protocol
        (equal, 0, 6, socket.IPPROTO_TCP),
        (load_header, 0, 0, 14),  # X = length of the IPv4 header
        (load_indexed, 0, 0, 14),  # source port
        (equal, 2, 0, port),
        (load_indexed, 0, 0, 16),  # destination port
        (equal, 0, 1, port),
        (give, 0, 0, 0),
        (give, 0, 0, 0x40000),
    )
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*instruction) for instruction in program))
    given = _PROGRAM.pack(len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, given)
