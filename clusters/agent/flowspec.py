# SPDX-License-Identifier: Apache-2.0
"""What a caller may ask of a flow, checked before the first packet, and the socket it will leave from."""

import errno
import os
import socket
from collections.abc import Callable, Container, Sequence
from itertools import count
from typing import Any, NamedTuple

from clusters.agent.netns import Namespace, Namespaces
from clusters.agent.sockets import (
    IP_BIND_ADDRESS_NO_PORT,
    explain,
    family_of,
    queue_errors,
    wildcard,
)
from clusters.agent.wire import MAX_DATAGRAM, RequestError, request_line

_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_DATAGRAM = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK


class FlowSpec(NamedTuple):
    """One flow: from `namespace` (and `src`, `sport` where given) to `dst`:`port`."""

    namespace: Namespace
    protocol: str
    dst: str
    port: int
    src: str | None
    sport: int | None
    connected: bool


class Request(NamedTuple):
    """A token nobody used before and the line that carries it."""

    token: str
    line: bytes


class Tokens:
    """Makes requests with tokens unique to this agent process and this moment."""

    def __init__(self) -> None:
        self._prefix = os.urandom(5).hex()
        self._numbers = count(1)

    def request(self, reply_padding: int = 0, size: int = 0) -> Request:
        token = f"{self._prefix}{next(self._numbers):x}"
        return Request(token, request_line(token, reply_padding, size))


def parse_address(text: Any) -> str:
    """A numeric IPv4 or IPv6 address, not link-local (a flow of ours names no interface)."""
    if not isinstance(text, str):
        raise RequestError(f"{text!r} is not an IP address")
    family = family_of(text)
    try:
        packed = socket.inet_pton(family, text)
    except (OSError, ValueError):
        raise RequestError(f"{text!r} is not an IP address") from None
    if family == socket.AF_INET6 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80:
        raise RequestError(f"{text} is a link-local address, which the agent does not use")
    return text


def parse_port(number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 65535:
        raise RequestError(f"{number!r} is not a port (1 to 65535)")
    return number


def parse_seconds(number: Any, name: str) -> float:
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 < number <= 86400:
        raise RequestError(f"{name} must be a positive number of seconds, not {number!r}")
    return float(number)


def parse_count(number: Any, name: str, least: int, most: int) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        raise RequestError(f"{name} must be a whole number from {least} to {most}, not {number!r}")
    return number


def parse_flow(row: Sequence[Any], namespace: Callable[[Any], Namespace]) -> FlowSpec:
    """A flow from its array [netns, protocol, dst, port, src, sport, connected].

    `namespace` turns the first element into an open namespace. Raises RequestError with one sentence.
    """
    try:
        place, protocol, dst, port, src, sport, connected = row
    except (TypeError, ValueError):
        raise RequestError(f"a flow is [netns, protocol, dst, port, src, sport, connected], not {row!r}") from None
    if protocol not in ("TCP", "UDP", "SCTP"):
        raise RequestError(f"the agent opens TCP, UDP and SCTP flows, not {protocol!r}")
    parse_address(dst)
    parse_port(port)
    if src is not None:
        parse_address(src)
        if family_of(src) != family_of(dst):
            raise RequestError(f"a flow cannot go from {src} to {dst}: they are of different families")
    if sport is not None:
        parse_port(sport)
    return FlowSpec(namespace(place), protocol, dst, port, src, sport, bool(connected))


def parse_sizes(request: dict[str, Any], protocol_limit: int = MAX_DATAGRAM) -> tuple[int, int]:
    """(reply padding, least request size) in bytes; both must fit a datagram."""
    padding = parse_count(request.get("reply_padding", 0), "reply_padding", 0, protocol_limit)
    return padding, parse_count(request.get("request_size", 0), "request_size", 0, protocol_limit)


class SourcePorts:
    """Opens flow sockets, giving each flow a source port of its own.

    The kernel picks UDP ports at random, so among 1,000 flows some 17 would repeat an earlier port within
    conntrack's 30 s and follow that flow's entry instead of making a fresh choice; a cursor repeats none
    until the namespace's range is used up. Like the kernel it leaves out the ports that are set aside. For TCP
    the kernel walks the range per destination (RFC 6056, 3.3.4), so that flows to two addresses share ports; IPVS
    then takes one endpoint's answers to both for those of the older flow, for two minutes after its end.
    """

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._cursor: dict[str | None, int] = {}

    def open(self, spec: FlowSpec) -> socket.socket:
        """A non-blocking socket made in the flow's namespace, bound where the flow asks for it.

        Raises OSError EADDRINUSE when the fixed port is taken and EMFILE when the agent is out of
        descriptors; RequestError for any other reason it cannot be bound. Leaves the agent in the flow's
        namespace.
        """
        family = family_of(spec.dst)
        self._namespaces.enter(spec.namespace)
        sock = socket.socket(family, _STREAM if spec.protocol == "TCP" else _DATAGRAM, 0)
        try:
            queue_errors(sock)
            if spec.sport is not None:
                if spec.protocol == "TCP":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((spec.src or wildcard(family), spec.sport))
            else:
                self._bind_fresh(sock, spec, family)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                raise
            source = spec.src or "its own address"
            raise RequestError(f"no flow can leave {source} in {spec.namespace}: {explain(error)}") from None
        return sock

    def _bind_fresh(self, sock: socket.socket, spec: FlowSpec, family: int) -> None:
        key = spec.namespace.path
        ports = self._ports(spec.namespace)
        size = sum(map(len, ports))
        start = self._cursor.get(key)
        if start is None:
            start = int.from_bytes(os.urandom(4), "big")
        address = spec.src or wildcard(family)
        for step in range(size):
            try:
                sock.bind((address, _nth(ports, (start + step) % size)))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                self._cursor[key] = (start + step + 1) % size
                return
        if spec.protocol != "TCP":
            raise OSError(errno.EADDRINUSE, "every source port is taken")
        # Connections to different places can share a port, and the kernel knows which.
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((address, 0))

    def unused(self, namespace: Namespace, taken: Container[int]) -> int:
        """The next port for a flow that no kernel socket is bound for. Raises OSError EADDRINUSE."""
        ports = self._ports(namespace)
        size = sum(map(len, ports))
        start = self._cursor.get(namespace.path)
        if start is None:
            start = int.from_bytes(os.urandom(4), "big")
        for step in range(size):
            port = _nth(ports, (start + step) % size)
            if port not in taken:
                self._cursor[namespace.path] = (start + step + 1) % size
                return port
        raise OSError(errno.EADDRINUSE, "every source port is taken")

    def _ports(self, namespace: Namespace) -> tuple[range, ...]:
        if namespace.ports is None:
            namespace.ports = self._namespaces.local_ports(namespace)
            self._namespaces.enter(namespace)
        return namespace.ports

    def source_address(self, spec: FlowSpec) -> str | None:
        """The address an unbound flow will leave from: a connected socket knows, and sends nothing to find
        out."""
        if spec.src is not None:
            return spec.src
        self._namespaces.enter(spec.namespace)
        with socket.socket(family_of(spec.dst), socket.SOCK_DGRAM) as sock:
            if sock.connect_ex((spec.dst, spec.port)) != 0:
                return None
            return str(sock.getsockname()[0])


def _nth(ports: tuple[range, ...], number: int) -> int:
    """The port that has so many before it."""
    for one in ports:
        if number < len(one):
            return one[number]
        number -= len(one)
    raise IndexError(number)
