# SPDX-License-Identifier: Apache-2.0
"""What is remembered of one test of a requirement: a line of `requirements.jsonl`, and the text of a failure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusters.agent.client import Recording
from clusters.observation import Observation
from plugins.outcomes import Outcome

# Observations kept whole in the record; the summary speaks of all of them.
KEPT = 3


@dataclass(slots=True)
class Record:
    """Filled while the test runs; `as_dict` is the contract of `report/requirements.jsonl`.

    `undeclared` are the features that the proxy does not declare, and whether this test found them to work (None: it
    was not tried). `checks` are of whom a scheduler chose: null model, flows, the model's chance of what was seen,
    and what would have been noticed. `latest` is all of the latest probe, for this process only; `watched` are the
    packets that the test itself looked at, by role and place.
    """

    id: str
    level: str
    sentence: str
    test: str
    axes: Mapping[str, str]
    outcome: Outcome = Outcome.UNKNOWN
    reason: str | None = None
    expected: str | None = None
    observed: str | None = None
    observations: list[dict[str, Any]] = field(default_factory=list)
    where: str | None = None
    proxy_config: Mapping[str, Any] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    settle_s: float | None = None
    settled: bool = True
    oracle_asked: bool = False
    deviation: str | None = None
    undeclared: dict[str, bool | None] = field(default_factory=dict)
    artefacts: list[str] = field(default_factory=list)
    seconds: float = 0.0
    latest: tuple[Observation, ...] = ()
    watched: dict[str, Recording] = field(default_factory=dict)

    def saw(self, observations: Sequence[Observation], expected: str, observed: str) -> None:
        """Remember the latest probe: a failure speaks of the one it came from."""
        self.expected = expected
        self.observed = observed
        self.latest = tuple(observations)
        self.observations = [seen.as_dict() for seen in observations[:KEPT]]
        if observations:
            first = observations[0]
            place = {first.vantage: "host network", None: "outside"}.get(first.node, f"pod on {first.node}")
            self.where = f"{first.vantage} ({place}) to {first.frontend}, {first.protocol}, {first.family}"

    def looked(self, place: str, expected: str, observed: str) -> None:
        """Remember the latest look at captured packets; whose flow they were of is known from its probe."""
        self.expected = f"{place}: {expected}"
        self.observed = observed
        self.where = self.where or place

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "id": self.id,
            "level": self.level,
            "sentence": self.sentence,
            "test": self.test,
            "outcome": self.outcome.word,
            "reason": self.reason,
            "axes": dict(self.axes),
            "expected": self.expected,
            "observed": self.observed,
            "observations": self.observations,
            "where": self.where,
            "proxy_config": dict(self.proxy_config),
            "checks": self.checks,
            "settle_s": self.settle_s,
            "settled": self.settled,
            "oracle_asked": self.oracle_asked,
            "deviation": self.deviation,
            "undeclared": self.undeclared,
            "artefacts": self.artefacts,
            "seconds": round(self.seconds, 4),
        }
