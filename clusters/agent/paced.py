# SPDX-License-Identifier: Apache-2.0
"""Paced flows: one packet every interval on one flow, each send with its own fate, while the dataplane
changes.

A UDP flow keeps one source port and sends one datagram per interval. A TCP flow keeps one connection; when
that ends the flow stops sending, and every line still unanswered shares its end. A slot that comes while the
loop is late, while the handshake is not done or while the peer takes nothing is skipped: `t_sent` shows the
gap.
"""

from collections import deque
from collections.abc import Callable
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any

from clusters.agent.channel import Endpoint, Failure, TcpChannel, UdpChannel, Weight
from clusters.agent.control import Operation, Reply
from clusters.agent.flowspec import (
    FlowSpec,
    Request,
    SourcePorts,
    Tokens,
    parse_count,
    parse_flow,
    parse_seconds,
)
from clusters.agent.loop import Loop, Timer
from clusters.agent.netns import Namespaces, OpenNamespaces
from clusters.agent.wire import RequestError, parse_answer, parse_request
from clusters.observation import FlowOutcome

if TYPE_CHECKING:
    from clusters.agent.sockets import IcmpTuple


class _Record:
    """One send. `outcome` is None while it waits for its answer."""

    __slots__ = ("backend", "errno", "icmp", "latency", "outcome", "refused_here", "t_sent")

    def __init__(self, t_sent: float) -> None:
        self.t_sent = t_sent
        self.outcome: FlowOutcome | None = None
        self.errno: str | None = None
        self.backend: str | None = None
        self.latency: float | None = None
        self.icmp: IcmpTuple | None = None
        self.refused_here = False

    def row(self) -> tuple[Any, ...]:
        return self.t_sent, self.outcome, self.errno, self.backend, self.latency, self.icmp


class _Paced:
    """One paced flow and the last `limit` of its records."""

    def __init__(self, loop: Loop, tokens: Tokens, interval: float, timeout: float, limit: int) -> None:
        self._loop = loop
        self._tokens = tokens
        self._interval = interval
        self._timeout = timeout
        self._limit = limit
        self._records: deque[_Record] = deque()
        self._first = 0  # the number of the oldest record kept
        self._pending: dict[str, _Record] = {}
        self._sending: str | None = None
        self._timer: Timer | None = None
        self._due = 0.0
        self._ended: Failure | None = None
        self._stopped: Callable[[], None] | None = None
        self._channel: TcpChannel | UdpChannel

    def open(self, ports: SourcePorts, spec: FlowSpec) -> None:
        """Send the first packet. Raises RequestError and OSError when the flow's socket cannot be made."""
        source = None
        if spec.protocol == "SCTP":
            raise RequestError("the agent paces TCP and UDP flows, not SCTP ones")
        if spec.protocol == "UDP" and not spec.connected:
            source = ports.source_address(spec)
        self._due = perf_counter()
        if spec.protocol == "TCP":
            self._channel = tcp = TcpChannel(self._loop, self)
            request = self._record()
            tcp.open(ports, spec, request.line)
            self._sending = None
        else:
            self._channel = udp = UdpChannel(self._loop, self)
            udp.open(ports, spec, source)
            if udp.is_open:
                self._send()
        self._schedule()

    @property
    def local(self) -> Endpoint | None:
        return self._channel.local

    def rows(self, start: int) -> dict[str, Any]:
        """The records numbered `start` and above, the number of the first one given, and how the flow
        ended."""
        first = max(start, self._first)
        skip = first - self._first
        rows = [record.row() for number, record in enumerate(self._records) if number >= skip]
        return {
            "first": first,
            "records": rows,
            "ended": self._ended.outcome if self._ended is not None else None,
        }

    def stop(self, stopped: Callable[[], None]) -> None:
        """Send no more; call `stopped` when every record has its outcome."""
        if self._timer is not None:
            self._timer.cancel()
        self._stopped = stopped
        self._settle()

    def close(self) -> None:
        self._channel.close()

    def connected(self, now: float) -> None:
        pass

    def answered(self, line: bytes, source: Endpoint, now: float) -> None:  # noqa: ARG002  (a Sink's signature)
        answer = parse_answer(line)
        record = self._pending.pop(answer.token, None) if answer is not None else None
        if record is None or answer is None:
            return  # too late, or nobody's
        record.outcome = FlowOutcome.REPLY
        record.errno = None
        record.backend = answer.backend
        record.latency = now - record.t_sent
        self._settle()

    def failed(self, failure: Failure) -> None:
        final = failure.weight is Weight.FINAL
        if final and (isinstance(self._channel, TcpChannel) or not self._channel.is_open):
            self._end(failure)
            return
        token = self._about(failure)
        record = self._pending.get(token) if token is not None else None
        if record is None or token is None:
            return
        record.errno = failure.errno_name
        record.icmp = failure.icmp
        record.refused_here = failure.weight is Weight.PROVISIONAL
        if final:
            del self._pending[token]
            record.outcome = failure.outcome
            self._settle()

    def _about(self, failure: Failure) -> str | None:
        """The token of the send a failure belongs to: quoted by the ICMP error, else the one now being
        made."""
        quoted = parse_request(failure.quoted)
        if quoted is not None:
            return quoted[0]
        return self._sending or next(iter(self._pending), None)

    def _record(self) -> Request:
        """A new record and its request; it times out by itself."""
        request = self._tokens.request()
        now = perf_counter()
        record = _Record(now)
        self._records.append(record)
        if len(self._records) > self._limit:
            self._records.popleft()
            self._first += 1
        self._pending[request.token] = record
        self._sending = request.token
        self._loop.give_up_at(now + self._timeout, lambda: self._expire(request.token))
        return request

    def _send(self) -> None:
        request = self._record()
        self._channel.send(request.line)
        self._sending = None

    def _schedule(self) -> None:
        self._due += self._interval
        now = perf_counter()
        if self._due < now:
            self._due += ((now - self._due) // self._interval + 1) * self._interval
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        if self._ended is not None or self._stopped is not None:
            return
        if self._channel.established and not self._channel.backlog:
            self._send()
        self._schedule()

    def _expire(self, token: str) -> None:
        record = self._pending.pop(token, None)
        if record is not None:
            record.outcome = FlowOutcome.UNREACHABLE if record.refused_here else FlowOutcome.TIMEOUT
            self._settle()

    def _end(self, failure: Failure) -> None:
        self._ended = failure
        for record in self._pending.values():
            record.outcome = failure.outcome
            record.errno = failure.errno_name
            record.icmp = failure.icmp
        self._pending.clear()
        self._settle()

    def _settle(self) -> None:
        if self._stopped is not None and not self._pending:
            stopped, self._stopped = self._stopped, None
            stopped()


class Pacer:
    """All paced flows of this agent, by number."""

    def __init__(self, loop: Loop, namespaces: Namespaces, ports: SourcePorts, tokens: Tokens) -> None:
        self._loop = loop
        self._namespaces = namespaces
        self._ports = ports
        self._tokens = tokens
        self._flows: dict[int, _Paced] = {}
        self._numbers = count(1)

    def operations(self) -> dict[str, Operation]:
        return {"flow_start": self._start, "flow_peek": self._peek, "flow_stop": self._stop}

    def _start(self, request: dict[str, Any], reply: Reply) -> None:
        """{flow: [netns path, protocol, dst, port, src, sport, connected], interval, timeout, limit} → {flow,
        src}"""
        interval = parse_seconds(request["interval"], "interval")
        timeout = parse_seconds(request.get("timeout", 1.0), "timeout")
        limit = parse_count(request.get("limit", 100_000), "limit", 1, 10_000_000)
        paced = _Paced(self._loop, self._tokens, interval, timeout, limit)
        places = OpenNamespaces(self._namespaces)
        try:
            paced.open(self._ports, parse_flow(request["flow"], places.get))
        finally:
            self._namespaces.home()
            places.close()
        number = next(self._numbers)
        self._flows[number] = paced
        reply.ok({"flow": number, "src": paced.local})

    def _peek(self, request: dict[str, Any], reply: Reply) -> None:
        """{flow, from} → {first, records: [[t_sent, outcome or null, errno, backend, latency, icmp]…],
        ended}"""
        reply.ok(self._find(request).rows(int(request.get("from", 0))))

    def _stop(self, request: dict[str, Any], reply: Reply) -> None:
        """{flow, from} → what flow_peek returns, once every record has its outcome."""
        paced = self._find(request)
        del self._flows[request["flow"]]
        start = int(request.get("from", 0))

        def stopped() -> None:
            paced.close()
            reply.ok(paced.rows(start))

        paced.stop(stopped)

    def _find(self, request: dict[str, Any]) -> _Paced:
        paced = self._flows.get(request["flow"])
        if paced is None:
            raise RequestError(f"the agent has no paced flow {request['flow']!r}")
        return paced
