# SPDX-License-Identifier: Apache-2.0
"""One request and what came of it: the sink that turns a channel's events into a `Result`.

Only an answer that carries the trial's own token and the request's true size is the reply. Any other is
counted and the trial goes on waiting; if it then times out, its errno is EBADMSG. A
TCP flow that times out after an ICMP error came by its established connection carries that error's errno.
"""

from collections.abc import Callable

from clusters.agent.channel import Endpoint, Failure, TcpChannel, UdpChannel, Weight
from clusters.agent.flowspec import Request
from clusters.agent.loop import Loop
from clusters.agent.sctp_channel import SctpChannel
from clusters.agent.wire import STRAY_ANSWER, Answer, Result, parse_answer
from clusters.observation import FlowOutcome

# How long an ICMP error may trail the EPERM of the same packet: both are made by one firewall rule on this
# machine.
_ICMP_GRACE = 0.05


Channel = TcpChannel | UdpChannel | SctpChannel


class Trial:
    """Waits for one answer. `finished(trial)` is called exactly once, with `result` set."""

    __slots__ = (
        "_finished",
        "_icmp",
        "_loop",
        "_noted",
        "_provisional",
        "_stray",
        "_t_connect",
        "channel",
        "late",
        "request",
        "result",
    )

    def __init__(self, loop: Loop, request: Request, finished: Callable[["Trial"], None]) -> None:
        self._loop = loop
        self._finished = finished
        self._icmp: tuple[int, int, str] | None = None
        self._provisional: Failure | None = None
        self._noted: str | None = None
        self._stray = False
        self._t_connect: float | None = None
        self.request = request
        self.channel: Channel | None = None
        self.late: Callable[[str], bool] | None = None
        self.result: Result | None = None

    def connected(self, now: float) -> None:
        assert self.channel is not None
        self._t_connect = now - self.channel.started

    def answered(self, line: bytes, source: Endpoint, now: float) -> None:
        answer = parse_answer(line)
        if answer is None or answer.token != self.request.token or answer.received != len(self.request.line):
            # A late answer to an earlier request of the same flow is nobody's mistake.
            if answer is None or self.late is None or not self.late(answer.token):
                self._stray = True
            return
        assert self.channel is not None
        self._finish(FlowOutcome.REPLY, None, answer, source, now - self.channel.started)

    def failed(self, failure: Failure) -> None:
        if failure.icmp is not None:
            self._icmp = failure.icmp
        if failure.weight is Weight.FINAL:
            self._finish(failure.outcome, failure.errno_name)
        elif failure.weight is Weight.NOTED:
            self._noted = failure.errno_name
        elif self._provisional is None:
            self._provisional = failure
            self._loop.give_up_later(_ICMP_GRACE, self._give_up_on_icmp)

    def time_out(self) -> None:
        if self._provisional is not None:
            self._give_up_on_icmp()
        else:
            self._finish(FlowOutcome.TIMEOUT, STRAY_ANSWER if self._stray else self._noted)

    def _give_up_on_icmp(self) -> None:
        assert self._provisional is not None
        self._finish(self._provisional.outcome, self._provisional.errno_name)

    def _finish(
        self,
        outcome: FlowOutcome,
        errno: str | None,
        answer: Answer | None = None,
        reply: Endpoint | None = None,
        t_first_byte: float | None = None,
    ) -> None:
        if self.result is not None:
            return
        src = self.channel.local if self.channel is not None else None
        src_ip, src_port = src or (None, None)
        reply_ip, reply_port = reply or (None, None)
        if answer is None:
            self.result = Result(
                outcome,
                errno,
                self._icmp,
                src_ip=src_ip,
                src_port=src_port,
                t_connect=self._t_connect,
            )
        else:
            self.result = Result(
                outcome,
                errno,
                self._icmp,
                answer.backend,
                answer.local_ip,
                answer.local_port,
                answer.client_ip,
                answer.client_port,
                reply_ip,
                reply_port,
                src_ip,
                src_port,
                self._t_connect,
                t_first_byte,
                answer.exchange,
            )
        self._finished(self)
