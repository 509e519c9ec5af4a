# SPDX-License-Identifier: Apache-2.0
"""A client's SCTP association as a channel (see `channel.py`), and the raw sockets that many of them share.

Strict, as an endpoint's stack is: what has a wrong checksum or tag, or does not come from the address that was
dialled, is no answer. Such a packet at a flow's port is told to its sink as an answer that says nothing.

`refused` is ICMP port unreachable or an ABORT while the association is being set up, both ECONNREFUSED; stacks that
go on trying after the former (sctp(7)) would hide what a dataplane said.
"""

import errno
import os
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from socket import inet_ntop, inet_pton
from time import perf_counter

from clusters.agent import sctp
from clusters.agent.channel import Endpoint, Failure, Sink, Weight
from clusters.agent.flowspec import FlowSpec, SourcePorts
from clusters.agent.loop import ERROR, READ, Loop, Timer
from clusters.agent.netns import Namespaces
from clusters.agent.sctp_socket import Arrival, RawSctp
from clusters.agent.sockets import QueuedError, family_of
from clusters.agent.wire import RequestError

# RTO.Initial and RTO.Min (RFC 9260, 16): what was not answered is sent again after so many seconds.
RETRANSMISSION = 1.0
# How long a closed association still answers SHUTDOWN ACK.
_CLOSING = 1.0
_PER_TURN = 64


class _State(Enum):
    """RFC 9260, section 4, as far as a client that never waits gets round it."""

    CLOSED = auto()
    COOKIE_WAIT = auto()
    COOKIE_ECHOED = auto()
    ESTABLISHED = auto()
    SHUTDOWN_SENT = auto()


class SctpChannel:
    """One association, from its INIT on. A line is a message, in a packet of its own."""

    __slots__ = (
        "_cookie",
        "_expected",
        "_first",
        "_hub",
        "_loop",
        "_number",
        "_outstanding",
        "_own_tag",
        "_peer_tag",
        "_source",
        "_state",
        "_timer",
        "_tsn",
        "peer",
        "port",
        "sink",
        "spec",
        "started",
    )

    backlog = 0

    def __init__(self, loop: Loop, sink: Sink) -> None:
        self._loop = loop
        self._hub: _Hub | None = None
        self._state = _State.CLOSED
        self._own_tag = sctp.fresh_number()
        self._peer_tag = 0
        self._tsn = sctp.fresh_number()  # of our next message
        self._number = 0  # its place on the stream
        self._expected = 0  # the TSN of the peer's next message
        self._first = b""  # the line that waits for the cookie
        self._cookie = b""  # the chunk that echoes it, until that is acknowledged
        self._outstanding: deque[tuple[int, bytes]] = deque()  # messages until they are acknowledged, by TSN
        self._timer: Timer | None = None
        self._source: str | None = None
        self.spec: FlowSpec
        self.peer: Endpoint = ("", 0)
        self.port = 0
        self.sink = sink
        self.started = 0.0

    def open(self, associations: "Associations", spec: FlowSpec, source: str | None, line: bytes) -> None:
        """Send INIT; `line` goes with the cookie. `source` is the address the flow will leave from, for the record.

        Raises RequestError where there can be no such flow. Leaves the agent in the flow's namespace.
        """
        if len(line) > sctp.MAX_MESSAGE:
            raise RequestError(f"a request over SCTP has at most {sctp.MAX_MESSAGE} bytes, not {len(line)}")
        self.started = perf_counter()
        self.spec = spec
        # As the kernel writes it, since the sources of packets are compared with it.
        family = family_of(spec.dst)
        self.peer = (inet_ntop(family, inet_pton(family, spec.dst)), spec.port)
        self._source = source
        self._first = line
        hub = associations.hub(spec)
        if not hub.join(self):
            self.sink.failed(Failure(errno.EADDRINUSE))
            return
        self._hub = hub
        self._state = _State.COOKIE_WAIT
        self._retransmit_later()
        self._transmit(0, sctp.init(sctp.INIT, self._own_tag, self._tsn))

    @property
    def local(self) -> Endpoint | None:
        """The address and port the association leaves from."""
        return (self._source, self.port) if self._source is not None and self.port else None

    @property
    def is_open(self) -> bool:
        return self._state not in (_State.CLOSED, _State.SHUTDOWN_SENT)

    @property
    def established(self) -> bool:
        return self._state is _State.ESTABLISHED

    def send(self, line: bytes) -> None:
        """One message on an association that is established."""
        self.started = perf_counter()
        if self._state is not _State.ESTABLISHED:
            return
        if len(line) > sctp.MAX_MESSAGE:
            self.sink.failed(Failure(errno.EMSGSIZE))
            return
        self._retransmit_later()
        self._transmit(self._peer_tag, sctp.sack(sctp.after(self._expected, -1)) + self._message(line))

    def close(self, reset: bool = True) -> None:
        """Leave, by ABORT or by SHUTDOWN, where there is anybody to tell."""
        if not self.is_open:
            return
        if self._state is _State.ESTABLISHED and not reset:
            self._state = _State.SHUTDOWN_SENT
            self._cancel_timer()
            self._timer = self._loop.call_later(_CLOSING, self._leave)
            self._transmit(self._peer_tag, sctp.shutdown(sctp.after(self._expected, -1)))
            return
        self._state = _State.CLOSED
        if self._peer_tag:
            self._transmit(self._peer_tag, sctp.chunk(sctp.ABORT))
        self._leave()

    def arrived(self, arrival: Arrival, now: float) -> None:
        """A packet for this port has come."""
        now = now if now >= self.started else perf_counter()
        packet = sctp.decode(arrival.data)
        if packet is None or (arrival.src, packet.sport) != self.peer or not self._has_right_tag(packet):
            self._stray(now)
            return
        for one in packet.chunks:
            self._chunk(one, now)

    def refused(self, error: QueuedError) -> None:
        """An ICMP error about a packet of this association has come."""
        if self._state is _State.ESTABLISHED:
            self.sink.failed(Failure(error.errno, error.icmp, weight=Weight.NOTED))
        elif self.is_open:
            self._end(Failure(error.errno, error.icmp))

    def _has_right_tag(self, packet: sctp.Packet) -> bool:
        """RFC 9260, 8.5: ours, but for an ABORT that reflects the peer's."""
        if packet.tag == self._own_tag:
            return True
        first = packet.chunks[0]
        return first.kind == sctp.ABORT and bool(first.flags & sctp.REFLECTED) and packet.tag == self._peer_tag != 0

    def _chunk(self, one: sctp.Chunk, now: float) -> None:
        """One chunk of a packet that is ours. What comes twice or too late changes nothing."""
        match one.kind, self._state:
            case sctp.INIT_ACK, _State.COOKIE_WAIT:
                self._accepted(sctp.parse_init(one.value), now)
            case sctp.COOKIE_ACK, _State.COOKIE_ECHOED:
                self._state = _State.ESTABLISHED
                self._cookie = b""
                self.sink.connected(now)
            case sctp.DATA, _State.ESTABLISHED:
                self._answer(sctp.parse_data(one), now)
            case sctp.SACK, _State.ESTABLISHED:
                self._acknowledged(sctp.parse_sack(one.value))
            case sctp.ABORT, (_State.COOKIE_WAIT | _State.COOKIE_ECHOED):
                self._end(Failure(errno.ECONNREFUSED))
            case sctp.ABORT, _State.ESTABLISHED:
                self._end(Failure(errno.ECONNRESET))
            case sctp.SHUTDOWN, _State.ESTABLISHED:
                self._transmit(self._peer_tag, sctp.chunk(sctp.SHUTDOWN_ACK))
                self._end(Failure(0))
            case sctp.SHUTDOWN_ACK, _State.SHUTDOWN_SENT:
                self._transmit(self._peer_tag, sctp.chunk(sctp.SHUTDOWN_COMPLETE))
                self._leave()

    def _accepted(self, answer: sctp.Init | None, now: float) -> None:
        """INIT ACK: echo the cookie, and the first line with it."""
        if answer is None or not answer.cookie:
            self._stray(now)
            return
        self._peer_tag = answer.tag
        self._expected = answer.tsn
        self._cookie = sctp.chunk(sctp.COOKIE_ECHO, answer.cookie)
        self._state = _State.COOKIE_ECHOED
        self._retransmit_later()
        self._transmit(self._peer_tag, self._cookie + self._message(self._first))

    def _message(self, line: bytes) -> bytes:
        """The chunk of a new message, which is outstanding from now on."""
        chunk = sctp.data(self._tsn, self._number, line)
        self._outstanding.append((self._tsn, chunk))
        self._tsn = sctp.after(self._tsn)
        self._number += 1
        return chunk

    def _answer(self, message: sctp.Message | None, now: float) -> None:
        if message is not None and message.tsn == self._expected:
            self._expected = sctp.after(self._expected)
            self.sink.answered(message.data, self.peer, now)

    def _acknowledged(self, tsn: int | None) -> None:
        while self._outstanding and tsn is not None and not sctp.is_after(self._outstanding[0][0], tsn):
            self._outstanding.popleft()
        if not self._outstanding:
            self._cancel_timer()

    def _again(self) -> None:
        """Nothing has come for a second: everything outstanding once more."""
        self._retransmit_later()
        if self._state is _State.COOKIE_WAIT:
            self._transmit(0, sctp.init(sctp.INIT, self._own_tag, self._tsn))
            return
        before = self._cookie
        for _, chunk in tuple(self._outstanding):
            if self.is_open:
                self._transmit(self._peer_tag, before + chunk)
            before = b""

    def _transmit(self, tag: int, chunks: bytes) -> None:
        """One packet; what the kernel says against it goes to the sink."""
        if self._hub is None:
            return
        packet = sctp.encode(self.port, self.peer[1], tag, chunks)
        try:
            self._hub.send(packet, self.spec)
        except BlockingIOError:
            return  # no room just now: lost, as packets are
        except OSError as error:
            if not self.is_open:
                return
            failure = Failure(error.errno or 0)
            if error.errno in (errno.EPERM, errno.ENOBUFS):
                self.sink.failed(failure._replace(weight=Weight.PROVISIONAL))
            elif self.established:
                self.sink.failed(failure._replace(weight=Weight.NOTED))
            else:
                self._end(failure)

    def _stray(self, now: float) -> None:
        if self.is_open:
            self.sink.answered(b"", self.peer, now)

    def _end(self, failure: Failure) -> None:
        self._leave()
        self.sink.failed(failure)

    def _leave(self) -> None:
        self._cancel_timer()
        self._state = _State.CLOSED
        hub, self._hub = self._hub, None
        if hub is not None:
            hub.leave(self)

    def _retransmit_later(self) -> None:
        self._cancel_timer()
        self._timer = self._loop.give_up_later(RETRANSMISSION, self._again)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Hub:
    """The raw socket of one namespace and family, and the associations that share it, by their ports."""

    def __init__(self, loop: Loop, sock: RawSctp, ports: SourcePorts, ended: Callable[[], None]) -> None:
        self._loop = loop
        self._sock = sock
        self._ports = ports
        self._ended = ended
        self._channels: dict[int, SctpChannel] = {}
        loop.register(self._sock.fileno(), READ, self._on_event)

    def join(self, channel: SctpChannel) -> bool:
        """Give a channel its port; False where the one it asks for is taken."""
        spec = channel.spec
        port = spec.sport or self._ports.unused(spec.namespace, self._channels)
        if port in self._channels:
            return False
        self._channels[port] = channel
        channel.port = port
        return True

    def leave(self, channel: SctpChannel) -> None:
        del self._channels[channel.port]
        if not self._channels:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._ended()

    def send(self, packet: bytes, spec: FlowSpec) -> None:
        self._sock.send(packet, spec.dst, spec.src, self._refused)

    def _on_event(self, mask: int) -> None:
        if mask & ERROR:
            self._sock.tell_errors(self._refused)
        for _ in range(_PER_TURN):
            arrival = self._sock.receive() if self._channels else None
            if arrival is None:
                return
            between = sctp.ports(arrival.data)
            channel = self._channels.get(between[1]) if between else None
            if channel is not None:
                channel.arrived(arrival, self._loop.now)
        self._loop.leave_over()

    def _refused(self, error: QueuedError) -> None:
        between = sctp.ports(error.quoted)
        channel = self._channels.get(between[0]) if between else None
        if between and channel is not None and between[1] == channel.peer[1]:
            channel.refused(error)


class Associations:
    """The raw sockets of this agent's SCTP flows: one for a namespace and family, while there are flows."""

    def __init__(self, loop: Loop, namespaces: Namespaces, ports: SourcePorts) -> None:
        self._loop = loop
        self._namespaces = namespaces
        self._ports = ports
        self._hubs: dict[tuple[int, int], _Hub] = {}

    def hub(self, spec: FlowSpec) -> "_Hub":
        """Where a flow belongs. Raises RequestError; leaves the agent in the flow's namespace."""
        family = family_of(spec.dst)
        key = (os.fstat(spec.namespace.fd).st_ino, int(family))
        hub = self._hubs.get(key)
        if hub is None:
            self._namespaces.enter(spec.namespace)
            sock = RawSctp(family)
            sock.hear_errors()
            hub = _Hub(self._loop, sock, self._ports, lambda: self._ended(key))
            self._hubs[key] = hub
        return hub

    def _ended(self, key: tuple[int, int]) -> None:
        del self._hubs[key]
