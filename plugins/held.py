# SPDX-License-Identifier: Apache-2.0
"""Flows that were opened once and are asked again, each still from its own source port.

What their next packet may do depends on what they have been through (`dataplane_ref/model/continuity.py`), which is
known here as far as they were asked: a change that was taken back before anybody asked is not.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clusters.agent.client import HeldConnection
from clusters.api import Backend
from clusters.observation import FlowOutcome, Observation
from dataplane_ref.model import Endpoint, Past
from plugins.services import Target

if TYPE_CHECKING:
    from plugins.flows import Flows, Prober

Line = tuple["Prober", Target]
"""Who dials what."""


@dataclass(slots=True)
class HeldFlow:
    """One of them: `past` is None until it has been answered, `backend` who answered last."""

    prober: "Prober"
    target: Target
    connection: HeldConnection
    past: Past | None = None
    backend: str | None = None

    def judged(self, seen: Observation) -> "Flows":
        """One more packet's fate, with what it might have been."""
        flows, self.past = self.prober.continued(*self.target, seen, self.past)
        if seen.outcome is FlowOutcome.REPLY and seen.served_at is not None:
            self.past = Past(Endpoint(seen.served_at.ip, seen.served_at.port), answered=True)
            self.backend = seen.backend
        return flows


@dataclass(frozen=True, slots=True)
class HeldFlows:
    """Many of them. Each question is put to all at once, so that silence is waited for only once."""

    flows: tuple[HeldFlow, ...]

    def must_be_served_by(self, backend: Backend, *, size: int = 0) -> None:
        """One more exchange on every flow must be answered by this backend, within the verdict of now.

        `size` is the least number of bytes that request and answer shall have.
        """
        __tracebackhide__ = True
        for flows in self._exchange(size):
            flows.must_reach_exactly(frozenset({backend.name}))

    def must_go_on(self) -> None:
        """One more exchange on every flow must be answered by whoever answered its last one."""
        __tracebackhide__ = True
        before = [frozenset({one.backend or "whoever it was with"}) for one in self.flows]
        for flows, backend in zip(self._exchange(), before, strict=True):
            flows.must_reach_exactly(backend)

    def must_reach_nobody(self) -> None:
        """One more exchange on every flow must be refused, or come to nothing, as the verdict has it."""
        __tracebackhide__ = True
        for flows in self._exchange():
            flows.must_reach_exactly(frozenset())

    def must_reach_all_that_is_allowed(self) -> None:
        """One more exchange on every flow must be answered where an endpoint may, and by nobody where none may."""
        __tracebackhide__ = True
        for flows in self._exchange():
            flows.must_reach_all_that_is_allowed()

    def _exchange(self, size: int = 0) -> "list[Flows]":
        for one in self.flows:
            one.connection.ask(reply_padding=size, request_size=size)
        return [one.judged(one.connection.answer()) for one in self.flows]


@contextmanager
def held(lines: Sequence[Line]) -> Iterator[HeldFlows]:
    """A flow for each line, opened at once, closed together. The first exchange is judged as any other."""
    if not lines:
        raise ValueError("no target was named, so nothing is proved")
    requests = [prober.request(*target, None) for prober, target in lines]
    with ExitStack() as stack:
        connections = lines[0][0].cluster.hold_each(requests)
        for one in connections:
            stack.enter_context(one)
        flows = [HeldFlow(*line, connection) for line, connection in zip(lines, connections, strict=True)]
        for flow in flows:
            flow.judged(flow.connection.first).must_stay_within_the_verdict()
        yield HeldFlows(tuple(flows))
