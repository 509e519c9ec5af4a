# SPDX-License-Identifier: Apache-2.0
"""A client's socket as a state machine: it sends lines and tells a sink what came back.

`TcpChannel` and `UdpChannel` here, and `SctpChannel` (`sctp_channel.py`), know nothing of tokens, timeouts or
results; probes, held connections and paced flows are sinks. A channel never raises for what the network does:
refusals, resets and ICMP errors go to `Sink.failed`.
"""

import errno
from enum import Enum, auto
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from clusters.agent.flowspec import FlowSpec, SourcePorts
from clusters.agent.loop import CONNECTION, ERROR, HANGUP, READ, WRITE, Loop
from clusters.agent.sockets import (
    IcmpTuple,
    errno_name,
    pending_error,
    read_errors,
    reset_on_close,
)
from clusters.agent.wire import MAX_LINE
from clusters.observation import FlowOutcome

if TYPE_CHECKING:
    import socket

_CHUNK = 65536
_LOST = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ETIMEDOUT)
_OUTCOMES = {
    0: FlowOutcome.RESET,
    errno.ECONNREFUSED: FlowOutcome.REFUSED,
    errno.ECONNRESET: FlowOutcome.RESET,
    errno.EPIPE: FlowOutcome.RESET,
    errno.ECONNABORTED: FlowOutcome.RESET,
    errno.ETIMEDOUT: FlowOutcome.TIMEOUT,
}

Endpoint = tuple[str, int]


class Weight(Enum):
    """What a failure means for the request under way."""

    FINAL = auto()
    """It failed."""
    PROVISIONAL = auto()
    """It failed here, and an ICMP error that says why may follow at once: a firewall that rejects a datagram makes
    sendto(2) say EPERM (a program at tc: ENOBUFS) and sends the ICMP error besides."""
    NOTED = auto()
    """It may still succeed: an established connection outlives ICMP errors (RFC 1122, 4.2.3.9)."""


class Failure(NamedTuple):
    """Something went wrong: errno (0: the peer closed in good order), the ICMP behind it and what that quoted."""

    errno: int
    icmp: IcmpTuple | None = None
    quoted: bytes = b""
    weight: Weight = Weight.FINAL

    @property
    def outcome(self) -> FlowOutcome:
        """The outcome this failure amounts to; every error without a name of its own is `unreachable`."""
        return _OUTCOMES.get(self.errno, FlowOutcome.UNREACHABLE)

    @property
    def errno_name(self) -> str | None:
        return errno_name(self.errno) if self.errno else None


class Sink(Protocol):
    """Who hears what happens on a channel. `now` is `perf_counter()` seconds."""

    def connected(self, now: float) -> None: ...

    def answered(self, line: bytes, source: Endpoint, now: float) -> None: ...

    def failed(self, failure: Failure) -> None: ...


class TcpChannel:
    """One TCP connection, from its SYN on."""

    __slots__ = (
        "_buffer",
        "_first_byte",
        "_loop",
        "_out",
        "_peer",
        "_sock",
        "established",
        "sink",
        "started",
    )

    def __init__(self, loop: Loop, sink: Sink) -> None:
        self._loop = loop
        self._sock: socket.socket | None = None
        self._peer: Endpoint = ("", 0)
        self._buffer = b""
        self._out = b""
        self._first_byte = 0.0
        self.sink = sink
        self.established = False
        self.started = 0.0

    def open(self, ports: SourcePorts, spec: FlowSpec, line: bytes) -> None:
        """Connect, and send `line` as soon as the handshake is done. Raises what `SourcePorts.open`
        raises."""
        try:
            sock = ports.open(spec)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            self.started = perf_counter()
            self.sink.failed(Failure(errno.EADDRINUSE))
            return
        self._sock = sock
        self._peer = (spec.dst, spec.port)
        self._out = line
        self.started = perf_counter()
        number = sock.connect_ex(self._peer)
        if number not in (0, errno.EINPROGRESS):
            self._end(number)
            return
        self._loop.register(sock.fileno(), CONNECTION, self._on_event)
        # Between namespaces of one machine the handshake is often over before connect(2) returns.
        self._flush(None)

    @property
    def local(self) -> Endpoint | None:
        """The address and port the connection leaves from."""
        if self._sock is None:
            return None
        name = self._sock.getsockname()
        return name[0], name[1]

    @property
    def is_open(self) -> bool:
        return self._sock is not None

    @property
    def backlog(self) -> int:
        """Bytes that wait for the peer to take them."""
        return len(self._out)

    def send(self, line: bytes) -> None:
        self.started = perf_counter()
        self._out += line
        self._flush(self.started)

    def close(self, reset: bool = True) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.forget(sock.fileno())
            if reset:
                reset_on_close(sock)
            sock.close()

    def _now(self) -> float:
        """When this turn's events were ready, unless the flow is younger than that."""
        now = self._loop.now
        return now if now >= self.started else perf_counter()

    def _on_event(self, mask: int) -> None:
        if mask & ERROR:
            self._error()
        if self._out and mask & (WRITE | READ):
            self._flush(self._now())
        if self.established and mask & (READ | HANGUP):
            self._read(to_the_end=bool(mask & HANGUP))

    def _flush(self, now: float | None) -> None:
        """Send what waits. The first success is also how the end of the handshake shows."""
        if self._sock is None:
            return
        try:
            sent = self._sock.send(self._out)
        except BlockingIOError:  # still in SYN_SENT, or the peer's window is full
            return
        except OSError as error:
            self._broken(error.errno or 0)
            return
        self._out = self._out[sent:]
        if not self.established:
            self.established = True
            self.sink.connected(perf_counter() if now is None else now)

    def _read(self, to_the_end: bool) -> None:
        while self._sock is not None:
            try:
                data = self._sock.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError as error:
                self._broken(error.errno or 0)
                return
            if not data:
                self._end(0)
                return
            if not self._buffer:
                self._first_byte = self._now()
            self._deliver(self._buffer + data)
            # After a short read the queue was empty, and whatever comes next is a new edge; but a FIN that
            # was there already shows only in another read.
            if len(data) < _CHUNK and not to_the_end:
                return

    def _deliver(self, data: bytes) -> None:
        if data.find(b"\n") == len(data) - 1:
            self._buffer = b""
            self.sink.answered(data, self._peer, self._first_byte)
            return
        lines = data.split(b"\n")
        self._buffer = lines.pop()
        if len(self._buffer) > MAX_LINE:
            self._end(errno.EMSGSIZE)
            return
        for line in lines:
            if self._sock is None:
                return
            self.sink.answered(line, self._peer, self._first_byte)

    def _broken(self, number: int) -> None:
        """A system call said that the connection failed, or that an ICMP error came by."""
        if self.established and number not in _LOST:
            self.sink.failed(Failure(number, weight=Weight.NOTED))
        else:
            self._end(number)

    def _error(self) -> None:
        if self._sock is None:
            return
        if not self.established:
            errors = read_errors(self._sock)
            if errors:
                self._end(errors[0].errno, errors[0].icmp)
                return
            number = pending_error(self._sock)
            if number:
                self._end(number)
            return
        # Of an ICMP error Linux now gives the errno and no queue entry (tcp_v4_err, tcp_v6_err); nothing at all of
        # one that arrives during a system call on the socket, as between namespaces of one machine it often does.
        number = pending_error(self._sock)
        if number in _LOST:
            self._end(number)
        elif number:
            self.sink.failed(Failure(number, weight=Weight.NOTED))

    def _end(self, number: int, icmp: IcmpTuple | None = None) -> None:
        if icmp is None and self._sock is not None and not self.established:
            errors = read_errors(self._sock)
            if errors:
                number, icmp = errors[0].errno, errors[0].icmp
        failure = Failure(number, icmp)
        self.sink.failed(failure)
        self.close()


class UdpChannel:
    """One UDP socket towards one destination. Unconnected, it also hears replies that come from elsewhere."""

    __slots__ = ("_connected", "_local", "_loop", "_peer", "_sock", "sink", "started")

    established = True
    backlog = 0

    def __init__(self, loop: Loop, sink: Sink) -> None:
        self._loop = loop
        self._sock: socket.socket | None = None
        self._peer: Endpoint = ("", 0)
        self._local: Endpoint | None = None
        self._connected = False
        self.sink = sink
        self.started = 0.0

    def open(self, ports: SourcePorts, spec: FlowSpec, source: str | None) -> None:
        """Bind; `source` is the address the flow will leave from, for the record. Raises what
        `SourcePorts.open` does."""
        self.started = perf_counter()
        try:
            sock = ports.open(spec)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            self.sink.failed(Failure(errno.EADDRINUSE))
            return
        self._sock = sock
        self._peer = (spec.dst, spec.port)
        self._connected = spec.connected
        if spec.connected:
            number = sock.connect_ex(self._peer)
            if number:
                self.close()
                self.sink.failed(Failure(number))
                return
        name = sock.getsockname()
        self._local = (name[0], name[1]) if source is None or spec.connected else (source, name[1])
        self._loop.register(sock.fileno(), READ, self._on_event)

    @property
    def local(self) -> Endpoint | None:
        return self._local

    @property
    def is_open(self) -> bool:
        return self._sock is not None

    def send(self, line: bytes) -> None:
        """One datagram; what the kernel says against it goes to the sink.

        An error about an earlier datagram is told first, and then this one is sent (udp(7)).
        """
        self.started = perf_counter()
        while self._sock is not None:
            try:
                if self._connected:
                    self._sock.send(line)
                else:
                    self._sock.sendto(line, self._peer)
            except BlockingIOError:
                self.sink.failed(Failure(errno.EAGAIN))
            except OSError as error:
                refused = error.errno in (errno.EPERM, errno.ENOBUFS)
                if self._drain_errors() and not refused:
                    continue
                if self._sock is not None:
                    weight = Weight.PROVISIONAL if refused else Weight.FINAL
                    self.sink.failed(Failure(error.errno or 0, weight=weight))
            return

    def close(self, reset: bool = True) -> None:  # noqa: ARG002  (the same call for both protocols)
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.forget(sock.fileno())
            sock.close()

    def _on_event(self, mask: int) -> None:
        if mask & ERROR:
            queued = self._drain_errors()
            number = pending_error(self._sock) if self._sock is not None else 0
            if number and not queued:  # the queue had no room for its entry
                self.sink.failed(Failure(number))
        while self._sock is not None:
            try:
                data, source = self._sock.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:
                self._drain_errors()
                continue
            now = self._loop.now
            self.sink.answered(data, source[:2], now if now >= self.started else perf_counter())

    def _drain_errors(self) -> bool:
        """Tell the sink of every queued error; whether there was any."""
        errors = read_errors(self._sock) if self._sock is not None else []
        for error in errors:
            self.sink.failed(Failure(error.errno, error.icmp, error.quoted))
            if self._sock is None:
                break
        return bool(errors)
