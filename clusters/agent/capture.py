# SPDX-License-Identifier: Apache-2.0
"""Captures: what passes the interfaces of a namespace, read by the same loop that sends.

The packet socket is bound before `capture_start` is answered, so no packet sent afterwards is missed. It
listens for every protocol and filters here, because a socket bound to one EtherType never sees outgoing
packets (packet(7)).
"""

import base64
import errno
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from queue import SimpleQueue
from time import perf_counter, time
from typing import Any

from clusters.agent.control import Operation, Reply
from clusters.agent.flowspec import parse_count
from clusters.agent.loop import READ, Loop
from clusters.agent.netns import Namespaces
from clusters.agent.sockets import (
    PACKET_AUXDATA,
    PACKET_STATISTICS,
    SO_TIMESTAMPNS,
    SOL_PACKET,
    explain,
    grow_receive_buffer,
)
from clusters.agent.wire import RequestError

_ETH_P_ALL = 0x0003
_BUFFER = 64 << 20
_PACKETS_PER_TURN = 512
_TIMESPEC = struct.Struct("=qq")
_AUXDATA_LENGTHS = struct.Struct("=III")  # struct tpacket_auxdata: tp_status, tp_len, tp_snaplen, …
_STATISTICS = struct.Struct("=II")  # struct tpacket_stats: tp_packets, tp_drops
_DIRECTIONS = {0: "host", 1: "broadcast", 2: "multicast", 3: "otherhost", 4: "outgoing", 5: "loopback"}


# t, interface, direction, length on the wire, data
Row = tuple[float, str, str, int, bytes]


def queued(sock: socket.socket, snaplen: int, most: int) -> Iterator[tuple[int, Row]]:
    """At most `most` of the packets that the kernel keeps for a capture socket: protocol and packet, oldest first."""
    # Kernel timestamps are CLOCK_REALTIME; every other time the agent gives is CLOCK_MONOTONIC.
    offset = time() - perf_counter()
    for _ in range(most):
        try:
            data, ancillary, _flags, address = sock.recvmsg(snaplen, 128)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.ENETDOWN:  # an interface went down; the others go on
                continue
            raise
        interface, protocol, kind = address[:3]
        t = perf_counter()
        length = len(data)
        for level, what, value in ancillary:
            if level == socket.SOL_SOCKET and what == SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                t = seconds - offset + nanoseconds * 1e-9
            elif level == SOL_PACKET and what == PACKET_AUXDATA:
                length = _AUXDATA_LENGTHS.unpack_from(value)[1]
        yield protocol, (t, interface, _DIRECTIONS.get(kind, str(kind)), length, data)


def as_json(row: Row) -> tuple[float, str, str, int, str]:
    """A packet as it travels to the caller."""
    t, interface, direction, length, data = row
    return t, interface, direction, length, base64.b64encode(data).decode("ascii")


def dropped(sock: socket.socket) -> int:
    """Packets a capture socket had no room for since this was last asked."""
    packets = sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size)
    return int(_STATISTICS.unpack(packets)[1])


def open_capture(
    namespaces: Namespaces, netns: str | None, interface: str | None = None, buffer: int = _BUFFER
) -> socket.socket:
    """A capture socket that hears from now on. Raises RequestError."""
    namespace = namespaces.open(netns)
    try:
        with namespaces.inside(namespace):
            # Protocol 0 receives nothing: the socket hears no other interface before it is bound to its own.
            protocol = 0 if interface else socket.htons(_ETH_P_ALL)
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    except PermissionError:
        raise RequestError(f"the agent may not capture packets in {namespace}") from None
    finally:
        namespace.close()
    try:
        grow_receive_buffer(sock, buffer)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        if interface:
            sock.bind((interface, _ETH_P_ALL))
    except OSError as error:
        sock.close()
        if error.errno == errno.ENODEV:
            raise RequestError(f"there is no interface {interface!r} in {namespace}") from None
        raise RequestError(f"no capture can start in {namespace}: {explain(error)}") from None
    return sock


class _Capture:
    """One packet socket and what it has read."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        close: Callable[[socket.socket], None],
        snaplen: int,
        limit: int,
        ethertypes: frozenset[int],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._close = close
        self._snaplen = snaplen
        self._limit = limit
        self._ethertypes = ethertypes
        self._packets: list[Row] = []
        self._beyond_limit = 0
        loop.register(sock.fileno(), READ, self._on_event)

    def _on_event(self, _: int) -> None:
        self._read(_PACKETS_PER_TURN)

    def finish(self) -> dict[str, Any]:
        """Read what the kernel still has, close, and give everything."""
        while self._read(_PACKETS_PER_TURN):
            pass
        lost = dropped(self._sock) + self._beyond_limit
        self._loop.modify(self._sock.fileno(), 0)
        self._loop.forget(self._sock.fileno())
        self._close(self._sock)
        return {"packets": [as_json(row) for row in self._packets], "dropped": lost}

    def _read(self, most: int) -> bool:
        """Read at most `most` packets; whether there may be more."""
        count = 0
        for protocol, packet in queued(self._sock, self._snaplen, most):
            count += 1
            if self._ethertypes and protocol not in self._ethertypes:
                continue
            if len(self._packets) >= self._limit:
                self._beyond_limit += 1
                continue
            self._packets.append(packet)
        return count == most


class _Closer:
    """Closes packet sockets in a thread of its own: the kernel returns only when no processor can still be using one
    (synchronize_net), 10 ms later and more, in which the agent would do nothing else.

    To be made in the agent's own namespace, in which the thread stays.
    """

    def __init__(self) -> None:
        self._sockets: SimpleQueue[socket.socket] = SimpleQueue()
        threading.Thread(target=self._run, name="closer", daemon=True).start()

    def close(self, sock: socket.socket) -> None:
        self._sockets.put(sock)

    def _run(self) -> None:
        while True:
            with suppress(OSError):
                self._sockets.get().close()


class Sniffer:
    """All captures of this agent, by number."""

    def __init__(self, loop: Loop, namespaces: Namespaces) -> None:
        self._loop = loop
        self._namespaces = namespaces
        self._captures: dict[int, _Capture] = {}
        self._numbers = count(1)
        self._closer = _Closer()

    def operations(self) -> dict[str, Operation]:
        return {"capture_start": self._start, "capture_stop": self._stop}

    def _start(self, request: dict[str, Any], reply: Reply) -> None:
        """{netns, iface or null for all, snaplen, limit, ethertypes: [number…]} → {capture}"""
        snaplen = parse_count(request.get("snaplen", 256), "snaplen", 14, 65535)
        limit = parse_count(request.get("limit", 10_000), "limit", 1, 10_000_000)
        ethertypes = frozenset(
            parse_count(number, "an EtherType", 1, 65535) for number in request.get("ethertypes") or ()
        )
        sock = open_capture(self._namespaces, request.get("netns"), request.get("iface"))
        number = next(self._numbers)
        self._captures[number] = _Capture(self._loop, sock, self._closer.close, snaplen, limit, ethertypes)
        reply.ok({"capture": number})

    def _stop(self, request: dict[str, Any], reply: Reply) -> None:
        """{capture} → {packets: [[t, interface, direction, wire length, base64]…], dropped}"""
        capture = self._captures.pop(request["capture"], None)
        if capture is None:
            raise RequestError(f"the agent has no capture {request['capture']!r}")
        reply.ok(capture.finish())
