# SPDX-License-Identifier: Apache-2.0
"""The `probe` operation: many fresh flows, a bounded number at a time, each with its own socket and deadline.

A long batch comes as several requests that name the same `job`. They share one budget of concurrency, and
each is answered when its own flows are done, so neither side ever holds the whole batch as one line.
"""

import errno
from collections import deque
from collections.abc import Callable
from typing import Any

from clusters.agent.channel import TcpChannel, UdpChannel
from clusters.agent.control import Operation, Reply
from clusters.agent.flowspec import (
    FlowSpec,
    SourcePorts,
    Tokens,
    parse_count,
    parse_flow,
    parse_seconds,
    parse_sizes,
)
from clusters.agent.loop import Loop, Timer
from clusters.agent.netns import Namespace, Namespaces, OpenNamespaces
from clusters.agent.sctp_channel import Associations, SctpChannel
from clusters.agent.trial import Trial
from clusters.agent.wire import RequestError, Result

# Flows started before the sockets get their turn: enough to be fast, few enough not to delay anybody's clock.
_STARTS_PER_TURN = 16
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class _Chunk:
    """The flows of one request and the results they have so far."""

    __slots__ = ("_left", "_reply", "_results", "broken", "padding", "reset", "size", "timeout")

    def __init__(self, reply: Reply, flows: int, request: dict[str, Any]) -> None:
        self._reply = reply
        self._results: list[Result | None] = [None] * flows
        self._left = flows
        self.timeout = parse_seconds(request.get("timeout", 2.0), "timeout")
        self.padding, self.size = parse_sizes(request)
        self.reset = _parse_close(request)
        self.broken = False

    def put(self, index: int, result: Result) -> bool:
        """Store a result; True when it was the last one and the reply has gone."""
        self._results[index] = result
        self._left -= 1
        if self._left or self.broken:
            return False
        self._reply.ok({"results": self._results})
        return True

    def fail(self, sentence: str) -> None:
        self.broken = True
        self._reply.error(sentence)


def _parse_close(request: dict[str, Any]) -> bool:
    how = request.get("close", "rst")
    if how not in ("rst", "fin"):
        raise RequestError(f"a flow is closed by 'rst' or 'fin', not {how!r}")
    return bool(how == "rst")


class _Job:
    """A budget of concurrency and the chunks that share it."""

    def __init__(
        self,
        loop: Loop,
        ports: SourcePorts,
        namespaces: Namespaces,
        tokens: Tokens,
        associations: Associations,
        ended: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._ports = ports
        self._namespaces = namespaces
        self._tokens = tokens
        self._associations = associations
        self._ended = ended
        self._open = OpenNamespaces(namespaces)
        self._waiting: deque[tuple[_Chunk, int, FlowSpec]] = deque()
        self._deadlines: deque[tuple[float, Trial]] = deque()
        self._alarm: Timer | None = None
        self._sources: dict[tuple[Namespace, str], str | None] = {}
        self._active = 0
        self._pumping = False
        self._scheduled = False
        self._is_over = False
        self.concurrency = 1

    def add(self, request: dict[str, Any], reply: Reply) -> None:
        """Take one request's flows. Raises RequestError when any of them is impossible; then none is
        started."""
        places = [self._open.get(path) for path in request.get("netns", [None])]
        flows = [parse_flow(row, lambda index: places[index]) for row in request["flows"]]
        chunk = _Chunk(reply, len(flows), request)
        self.concurrency = parse_count(request.get("concurrency", 256), "concurrency", 1, 1 << 20)
        if not flows:
            reply.ok({"results": []})
        self._waiting.extend((chunk, index, spec) for index, spec in enumerate(flows))
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._scheduled = False
        self._pump()

    def _pump(self) -> None:
        """Start flows while the budget allows; more than a few at once wait for the loop's next turn."""
        if self._pumping:
            return
        self._pumping = True
        started = 0
        try:
            while self._waiting and self._active < self.concurrency:
                if started >= _STARTS_PER_TURN:
                    self._schedule()
                    break
                started += 1
                chunk, index, spec = self._waiting.popleft()
                if not chunk.broken and not self._start(chunk, index, spec):
                    break
        finally:
            self._pumping = False
            self._namespaces.home()
        self._end_when_idle()

    def _start(self, chunk: _Chunk, index: int, spec: FlowSpec) -> bool:
        """Send a flow's first packet; False when the agent has no descriptor left for it just now."""
        trial = Trial(
            self._loop,
            self._tokens.request(chunk.padding, chunk.size),
            lambda trial: self._finished(chunk, index, trial),
        )
        self._active += 1
        try:
            if spec.protocol == "TCP":
                trial.channel = tcp = TcpChannel(self._loop, trial)
                tcp.open(self._ports, spec, trial.request.line)
            elif spec.protocol == "SCTP":
                trial.channel = association = SctpChannel(self._loop, trial)
                association.open(self._associations, spec, self._source(spec), trial.request.line)
            else:
                trial.channel = udp = UdpChannel(self._loop, trial)
                udp.open(self._ports, spec, self._source(spec))
                if udp.is_open:
                    udp.send(trial.request.line)
        except RequestError as error:
            self._active -= 1
            chunk.fail(str(error))
            return True
        except OSError as error:
            self._active -= 1
            if error.errno not in _NO_ROOM:
                raise
            if self._active:
                self._waiting.appendleft((chunk, index, spec))
                return False
            chunk.fail("the agent has no file descriptor left for a single flow; raise its limit (ulimit -n)")
            return True
        if trial.result is None:
            self._watch(trial, trial.channel.started + chunk.timeout)
        return True

    def _source(self, spec: FlowSpec) -> str | None:
        if spec.src is not None or (spec.connected and spec.protocol == "UDP"):
            return spec.src
        key = (spec.namespace, spec.dst)
        if key not in self._sources:
            self._sources[key] = self._ports.source_address(spec)
        return self._sources[key]

    def _watch(self, trial: Trial, deadline: float) -> None:
        # Deadlines are made in order, so a queue does for a heap; chunks of one job share their timeout.
        self._deadlines.append((deadline, trial))
        if self._alarm is None:
            self._alarm = self._loop.give_up_at(deadline, self._expire)

    def _expire(self) -> None:
        self._alarm = None
        while self._deadlines and self._deadlines[0][0] <= self._loop.answered_until:
            trial = self._deadlines.popleft()[1]
            if trial.result is None:
                trial.time_out()
        self._forget_finished()
        if self._deadlines and self._alarm is None:
            self._alarm = self._loop.give_up_at(self._deadlines[0][0], self._expire)

    def _forget_finished(self) -> None:
        while self._deadlines and self._deadlines[0][1].result is not None:
            self._deadlines.popleft()

    def _finished(self, chunk: _Chunk, index: int, trial: Trial) -> None:
        assert trial.channel is not None
        assert trial.result is not None
        trial.channel.close(chunk.reset)
        self._active -= 1
        chunk.put(index, trial.result)
        self._forget_finished()
        self._pump()

    def _end_when_idle(self) -> None:
        if self._active or self._waiting or self._is_over:
            return
        self._is_over = True
        if self._alarm is not None:
            self._alarm.cancel()
        self._open.close()
        self._ended()

    def abandon(self) -> None:
        """Give the namespaces back when nothing of the job ever started."""
        self._end_when_idle()


class Prober:
    """Runs probe jobs."""

    def __init__(
        self, loop: Loop, namespaces: Namespaces, ports: SourcePorts, tokens: Tokens, associations: Associations
    ) -> None:
        self._loop = loop
        self._namespaces = namespaces
        self._ports = ports
        self._tokens = tokens
        self._associations = associations
        self._jobs: dict[Any, _Job] = {}

    def operations(self) -> dict[str, Operation]:
        return {"probe": self._probe}

    def _probe(self, request: dict[str, Any], reply: Reply) -> None:
        """{netns: [path…], flows: [[netns index, protocol, dst, port, src, sport, connected]…], timeout,
        concurrency, close: rst|fin, reply_padding, request_size, job} → {results: [Result…]}"""
        name = (request.get("job"), request.get("timeout"))
        job = self._jobs.get(name)
        if job is None:
            job = self._jobs[name] = _Job(
                self._loop,
                self._ports,
                self._namespaces,
                self._tokens,
                self._associations,
                lambda: self._ended(name),
            )
        try:
            job.add(request, reply)
        except (RequestError, KeyError, TypeError, IndexError, OSError):
            job.abandon()
            raise

    def _ended(self, name: tuple[Any, Any]) -> None:
        del self._jobs[name]
