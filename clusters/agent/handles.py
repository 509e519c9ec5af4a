# SPDX-License-Identifier: Apache-2.0
"""Things that go on in the agent while the caller does something else: held flows, paced flows, captures.

Each is a context manager that ends its counterpart in the agent. When the agent itself has gone, leaving the
context raises that PlumblineError, unless another exception is already on its way.
"""

import base64
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from clusters.agent.records import CapturedPacket, PacedRecord, ProbeRequest
from clusters.agent.transport import Transport
from clusters.agent.wire import Result
from clusters.errors import PlumblineError
from clusters.observation import Address, FlowOutcome, Observation
from clusters.patience import patient

# Over and above an operation's own timeout: what a busy agent may need to get round to answering.
SLACK = patient(15.0)


class _Handle:
    """Closes itself on exit; a failure to close does not hide the failure that led there."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except PlumblineError as trouble:
            if error is None:
                raise
            error.add_note(str(trouble))


class HeldConnection(_Handle):
    """An open TCP connection or SCTP association, or a UDP socket with one source port, that can be asked again.

    `first` is the observation of its first exchange: anything but a reply means that a connection or association
    never came about. `exchanges` is how many requests the backend has counted on it.
    """

    def __init__(self, transport: Transport, request: ProbeRequest, timeout: float, reply: Mapping[str, Any]) -> None:
        """`reply` is the agent's, to the operation `hold`."""
        self._transport = transport
        self._request = request
        self._timeout = timeout
        self._released = False
        self._held: int = reply["held"]
        self._asked: tuple[int, float] | None = None
        self.exchanges = 0
        self.first = self._observe(reply["result"])

    def exchange(self, timeout: float | None = None, *, reply_padding: int = 0, request_size: int = 0) -> Observation:
        """One more request on the same flow; after the flow's end, that end. Times count from this
        request."""
        self.ask(timeout, reply_padding=reply_padding, request_size=request_size)
        return self.answer()

    def ask(self, timeout: float | None = None, *, reply_padding: int = 0, request_size: int = 0) -> None:
        """Begin an exchange: many flows may be asked before the first `answer` is waited for."""
        patience = timeout if timeout is not None else self._timeout
        sizes = {"reply_padding": reply_padding, "request_size": request_size}
        arguments = {"held": self._held, "timeout": patience, **sizes}
        self._asked = self._transport.send("exchange", arguments, patience + SLACK), patience + SLACK

    def answer(self) -> Observation:
        """What came of the exchange that was begun last."""
        if self._asked is None:
            raise ValueError("the flow was not asked")
        (number, deadline), self._asked = self._asked, None
        return self._observe(self._transport.receive(number, "exchange", deadline)["result"])

    def wait_end(self, timeout: float) -> Observation | None:
        """How the connection ended, without sending anything; None when it is still open after `timeout`
        seconds.

        A peer that closed in good order is a `reset` without errno, an RST one with ECONNRESET.
        """
        reply = self._transport.call("wait_end", timeout + SLACK, held=self._held, timeout=timeout)
        return self._observe(reply["result"]) if reply["result"] is not None else None

    def close(self, how: str = "rst") -> None:
        """Release the flow; `how` is rst or fin."""
        if not self._released:
            self._released = True
            self._transport.call("release", SLACK, held=self._held, close=how)

    def _observe(self, row: list[Any]) -> Observation:
        self.exchanges = Result(*row).exchange or self.exchanges
        return self._request.observe(row)


class PacedFlow(_Handle):
    """A flow that sends by itself. `records()` may be asked at any time, also after the flow was closed."""

    def __init__(
        self, transport: Transport, request: ProbeRequest, interval: float, timeout: float, limit: int
    ) -> None:
        self._transport = transport
        self._timeout = timeout
        self._records: list[PacedRecord] = []
        self._resolved = 0
        self._is_open = True
        reply = transport.call(
            "flow_start",
            SLACK,
            flow=request.flow(request.netns),
            interval=interval,
            timeout=timeout,
            limit=limit,
        )
        self._flow: int = reply["flow"]
        self.request = request
        self.src = Address(*reply["src"]) if reply["src"] is not None else None
        self.ended: FlowOutcome | None = None
        self.lost = 0

    def records(self) -> list[PacedRecord]:
        """Every send so far, oldest first; while the flow runs, the last ones may have no outcome yet.

        `lost` counts records the agent threw away because nobody asked for them within the flow's limit;
        `ended` is how a TCP connection ended, None while it lives.
        """
        if self._is_open:
            self._take(
                self._transport.call("flow_peek", SLACK, flow=self._flow, **{"from": self._resolved + self.lost})
            )
        return list(self._records)

    def close(self) -> None:
        """Send no more and wait until every send has its outcome: at most the flow's timeout."""
        if self._is_open:
            self._is_open = False
            self._take(
                self._transport.call(
                    "flow_stop",
                    self._timeout + SLACK,
                    flow=self._flow,
                    **{"from": self._resolved + self.lost},
                )
            )

    def _take(self, reply: dict[str, Any]) -> None:
        del self._records[self._resolved :]
        self.lost = reply["first"] - self._resolved
        self._records.extend(PacedRecord.from_row(row) for row in reply["records"])
        self.ended = FlowOutcome(reply["ended"]) if reply["ended"] is not None else None
        while self._resolved < len(self._records) and self._records[self._resolved].outcome is not None:
            self._resolved += 1


class Capture(_Handle):
    """A running capture. After the context, `packets` holds what it saw and `dropped` counts what it could
    not."""

    def __init__(self, transport: Transport, arguments: dict[str, Any]) -> None:
        self._transport = transport
        self._is_open = True
        self._capture: int = transport.call("capture_start", SLACK, **arguments)["capture"]
        self.packets: tuple[CapturedPacket, ...] = ()
        self.dropped = 0

    def close(self) -> None:
        """Stop, after reading everything the kernel had already seen."""
        if not self._is_open:
            return
        self._is_open = False
        reply = self._transport.call("capture_stop", 4 * SLACK, capture=self._capture)
        self.dropped = reply["dropped"]
        self.packets = captured(reply["packets"])


def captured(rows: list[list[Any]]) -> tuple[CapturedPacket, ...]:
    """The packets of an agent's reply."""
    return tuple(
        CapturedPacket(t, interface, direction, base64.b64decode(data), length)
        for t, interface, direction, length, data in rows
    )
