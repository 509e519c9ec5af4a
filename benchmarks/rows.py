# SPDX-License-Identifier: Apache-2.0
"""The table's rows: what was measured, how often, and what docs/architecture.md says it should reach."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One measured number: all its samples, their unit, what to reach, and whether less or more is better.

    `note` says what a reader needs to judge it, such as the physical limit of the same run.
    """

    what: str
    unit: str
    samples: Sequence[float]
    reach: float | None = None
    better: Literal["less", "more"] = "less"
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches its mark; None where there is none."""
        if self.reach is None:
            return None
        return self.median <= self.reach if self.better == "less" else self.median >= self.reach

    def as_markdown(self) -> str:
        low, high = min(self.samples), max(self.samples)
        spread = f"{_number(low)} to {_number(high)}, {len(self.samples)} runs" if len(self.samples) > 1 else "1 run"
        reach = "" if self.reach is None else f"{'≤' if self.better == 'less' else '≥'} {_number(self.reach)}"
        verdict = {None: "", True: "yes", False: "**no**"}[self.reached]
        return f"| {self.what} | {_number(self.median)} {self.unit} | {spread} | {reach} | {verdict} | {self.note} |"


HEADER = (
    "| what | median | spread | reach | reached | note |",
    "|---|---|---|---|---|---|",
)
Benchmark = Callable[[], Sequence[Row]]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
