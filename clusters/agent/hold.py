# SPDX-License-Identifier: Apache-2.0
"""Held flows: one connection or association (or one UDP port) that is asked again and again."""

import errno
from collections.abc import Callable
from itertools import count
from typing import Any

from clusters.agent.channel import Endpoint, Failure, TcpChannel, UdpChannel, Weight
from clusters.agent.control import Operation, Reply
from clusters.agent.flowspec import SourcePorts, Tokens, parse_flow, parse_seconds, parse_sizes
from clusters.agent.loop import Loop, Timer
from clusters.agent.netns import Namespaces, OpenNamespaces
from clusters.agent.sctp_channel import Associations, SctpChannel
from clusters.agent.trial import Channel, Trial
from clusters.agent.wire import RequestError, Result, parse_request
from clusters.observation import FlowOutcome

Done = Callable[[Result], None]


class _Held:
    """One held flow; it hears its channel and passes on what belongs to the exchange under way."""

    def __init__(self, loop: Loop, tokens: Tokens) -> None:
        self._loop = loop
        self._tokens = tokens
        self._trial: Trial | None = None
        self._timer: Timer | None = None
        self._done: Done | None = None
        self._timed_out: set[str] = set()
        self._ended: Failure | None = None
        self._local: Endpoint | None = None
        self._waiters: list[Done] = []
        self.channel: Channel

    def open(
        self,
        ports: SourcePorts,
        associations: Associations,
        row: list[Any],
        namespaces: Namespaces,
        request: dict[str, Any],
        done: Done,
    ) -> None:
        """Open the flow and make its first exchange. Raises RequestError and OSError before anything is
        sent."""
        places = OpenNamespaces(namespaces)
        try:
            spec = parse_flow(row, places.get)
            trial = self._begin(request, done)
            if spec.protocol == "TCP":
                self.channel = trial.channel = tcp = TcpChannel(self._loop, self)
                tcp.open(ports, spec, trial.request.line)
            elif spec.protocol == "SCTP":
                self.channel = trial.channel = association = SctpChannel(self._loop, self)
                association.open(associations, spec, ports.source_address(spec), trial.request.line)
            else:
                self.channel = trial.channel = udp = UdpChannel(self._loop, self)
                source = None if spec.connected else ports.source_address(spec)
                udp.open(ports, spec, source)
                if udp.is_open:
                    udp.send(trial.request.line)
        except BaseException:
            self._cancel_timer()
            raise
        finally:
            namespaces.home()
            places.close()

    def exchange(self, request: dict[str, Any], done: Done) -> None:
        if self._trial is not None:
            raise RequestError("this held flow is still waiting for the answer to its last exchange")
        if self._ended is not None:
            done(self._epitaph(self._ended))
            return
        trial = self._begin(request, done)
        trial.channel = self.channel
        self.channel.send(trial.request.line)

    def wait_end(self, timeout: float, done: Callable[[Result | None], None]) -> None:
        """Call `done` with the flow's end, or with None when it is still open after `timeout` seconds."""
        if self._ended is not None:
            done(self._epitaph(self._ended))
            return

        def expired() -> None:
            self._waiters.remove(ended)
            done(None)

        def ended(result: Result) -> None:
            timer.cancel()
            done(result)

        timer = self._loop.give_up_later(timeout, expired)
        self._waiters.append(ended)

    def close(self, reset: bool) -> None:
        if self._trial is not None:
            self._trial.time_out()
        if self._ended is None:
            self._end(Failure(errno.ECONNABORTED))
        self.channel.close(reset)

    def connected(self, now: float) -> None:
        if self._trial is not None:
            self._trial.connected(now)

    def answered(self, line: bytes, source: Endpoint, now: float) -> None:
        if self._trial is not None:
            self._trial.answered(line, source, now)

    def failed(self, failure: Failure) -> None:
        quoted = parse_request(failure.quoted)
        if quoted is not None and (self._trial is None or quoted[0] != self._trial.request.token):
            return  # about a datagram of an earlier exchange
        self._local = self.channel.local or self._local
        if failure.weight is Weight.FINAL and (isinstance(self.channel, TcpChannel) or not self.channel.is_open):
            self._end(failure)
        if self._trial is not None:
            self._trial.failed(failure)

    def _begin(self, request: dict[str, Any], done: Done) -> Trial:
        timeout = parse_seconds(request.get("timeout", 2.0), "timeout")
        trial = Trial(self._loop, self._tokens.request(*parse_sizes(request)), self._finished)
        trial.late = self._timed_out.__contains__
        self._trial = trial
        self._done = done
        self._timer = self._loop.give_up_later(timeout, trial.time_out)
        return trial

    def _finished(self, trial: Trial) -> None:
        self._cancel_timer()
        self._trial = None
        done, self._done = self._done, None
        assert trial.result is not None
        if trial.result.outcome == FlowOutcome.TIMEOUT:
            self._timed_out.add(trial.request.token)
            if not self.channel.established:
                self._end(Failure(errno.ETIMEDOUT))
                self.channel.close()
        if done is not None:
            done(trial.result)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self, failure: Failure) -> None:
        self._ended = failure
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter(self._epitaph(failure))

    def _epitaph(self, failure: Failure) -> Result:
        src_ip, src_port = self._local or (None, None)
        return Result(failure.outcome, failure.errno_name, failure.icmp, src_ip=src_ip, src_port=src_port)


class Holder:
    """All held flows of this agent, by number."""

    def __init__(
        self, loop: Loop, namespaces: Namespaces, ports: SourcePorts, tokens: Tokens, associations: Associations
    ) -> None:
        self._loop = loop
        self._namespaces = namespaces
        self._ports = ports
        self._tokens = tokens
        self._associations = associations
        self._held: dict[int, _Held] = {}
        self._numbers = count(1)

    def operations(self) -> dict[str, Operation]:
        return {
            "hold": self._hold,
            "exchange": self._exchange,
            "wait_end": self._wait_end,
            "release": self._release,
        }

    def _hold(self, request: dict[str, Any], reply: Reply) -> None:
        """{flow: [netns path, protocol, dst, port, src, sport, connected], timeout, …} → {held, result}"""
        number = next(self._numbers)
        held = self._held[number] = _Held(self._loop, self._tokens)
        try:
            held.open(
                self._ports,
                self._associations,
                request["flow"],
                self._namespaces,
                request,
                lambda result: reply.ok({"held": number, "result": result}),
            )
        except BaseException:
            del self._held[number]
            raise

    def _exchange(self, request: dict[str, Any], reply: Reply) -> None:
        """{held, timeout, reply_padding, request_size} → {result}"""
        self._find(request).exchange(request, lambda result: reply.ok({"result": result}))

    def _wait_end(self, request: dict[str, Any], reply: Reply) -> None:
        """{held, timeout} → {result}: how the flow ended, or null when it has not."""
        timeout = parse_seconds(request.get("timeout", 2.0), "timeout")
        self._find(request).wait_end(timeout, lambda result: reply.ok({"result": result}))

    def _release(self, request: dict[str, Any], reply: Reply) -> None:
        """{held, close: rst|fin} → null"""
        held = self._find(request)
        del self._held[request["held"]]
        held.close(reset=request.get("close", "rst") != "fin")
        reply.ok()

    def _find(self, request: dict[str, Any]) -> _Held:
        held = self._held.get(request["held"])
        if held is None:
            raise RequestError(f"the agent holds no flow {request['held']!r}")
        return held
