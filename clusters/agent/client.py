# SPDX-License-Identifier: Apache-2.0
"""The agent seen from Python: serve backends, probe flows, hold and pace connections, capture packets.

    with agent_process("probing agent") as agent:
        agent.probe([ProbeRequest("pod-1", netns, "node-a", "clusterIP", "TCP", Address("10.96.0.10", 80))])

Raises PlumblineError, one sentence, for everything that is not the network's doing: an agent that has ended
or does not answer, a namespace that does not exist, an address that is none.
"""

import base64
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import ceil
from types import TracebackType
from typing import Any, Literal, Self

from clusters.agent.handles import SLACK, Capture, HeldConnection, PacedFlow, captured
from clusters.agent.records import BackendSpec, CapturedPacket, PacedRecord, ProbeRequest, Recording
from clusters.agent.transport import Transport
from clusters.agent.wire import PROTOCOL_VERSION
from clusters.errors import PlumblineError
from clusters.observation import Observation, Protocol

__all__ = [
    "AgentClient",
    "BackendSpec",
    "Capture",
    "CapturedPacket",
    "HeldConnection",
    "PacedFlow",
    "PacedRecord",
    "ProbeRequest",
    "Recording",
]

# Flows per request: a few milliseconds of JSON on either side, so that nothing else the agent does has to
# wait.
_CHUNK = 1000


class AgentClient:
    """Speaks to one agent over a connected stream socket, which it owns from now on. Not thread-safe."""

    def __init__(self, sock: socket.socket, name: str = "the agent") -> None:
        self._transport = Transport(sock, name)
        self._jobs = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the control connection, which ends the agent."""
        self._transport.close()

    def hello(self, deadline: float = SLACK) -> int:
        """The agent's process id, once it runs. Raises PlumblineError when it speaks another protocol
        version."""
        reply = self._transport.call("hello", deadline)
        if reply["version"] != PROTOCOL_VERSION:
            raise PlumblineError(
                f"the agent speaks protocol version {reply['version']}, not {PROTOCOL_VERSION};"
                " use an agent of the same plumbline release"
            )
        return int(reply["pid"])

    def serve(self, backends: Iterable[BackendSpec]) -> int:
        """Start backends, all or none; they listen when this returns. Gives the number of listening
        sockets."""
        entries = [backend.as_request() for backend in backends]
        reply = self._transport.call("serve", SLACK + 0.01 * len(entries), backends=entries)
        return int(reply["listening"])

    def unserve(self, names: Iterable[str], established: Literal["close", "reset", "keep"] = "close") -> None:
        """Stop backends. Their established connections are closed, reset, or kept and served until they
        end."""
        self._transport.call("unserve", SLACK, names=list(names), established=established)

    def counts(self, names: Iterable[str] | None = None) -> dict[tuple[str, Protocol, int], int]:
        """Connections, associations and datagrams received since `serve`, by (backend, protocol, port)."""
        asked = None if names is None else list(names)
        rows = self._transport.call("counts", SLACK, names=asked)["counts"]
        return {(name, protocol, port): number for name, protocol, port, number in rows}

    def strays(self, names: Iterable[str]) -> dict[tuple[str, int], int]:
        """SCTP packets whose checksum or tag was wrong, since `serve`, by (backend, port)."""
        rows = self._transport.call("strays", SLACK, names=list(names))["strays"]
        return {(name, port): number for name, port, number in rows}

    def probe(
        self,
        requests: Sequence[ProbeRequest],
        timeout: float = 2.0,
        concurrency: int = 256,
        *,
        close: Literal["rst", "fin"] = "rst",
        reply_padding: int = 0,
        request_size: int = 0,
    ) -> list[Observation]:
        """Open every flow once, at most `concurrency` at a time, and say what happened, in the order asked.

        `timeout` is seconds per flow from its first packet. `close` says how a flow that got its reply ends:
        RST leaves no TIME_WAIT. `reply_padding` bytes are asked back with each answer; `request_size` is the
        least size of each request in bytes. For the truest latencies use a small concurrency.
        """
        self._jobs += 1
        common = {
            "job": self._jobs,
            "timeout": timeout,
            "concurrency": concurrency,
            "close": close,
            "reply_padding": reply_padding,
            "request_size": request_size,
        }
        window = 2 + ceil(concurrency / _CHUNK)
        # The worst case: every flow of everything in flight times out, a budget's worth at a time.
        patience = SLACK + timeout * (2 + ceil((window + 1) * _CHUNK / concurrency))
        observations: list[Observation] = []
        in_flight: deque[tuple[int, Sequence[ProbeRequest]]] = deque()
        try:
            for start in range(0, len(requests), _CHUNK):
                if len(in_flight) >= window:
                    observations += self._collect(in_flight.popleft(), patience)
                chunk = requests[start : start + _CHUNK]
                number = self._transport.send("probe", {**common, **_flows(chunk)}, patience)
                in_flight.append((number, chunk))
            while in_flight:
                observations += self._collect(in_flight.popleft(), patience)
        finally:
            self._transport.forget([number for number, _ in in_flight])
        return observations

    def _collect(self, sent: tuple[int, Sequence[ProbeRequest]], patience: float) -> list[Observation]:
        number, chunk = sent
        rows = self._transport.receive(number, "probe", patience)["results"]
        return [request.observe(row) for request, row in zip(chunk, rows, strict=True)]

    def hold(
        self, request: ProbeRequest, timeout: float = 2.0, *, reply_padding: int = 0, request_size: int = 0
    ) -> HeldConnection:
        """Open a flow, make its first exchange and keep it open."""
        (held,) = self.hold_each([request], timeout, reply_padding=reply_padding, request_size=request_size)
        return held

    def hold_each(
        self,
        requests: Sequence[ProbeRequest],
        timeout: float = 2.0,
        *,
        reply_padding: int = 0,
        request_size: int = 0,
    ) -> list[HeldConnection]:
        """The same for many flows at once; where one cannot be opened, none is kept."""
        common = {"timeout": timeout, "reply_padding": reply_padding, "request_size": request_size}
        deadline = timeout + SLACK
        numbers = [
            self._transport.send("hold", {"flow": request.flow(request.netns), **common}, deadline)
            for request in requests
        ]
        held: list[HeldConnection] = []
        trouble: PlumblineError | None = None
        for request, number in zip(requests, numbers, strict=True):
            try:
                reply = self._transport.receive(number, "hold", deadline)
                held.append(HeldConnection(self._transport, request, timeout, reply))
            except PlumblineError as error:
                trouble = trouble or error
        if trouble is not None:
            for one in held:
                with suppress(PlumblineError):
                    one.close()
            raise trouble
        return held

    def paced(self, request: ProbeRequest, interval: float, timeout: float = 1.0, limit: int = 100_000) -> PacedFlow:
        """Start a flow that sends every `interval` seconds and gives each send `timeout` seconds to be
        answered.

        The agent keeps the last `limit` records.
        """
        return PacedFlow(self._transport, request, interval, timeout, limit)

    def inject(self, netns: str | None, packet: bytes, link: tuple[str, str] | None = None) -> None:
        """Send an IP packet from a namespace, with the header it has.

        `link`: in a frame by this interface, to this MAC, whatever the routes say.
        """
        interface, mac = link or (None, None)
        encoded = base64.b64encode(packet).decode("ascii")
        self._transport.call("inject", SLACK, netns=netns, packet=encoded, iface=interface, mac=mac)

    def capture(
        self,
        netns: str | None,
        interface: str | None = None,
        *,
        snaplen: int = 256,
        limit: int = 10_000,
        ethertypes: Sequence[int] = (),
    ) -> Capture:
        """Capture on one interface of a namespace, or on all; no packet sent after this returns is missed.

        At most `limit` packets are kept, `snaplen` bytes of each; `ethertypes` (0x0800, 0x86dd, …) narrows
        it.
        """
        arguments: dict[str, Any] = {
            "netns": netns,
            "iface": interface,
            "snaplen": snaplen,
            "limit": limit,
            "ethertypes": list(ethertypes),
        }
        return Capture(self._transport, arguments)

    def record(self, namespaces: Sequence[str], *, except_tcp_port: int) -> None:
        """Have the kernel keep the packets of these namespaces, all interfaces, from now on.

        All but those of one TCP port over IPv4, such as the API server's. See `clusters/agent/recorder.py`.
        """
        self._transport.call("record_start", SLACK, netns=list(namespaces), except_tcp_port=except_tcp_port)

    def rewind(self) -> None:
        """Forget what was recorded so far."""
        self._transport.call("record_rewind", SLACK)

    def recorded(self, namespaces: Sequence[str]) -> dict[str, Recording]:
        """What these namespaces saw since the last rewind; reading it is a rewind too."""
        reply = self._transport.call("record_read", SLACK, netns=list(namespaces))
        return {netns: Recording(captured(rows), reply["dropped"][netns]) for netns, rows in reply["packets"].items()}


def _flows(chunk: Sequence[ProbeRequest]) -> dict[str, Any]:
    """The `netns` table and the `flows` arrays of one probe request."""
    places: dict[str | None, int] = {}
    flows = [request.flow(places.setdefault(request.netns, len(places))) for request in chunk]
    return {"netns": list(places), "flows": flows}
