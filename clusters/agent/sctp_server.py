# SPDX-License-Identifier: Apache-2.0
"""A backend's side of SCTP, from raw sockets: one for each namespace and family, which is the SCTP stack there.

As a host does, it refuses with ABORT what comes to a port at which nobody listens (RFC 9260, 5.1 and 8.4). What has a
wrong checksum or tag is a stray: counted, and not answered.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from clusters.agent import sctp
from clusters.agent.loop import READ, Loop
from clusters.agent.netns import Namespace
from clusters.agent.sctp_socket import Arrival, RawSctp
from clusters.agent.sockets import family_of, wildcard
from clusters.agent.wire import answer_line, parse_request

_PER_TURN = 64
# The peer's tag and first TSN, our own tag and first TSN, and a code that only this listener can have made.
_COOKIE = struct.Struct("!IIIIq")


class _Ends(NamedTuple):
    """Between whom an association is."""

    peer: str
    peer_port: int
    local: str
    port: int


class Association:
    """One association: a message in, a message out, until either side ends it."""

    __slots__ = (
        "_answer",
        "_ends",
        "_exchange",
        "_expected",
        "_identity",
        "_own",
        "_siblings",
        "_stack",
        "_tsn",
        "tags",
    )

    def __init__(
        self, stack: "_Stack", ends: _Ends, name: str, cookie: tuple[int, int, int, int], siblings: "set[Association]"
    ) -> None:
        peer_tag, self._expected, own_tag, self._tsn = cookie
        self.tags = (own_tag, peer_tag)
        self._stack = stack
        self._ends = ends
        self._siblings = siblings
        self._identity = f"{name} {ends.peer} {ends.peer_port} {ends.local} {ends.port}"
        self._exchange = 0
        self._answer = b""  # the chunk of the last answer, until the next
        siblings.add(self)

    def close(self, reset: bool = False) -> None:
        """End it, by ABORT or by SHUTDOWN; nothing of the peer is waited for."""
        last = sctp.after(self._expected, -1)
        self._say(sctp.chunk(sctp.ABORT) if reset else sctp.shutdown(last))
        self.forget()

    def take(self, packet: sctp.Packet, before: bytes = b"") -> bool:
        """Act on a packet; `before` goes first in the answer. False where its tag is wrong."""
        own, peer = self.tags
        first = packet.chunks[0]
        reflected = first.kind == sctp.ABORT and first.flags & sctp.REFLECTED
        if packet.tag != (peer if reflected else own):
            return False
        answer = before
        for one in packet.chunks:
            match one.kind:
                case sctp.DATA:
                    answer += self._message(one)
                case sctp.SHUTDOWN:
                    answer += sctp.chunk(sctp.SHUTDOWN_ACK)
                case sctp.ABORT | sctp.SHUTDOWN_COMPLETE:
                    self.forget()
                    return True
        if answer:
            self._say(answer)
        return True

    def _message(self, one: sctp.Chunk) -> bytes:
        """Take a message, and what is to be said to it. One that comes again is answered as it was."""
        message = sctp.parse_data(one)
        if message is None or sctp.is_after(message.tsn, self._expected):
            return b""
        if message.tsn == self._expected:
            request = parse_request(message.data.removesuffix(b"\n"))
            if request is None:
                self.forget()
                return sctp.chunk(sctp.ABORT)
            token, padding = request
            line = answer_line(
                token, self._identity, self._exchange + 1, len(message.data), padding, sctp.MAX_MESSAGE
            )
            self._answer = sctp.data(self._tsn, self._exchange, line)
            self._expected = sctp.after(self._expected)
            self._tsn = sctp.after(self._tsn)
            self._exchange += 1
        return sctp.sack(sctp.after(self._expected, -1)) + self._answer

    def _say(self, chunks: bytes) -> None:
        self._stack.send(self._ends, self.tags[1], chunks)

    def forget(self) -> None:
        """It is over, and nobody is told."""
        self._siblings.discard(self)
        self._stack.forget(self._ends)


class SctpListener:
    """A port that a backend listens on; `count` is how many associations came about, `strays` what came wrong."""

    protocol = "SCTP"

    def __init__(self, stack: "_Stack", name: str, ip: str, port: int, associations: set[Association]) -> None:
        self._stack = stack
        self.name = name
        self.ip = ip
        self.port = port
        self.associations = associations
        self.count = 0
        self.strays = 0

    def close(self) -> None:
        self._stack.unlisten(self)

    def take_all(self) -> None:
        """Take everything that has reached the namespace by now."""
        self._stack.take_all()


class _Stack:
    """The raw socket of one namespace and family, who listens there, and their associations."""

    def __init__(self, loop: Loop, family: socket.AddressFamily, ended: Callable[[], None]) -> None:
        self._loop = loop
        self._sock = RawSctp(family)
        self._wildcard = wildcard(family)
        self._ended = ended
        self._listeners: dict[tuple[str, int], SctpListener] = {}
        self._associations: dict[_Ends, Association] = {}
        loop.register(self._sock.fileno(), READ, self._on_event)

    def listen(self, listener: SctpListener) -> None:
        """Raises OSError EADDRINUSE."""
        key = (listener.ip, listener.port)
        if key in self._listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self._listeners[key] = listener

    def unlisten(self, listener: SctpListener) -> None:
        self._listeners.pop((listener.ip, listener.port), None)
        self._close_if_idle()

    def forget(self, ends: _Ends) -> None:
        self._associations.pop(ends, None)
        self._close_if_idle()

    def send(self, ends: _Ends, tag: int, chunks: bytes) -> None:
        """What cannot be sent is lost, as packets are."""
        if self._sock.fileno() >= 0:
            with suppress(OSError):
                self._sock.send(sctp.encode(ends.port, ends.peer_port, tag, chunks), ends.peer, ends.local)

    def take_all(self) -> None:
        while self._take(_PER_TURN):
            pass

    def _close_if_idle(self) -> None:
        if not self._listeners and not self._associations and self._sock.fileno() >= 0:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._ended()

    def _on_event(self, _: int) -> None:
        if self._take(_PER_TURN):
            self._loop.leave_over()

    def _take(self, most: int) -> bool:
        """Take at most so many packets; whether there may be more."""
        for _ in range(most):
            arrival = self._sock.receive()
            if arrival is None:
                return False
            self._arrived(arrival)
        return True

    def _arrived(self, arrival: Arrival) -> None:
        between = sctp.ports(arrival.data)
        if between is None:
            return
        ends = _Ends(arrival.src, between[0], arrival.dst, between[1])
        listener = self._listeners.get((ends.local, ends.port)) or self._listeners.get((self._wildcard, ends.port))
        packet = sctp.decode(arrival.data)
        known = self._associations.get(ends)
        if packet is None:
            right = False
        elif packet.chunks[0].kind == sctp.INIT:
            right = self._init(packet, ends, listener)
        elif packet.chunks[0].kind == sctp.COOKIE_ECHO and listener is not None:
            right = self._cookie(packet, ends, listener)
        elif known is not None:
            right = known.take(packet)
        else:
            right = listener is None or self._out_of_the_blue(packet, ends)
        if not right and listener is not None:
            listener.strays += 1

    def _init(self, packet: sctp.Packet, ends: _Ends, listener: SctpListener | None) -> bool:
        """INIT: answered with a cookie, which is all that is remembered of it; where nobody listens, with ABORT."""
        wanted = sctp.parse_init(packet.chunks[0].value)
        if wanted is None or packet.tag or len(packet.chunks) > 1:
            return False
        if listener is None:
            self.send(ends, wanted.tag, sctp.chunk(sctp.ABORT))
            return True
        own_tag, own_tsn = sctp.fresh_number(), sctp.fresh_number()
        numbers = (wanted.tag, wanted.tsn, own_tag, own_tsn)
        cookie = _COOKIE.pack(*numbers, _code(numbers, ends, listener.name))
        self.send(ends, wanted.tag, sctp.init(sctp.INIT_ACK, own_tag, own_tsn, cookie))
        return True

    def _cookie(self, packet: sctp.Packet, ends: _Ends, listener: SctpListener) -> bool:
        """COOKIE ECHO: the association, unless the cookie is another's; what else is in the packet is its first."""
        value = packet.chunks[0].value
        if len(value) != _COOKIE.size:
            return False
        *numbers, code = _COOKIE.unpack(value)
        peer_tag, peer_tsn, own_tag, own_tsn = numbers
        cookie = (peer_tag, peer_tsn, own_tag, own_tsn)
        if code != _code(cookie, ends, listener.name) or packet.tag != own_tag:
            return False
        known = self._associations.get(ends)
        if known is None or known.tags != (own_tag, peer_tag):
            if known is not None:
                known.forget()  # its peer has started anew
            known = Association(self, ends, listener.name, cookie, listener.associations)
            self._associations[ends] = known
            listener.count += 1
        return known.take(packet, sctp.chunk(sctp.COOKIE_ACK))

    def _out_of_the_blue(self, packet: sctp.Packet, ends: _Ends) -> bool:
        """A packet of no association: RFC 9260, 8.4. What is itself an end needs no answer."""
        kind = packet.chunks[0].kind
        if kind == sctp.SHUTDOWN_ACK:
            self.send(ends, packet.tag, sctp.chunk(sctp.SHUTDOWN_COMPLETE, flags=sctp.REFLECTED))
        elif kind not in (sctp.ABORT, sctp.SHUTDOWN_COMPLETE, sctp.COOKIE_ACK):
            self.send(ends, packet.tag, sctp.chunk(sctp.ABORT, flags=sctp.REFLECTED))
        return True


def _code(numbers: tuple[int, int, int, int], ends: _Ends, name: str) -> int:
    """Nobody else can tell it: Python's hash of a string is keyed by a secret of the process."""
    return hash(f"{numbers} {ends} {name}")


class SctpStacks:
    """The stacks of this agent, by namespace and family."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._stacks: dict[tuple[int, int], _Stack] = {}

    def listen(
        self, namespace: Namespace, name: str, ip: str, port: int, associations: set[Association]
    ) -> SctpListener:
        """Listen in a namespace, in which the agent is now. Raises OSError, and RequestError where it may not."""
        family = family_of(ip)
        key = (os.fstat(namespace.fd).st_ino, int(family))
        stack = self._stacks.get(key)
        if stack is None:
            stack = self._stacks[key] = _Stack(self._loop, family, lambda: self._ended(key))
        listener = SctpListener(stack, name, ip, port, associations)
        stack.listen(listener)
        return listener

    def _ended(self, key: tuple[int, int]) -> None:
        del self._stacks[key]
