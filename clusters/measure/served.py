# SPDX-License-Identifier: Apache-2.0
"""What answers load at one endpoint: HTTP/1.1, lines over TCP, datagrams, and a queue (`broker.py`).

`python -S -m clusters.measure.served --name node-a.pod-1 --ip 10.244.0.2` listens at HTTP_PORT, LINE_PORT (TCP and
UDP) and QUEUE_PORT of these addresses, tells `ready` on descriptor 3, and ends as a pod does:

* SIGUSR1, and it drains, as a well-behaved pod does when it is told to go: it answers on, but what it answers next on
  a connection is the last there (HTTP's `Connection: close`);
* SIGTERM, and it stops listening, and ends when its last connection has: by then nobody may send it new ones;
* SIGKILL, and it has crashed.

Every answer names the endpoint and repeats what was asked, so that the client knows who answered, and what. Lines and
datagrams are those of the agent's probes (`clusters/agent/wire.py`). GET /state tells, in JSON, what it has answered
so far. Standard library only: ten of them start at once.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from clusters.agent.wire import MAX_DATAGRAM, answer_line, parse_request
from clusters.measure.broker import Broker

HTTP_PORT, LINE_PORT, QUEUE_PORT = 8090, 8091, 8092
STATE = "/state"
TELL = 3
BACKLOG = 1024
MAX_BUFFER = 1 << 16
# How long a GET of the queue waits for a message, and a PUT for room, before the answer is that there is none (NONE
# and FULL), in seconds.
QUEUE_SECONDS = 0.25


@dataclass(slots=True)
class Endpoint:
    """What the connections of one endpoint share."""

    name: str
    draining: bool = False
    stopping: bool = False
    answered: dict[str, int] = field(default_factory=lambda: {"http": 0, "tcp": 0, "udp": 0})
    connections: set[asyncio.Transport] = field(default_factory=set)
    broker: Broker = field(default_factory=Broker)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def state(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "draining": self.draining,
            "connections": len(self.connections),
            "answered": self.answered,
            "queue": self.broker.state(),
        }

    def may_have_ended(self) -> None:
        """It ends with its last connection, once it no longer listens."""
        if self.stopping and not self.connections:
            self.ended.set()


class Connection(asyncio.Protocol):
    """One TCP connection, of which whole requests are answered in their order.

    Whatever its protocol is, a line that a probe of the agent's sends is answered as the agent's backends do: those
    who wait for the dataplane probe every port of every Service.
    """

    separator = b"\n"

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._buffer = b""
        self._probes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.endpoint.connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.endpoint.connections.discard(self.transport)
        self.endpoint.may_have_ended()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while not self.transport.is_closing():
            is_probe = self._buffer.startswith(b"?")
            request, found, rest = self._buffer.partition(b"\n" if is_probe else self.separator)
            if not found:
                break
            self._buffer = rest
            (self.probed if is_probe else self.answer)(request)
        if len(self._buffer) > MAX_BUFFER:
            self.transport.abort()

    def answer(self, request: bytes) -> None:  # noqa: ARG002
        """Nothing but probes is understood, unless a protocol says otherwise."""
        self.transport.abort()

    def probed(self, request: bytes) -> None:
        self._probes += 1
        peer, local = self.transport.get_extra_info("peername"), self.transport.get_extra_info("sockname")
        answer = probe_answer(self.endpoint.name, request + b"\n", peer, local, self._probes)
        if answer is None:
            self.transport.abort()
        else:
            self.transport.write(answer)


class HttpConnection(Connection):
    """GET, and nothing else: a request has no body."""

    separator = b"\r\n\r\n"

    def answer(self, request: bytes) -> None:
        line, _, headers = request.partition(b"\r\n")
        method, _, rest = line.partition(b" ")
        path = rest.partition(b" ")[0].decode("latin-1")
        if method != b"GET":
            self.transport.write(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.transport.close()
            return
        if path == STATE:
            body = json.dumps(self.endpoint.state()).encode()
        else:
            self.endpoint.answered["http"] += 1
            body = f"{self.endpoint.name} {path}\n".encode()
        last = self.endpoint.draining or b"connection: close" in headers.lower()
        closing = b"Connection: close\r\n" if last else b""
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), closing, body))
        if last:
            self.transport.close()


class LineConnection(Connection):
    """A line there and back, and the end of the connection: who closes first is who remembers it for a minute."""

    def probed(self, request: bytes) -> None:
        self.endpoint.answered["tcp"] += 1
        super().probed(request)
        self.transport.close()


class QueueConnection(Connection):
    """`PUT name …`, `GET` and `ACK name`, one at a time."""

    _waiting: asyncio.TimerHandle | None = None

    def tell(self, line: bytes) -> None:
        if self._waiting:
            self._waiting.cancel()
            self._waiting = None
        self.transport.write(line + b"\n")

    def answer(self, request: bytes) -> None:
        verb, _, rest = request.partition(b" ")
        match verb:
            case b"PUT":
                self._wait_no_longer_than(QUEUE_SECONDS, b"FULL")
                self.endpoint.broker.take_in(self, rest)
            case b"GET":
                self._wait_no_longer_than(QUEUE_SECONDS, b"NONE")
                self.endpoint.broker.give(self)
            case b"ACK":
                self.endpoint.broker.acknowledge(self, rest)
            case _:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            self._waiting.cancel()
        self.endpoint.broker.hung_up(self)
        super().connection_lost(exc)

    def _wait_no_longer_than(self, seconds: float, answer: bytes) -> None:
        self._waiting = asyncio.get_running_loop().call_later(seconds, self._nothing, answer)

    def _nothing(self, answer: bytes) -> None:
        if self.endpoint.broker.give_up(self):
            self.tell(answer)


class Datagrams(asyncio.DatagramProtocol):
    """A datagram there and back."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Python 3.11's own are no instances of that.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        local = self._transport.get_extra_info("sockname")
        answer = probe_answer(self._endpoint.name, data, addr, local, 0)
        if answer is not None:
            self._endpoint.answered["udp"] += 1
            self._transport.sendto(answer, addr)


def probe_answer(
    name: str, request: bytes, peer: tuple[Any, ...], local: tuple[Any, ...], exchange: int
) -> bytes | None:
    """What a backend of the agent's says to a probe, its newline included; None where that is none."""
    parsed = parse_request(request.removesuffix(b"\n"))
    if parsed is None:
        return None
    token, padding = parsed
    identity = f"{name} {peer[0]} {peer[1]} {local[0]} {local[1]}"
    return answer_line(token, identity, exchange, len(request), padding, MAX_DATAGRAM)


async def serve(name: str, addresses: list[str], ready: Callable[[], None]) -> None:
    """Serve until told to end. Raises OSError where an address cannot be listened at."""
    endpoint, loop = Endpoint(name), asyncio.get_running_loop()
    servers, datagrams = [], []
    kinds: tuple[tuple[int, Callable[[], Connection]], ...] = (
        (HTTP_PORT, lambda: HttpConnection(endpoint)),
        (LINE_PORT, lambda: LineConnection(endpoint)),
        (QUEUE_PORT, lambda: QueueConnection(endpoint)),
    )
    for ip in addresses:
        for port, kind in kinds:
            servers.append(await loop.create_server(kind, ip, port, backlog=BACKLOG))
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Datagrams(endpoint), local_addr=(ip, LINE_PORT), family=family
        )
        datagrams.append(transport)

    def drain() -> None:
        endpoint.draining = True

    def stop() -> None:
        endpoint.draining = endpoint.stopping = True
        for server in servers:
            server.close()
        for one in datagrams:
            one.close()
        endpoint.may_have_ended()

    loop.add_signal_handler(signal.SIGUSR1, drain)
    loop.add_signal_handler(signal.SIGTERM, stop)
    ready()
    await endpoint.ended.wait()


def main() -> int:
    """Serve one endpoint; exit status 0 when it has ended in order."""
    options = argparse.ArgumentParser(prog="clusters.measure.served", description="Answers load at one endpoint.")
    options.add_argument("--name", required=True)
    options.add_argument("--ip", action="append", required=True)
    given = options.parse_args()

    def ready() -> None:
        with suppress(OSError):  # nobody listens, as when a person tries it out
            os.write(TELL, b"ready\n")

    try:
        asyncio.run(serve(given.name, given.ip, ready))
    except OSError as error:
        print(f"clusters.measure.served: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
