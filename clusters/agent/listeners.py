# SPDX-License-Identifier: Apache-2.0
"""The sockets of a backend: TCP connections that answer line by line, UDP sockets that answer each datagram.

UDP answers leave from the address the datagram came to (IP_PKTINFO, ip(7)); the kernel alone would choose the
interface's first address.
"""

import errno
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import Any

from clusters.agent.loop import CONNECTION, EDGE, HANGUP, READ, WRITE, Loop
from clusters.agent.sockets import IP_PKTINFO, grow_receive_buffer, reset_on_close
from clusters.agent.wire import MAX_DATAGRAM, MAX_LINE, answer_line, parse_request

_CHUNK = 65536
_BACKLOG = 4096
_PER_TURN = 64  # connections or datagrams taken from one socket before the others get their turn
_UDP_BUFFER = 4 << 20
_FULL_TABLE = (errno.EMFILE, errno.ENFILE)
_FULL_TABLE_PAUSE = 0.02
_PKTINFO4 = struct.Struct("=I4s4s")  # struct in_pktinfo: interface, spec_dst (local), addr (header)
_PKTINFO6 = struct.Struct("=16sI")  # struct in6_pktinfo: address, interface
# An answer nearly always fits the send buffer, so a connection asks to hear of room only after one did not.
_LISTENING = CONNECTION & ~WRITE


class Connection:
    """One accepted TCP connection: a line in, a line out, until either side ends it."""

    __slots__ = ("_exchange", "_identity", "_lines", "_loop", "_name", "_out", "_peer", "_siblings", "_sock", "_tail")

    def __init__(
        self, loop: Loop, name: str, sock: socket.socket, peer: tuple[Any, ...], siblings: "set[Connection]"
    ) -> None:
        self._loop = loop
        self._name = name
        self._sock = sock
        self._peer = peer
        self._siblings = siblings
        self._identity: str | None = None
        self._exchange = 0
        self._lines: deque[bytes] = deque()
        self._tail = b""
        self._out = b""
        siblings.add(self)
        loop.register(sock.fileno(), _LISTENING, self._on_event)
        self._work(to_the_end=False)

    def close(self, reset: bool = False) -> None:
        if self._sock.fileno() >= 0:
            self._loop.forget(self._sock.fileno())
            if reset:
                reset_on_close(self._sock)
            self._sock.close()
            self._siblings.discard(self)
            self._lines.clear()
            self._out = b""

    def _on_event(self, mask: int) -> None:
        if self._out and mask & WRITE:
            self._flush()
        self._work(to_the_end=bool(mask & (HANGUP | WRITE)))

    def _work(self, to_the_end: bool) -> None:
        """Answer and read in turn; a client that does not take its answers is not read from."""
        while not self._out:
            if self._lines:
                self._answer()
                continue
            try:
                data = self._sock.recv(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:  # the client reset it, or it is closed already
                self.close()
                return
            if not data or len(self._tail) > MAX_LINE:
                self.close()
                return
            *lines, self._tail = (self._tail + data).split(b"\n")
            self._lines.extend(lines)
            if len(data) < _CHUNK and not to_the_end:
                while self._lines and not self._out:
                    self._answer()
                return  # the queue was empty; what comes next is a new edge

    def _answer(self) -> None:
        """Answer as many lines as make one good write."""
        while self._lines and len(self._out) < _CHUNK:
            line = self._lines.popleft()
            request = parse_request(line)
            if request is None:
                self.close()
                return
            self._exchange += 1
            token, padding = request
            if self._identity is None:
                local = self._sock.getsockname()
                self._identity = f"{self._name} {self._peer[0]} {self._peer[1]} {local[0]} {local[1]}"
            self._out += answer_line(token, self._identity, self._exchange, len(line) + 1, padding)
        self._flush()

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self._out, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._out = self._out[sent:]
        if self._out:
            self._loop.modify(self._sock.fileno(), CONNECTION)


class _Listener:
    """One bound socket; `count` is how many connections or datagrams it has taken."""

    def __init__(self, loop: Loop, sock: socket.socket, name: str, port: int) -> None:
        self._loop = loop
        self._sock = sock
        self._name = name
        self.port = port
        self.count = 0
        loop.register(sock.fileno(), READ, self._on_event)

    def close(self) -> None:
        self._loop.forget(self._sock.fileno())
        self._sock.close()

    def take_all(self) -> None:
        """Take everything that has reached the socket by now."""
        while self._take(_PER_TURN):
            pass

    def _on_event(self, _: int) -> None:
        if self._take(_PER_TURN):
            self._loop.leave_over()

    def _take(self, most: int) -> bool:
        """Take at most so many; whether there may be more."""
        raise NotImplementedError


class TcpListener(_Listener):
    """Accepts connections, which outlive it."""

    protocol = "TCP"

    def __init__(self, loop: Loop, sock: socket.socket, name: str, port: int, connections: set[Connection]) -> None:
        sock.listen(_BACKLOG)
        super().__init__(loop, sock, name, port)
        self._connections = connections

    def _take(self, most: int) -> bool:
        for _ in range(most):
            try:
                client, peer = self._sock.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in _FULL_TABLE:
                    self._pause()
                    return False
                continue  # that one connection died in the queue (accept(2))
            self.count += 1
            Connection(self._loop, self._name, client, peer, self._connections)
        return True

    def _pause(self) -> None:
        """Out of descriptors: look again a little later, rather than be told of the waiting client for ever."""
        self._loop.modify(self._sock.fileno(), EDGE)
        self._loop.call_later(_FULL_TABLE_PAUSE, self._resume)

    def _resume(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.modify(self._sock.fileno(), READ)


class UdpListener(_Listener):
    """Answers datagrams from the address they came to."""

    protocol = "UDP"

    def __init__(self, loop: Loop, sock: socket.socket, name: str, port: int) -> None:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        grow_receive_buffer(sock, _UDP_BUFFER)
        super().__init__(loop, sock, name, port)

    def _take(self, most: int) -> bool:
        for _ in range(most):
            try:
                data, ancillary, _flags, client = self._sock.recvmsg(_CHUNK, 128)
            except BlockingIOError:
                return False
            except OSError:
                continue  # an ICMP error of an earlier answer; reading it has cleared it
            self.count += 1
            request = parse_request(data.removesuffix(b"\n"))
            if request is None:
                continue
            local, reply_from = _reached_at(ancillary)
            token, padding = request
            identity = f"{self._name} {client[0]} {client[1]} {local} {self.port}"
            answer = answer_line(token, identity, 0, len(data), padding, MAX_DATAGRAM)
            # What cannot be sent is lost, as datagrams are; the client reports the silence.
            with suppress(OSError):
                self._sock.sendmsg([answer], reply_from, socket.MSG_DONTWAIT, client)
        return True


def _reached_at(ancillary: list[tuple[int, int, bytes]]) -> tuple[str, list[tuple[int, int, bytes]]]:
    """The address a datagram came to, and the ancillary data that makes the answer leave from it."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            _, _, address = _PKTINFO4.unpack_from(data)
            reply = _PKTINFO4.pack(0, address, b"\0\0\0\0")
            return socket.inet_ntop(socket.AF_INET, address), [(level, kind, reply)]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            address, _ = _PKTINFO6.unpack_from(data)
            return socket.inet_ntop(socket.AF_INET6, address), [(level, kind, _PKTINFO6.pack(address, 0))]
    return "-", []
