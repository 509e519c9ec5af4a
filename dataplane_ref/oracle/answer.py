# SPDX-License-Identifier: Apache-2.0
"""What the oracle is asked, and what it answers: the reference datapath's own words for one new flow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Entry = Literal["pod", "process", "outside"]
AnswerOutcome = Literal["passed", "reply", "refused", "dropped"]
At = tuple[str, int]
"""An endpoint: its address and port."""


class NoRoomError(Exception):
    """The oracle's maps cannot hold the state, so that it would answer for another; one sentence."""


@dataclass(frozen=True, slots=True)
class Question:
    """The first packet of a flow, and where it starts.

    A `pod` or `process` is one of `node`; from `outside` that is the node at which the packet arrives, or None where
    it arrives at whoever owns the destination. `source` is the address the packet leaves its sender with.
    """

    entry: Entry
    node: str | None
    source: str
    destination: str
    port: int
    protocol: str


@dataclass(frozen=True)
class Answer:
    """What the datapath does with a flow.

    `endpoints` are all that it chooses from, read from its maps, `sources` whom each of those that it chose just now
    sees. `passed`: it is no Service's, and left as it is. `node` is the node that decided, None where the packet
    meets none. `reason` is the counter's name for a drop.
    """

    outcome: AnswerOutcome
    endpoints: frozenset[At] = frozenset()
    sources: Mapping[At, str] = field(default_factory=dict)
    node: str | None = None
    reason: str | None = None

    def __str__(self) -> str:
        """In words, on one line."""
        where = f" at {self.node}" if self.node else ""
        if self.outcome == "reply":
            return f"reply from {' or '.join(self._endpoint(one) for one in sorted(self.endpoints))}{where}"
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.outcome}{where}{why}"

    def _endpoint(self, one: At) -> str:
        seen = f", seeing {self.sources[one]}" if one in self.sources else ""
        return f"{shown(one)}{seen}"


def shown(endpoint: At) -> str:
    """An endpoint as people write it."""
    ip, port = endpoint
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
