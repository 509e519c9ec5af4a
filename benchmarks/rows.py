# SPDX-License-Identifier: Apache-2.0
"""The table's rows: what was measured, how often, and what docs/architecture.md says it should reach."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol


class Printable(Protocol):
    """A row of one of the tables."""

    HEADER: ClassVar[Sequence[str]]

    def as_markdown(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One measured number: all its samples, their unit, what to reach, and whether less or more is better.

    `note` says what a reader needs to judge it, such as the physical limit of the same run.
    """

    HEADER: ClassVar[Sequence[str]] = (
        "| what | median | spread | reach | reached | note |",
        "|---|---|---|---|---|---|",
    )

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


@dataclass(frozen=True, slots=True)
class Beside:
    """A number beside the limit of the same run: each measured value with what the limit was then.

    `goal` is for the ratio of the two, or, where it says so, for what was measured.
    """

    HEADER: ClassVar[Sequence[str]] = (
        "| what | measured | limit of the same run | ratio | goal | met | note |",
        "|---|---|---|---|---|---|---|",
    )

    what: str
    unit: str
    measured: Sequence[float]
    limit: Sequence[float]
    limited_by: str
    goal: float | None = None
    better: Literal["less", "more"] = "less"
    goal_is_for: Literal["ratio", "measured"] = "ratio"
    note: str = ""

    @property
    def ratios(self) -> Sequence[float]:
        return [one / limit for one, limit in zip(self.measured, self.limit, strict=True)]

    @property
    def met(self) -> bool | None:
        """Whether the median meets its goal; None where there is none."""
        if self.goal is None:
            return None
        median = statistics.median(self.ratios if self.goal_is_for == "ratio" else self.measured)
        return median <= self.goal if self.better == "less" else median >= self.goal

    def as_markdown(self) -> str:
        ratios = self.ratios
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} runs)" if len(ratios) > 1 else " (1 run)"
        limit = f"{_number(statistics.median(self.limit))} {self.unit}: {self.limited_by}"
        sign = "≤" if self.better == "less" else "≥"
        unit = f" {self.unit}" if self.goal_is_for == "measured" else ""
        goal = "" if self.goal is None else f"{sign} {_number(self.goal)}{unit}"
        met = {None: "", True: "yes", False: "**no**"}[self.met]
        return (
            f"| {self.what} | {_number(statistics.median(self.measured))} {self.unit} | {limit} "
            f"| {statistics.median(ratios):.2f}{spread} | {goal} | {met} | {self.note} |"
        )


Benchmark = Callable[[], Iterable[Printable]]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
