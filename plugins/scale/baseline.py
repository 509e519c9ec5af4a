# SPDX-License-Identifier: Apache-2.0
"""Whether a run got worse than an earlier one: by ratios within each run, and by no more than that.

What is compared of a cell is value / limit, where it has a limit; else value / the run's own median at the
fewest Services of the same line that both runs have. What has the unit ratio or count is compared as it is.

A cell is worse where its median ratio is worse than before by 10 % at least, and by more than both spreads together.
A spread is from the least to the most of the repeats, and at least what is the median of its run: of three repeats,
two or three are alike by chance now and then. Three to five repeats are too few for a test with a null model to be
both sharp and right (of three against three, ranks alone cannot say less than 1 in 20), and this rule needs no model:
that nothing overlaps, with room to spare. How often it is wrong is simulated in tests/scale/test_baseline.py.

Failures and censored waits are counts, and compared as such: of both runs' together, how many fall in this one by
chance alone.

`python -m plugins.scale.baseline OLD NEW`: exit status 1 for regressions, 4 for files that cannot be compared.
"""

import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clusters.errors import PlumblineError, UsageError
from plugins.scale import quantities as say
from plugins.scale.cells import Cell, Scale, Unit, load, relative_spread

LEAST = 0.10
"""Nothing is worse by less than this: two runs of one system on one machine differ by some 5 % (docs/scale.md)."""
ALPHA = 1e-4
"""Chance of calling failures more when they are not; a run has some hundred cells."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A cell as it is compared: one number for each repeat, of which `name` says what it is."""

    name: str
    values: tuple[float, ...]
    spread: float  # relative to the median

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Change:
    """A cell in both runs. `worse_by` is relative to what it was before; infinite where that was nothing."""

    cell: str
    before: Measure
    now: Measure
    worse_by: float

    def turned(self) -> "Change":
        """The change as it would be the other way round: better is worse."""
        return Change(self.cell, self.before, self.now, -self.worse_by)

    def __str__(self) -> str:
        factor = f"{say.percent(abs(self.worse_by))} {'worse' if self.worse_by > 0 else 'better'}"
        return f"{self.cell}: {_told(self.now)}, was {_told(self.before)} {self.now.name}".rstrip() + f": {factor}"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What came of a comparison. `regressions` are what an exit status is for; all else is told."""

    regressions: tuple[str, ...]
    improvements: tuple[str, ...]
    compared: int
    missing: tuple[str, ...]
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """For a terminal, regressions first."""
        head = f"{self.compared} cells compared, {len(self.regressions)} worse, {len(self.improvements)} better"
        return [
            *(f"regression: {one}" for one in self.regressions),
            *(f"better: {one}" for one in self.improvements),
            *(f"not compared: {one}" for one in self.missing),
            *(f"warning: {one}" for one in self.warnings),
            f"baseline: {head}",
        ]


def read(path: Path) -> Scale:
    """An earlier run's scale.json. Raises UsageError, one sentence."""
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--baseline={path} cannot be read: {error.strerror}") from None
    except PlumblineError as error:
        raise UsageError(f"--baseline={path} cannot be used: {error}") from None


def check_kernels(now_hermetic: bool, before: Scale) -> None:
    """Raise UsageError for a hermetic kernel's numbers beside a native one's."""
    if now_hermetic != before.hermetic:
        kinds = ("a native kernel", "a hermetic kernel")
        raise UsageError(
            f"the baseline was measured on {kinds[before.hermetic]} and this run is on {kinds[now_hermetic]}, whose "
            f"numbers cannot be compared; give one of {kinds[now_hermetic]}"
        )


def judge(now: Scale, before: Scale) -> Verdicts:
    """Compare two runs. Raises UsageError where one is of a hermetic kernel and the other of a native one."""
    check_kernels(now.hermetic, before)
    mine, theirs = _Run(now), _Run(before)
    mine.beside(theirs)
    theirs.beside(mine)
    found = [_one(mine, new, theirs, old) for old in theirs.measured if (new := mine.cells.get(old.key))]
    missing = [f"{old.name}: not in this run" for old in theirs.measured if old.key not in mine.cells]
    changes = [one for one in found if isinstance(one, Change)]
    counts = [told for old in theirs.measured if (new := mine.cells.get(old.key)) for told in _counts(new, old)]
    return Verdicts(
        regressions=(*(str(one) for one in changes if worse(one)), *counts),
        improvements=tuple(str(one) for one in changes if worse(one.turned())),
        compared=len(changes),
        missing=(*missing, *(one for one in found if isinstance(one, str))),
        warnings=tuple(_warnings(now, before)),
    )


def _one(mine: "_Run", new: Cell, theirs: "_Run", old: Cell) -> Change | str | None:
    """How a cell changed; why it cannot be said; or None where there is nothing to say."""
    if not new.is_measured:
        return f"{old.name}: {new.outcome}: {new.reason}"
    now, before = mine.measure(new), theirs.measure(old)
    if now is None or before is None or old.better == "none":
        return None
    if now.name != before.name:
        return f"{old.name}: it is a number {now.name} now, and was one {before.name}"
    return _change(new, now, before)


def worse(change: Change) -> bool:
    """The rule."""
    spreads = (each.spread * abs(each.median) for each in (change.before, change.now))
    apart = abs(change.now.median - change.before.median)
    return change.worse_by >= LEAST and apart > sum(spreads)


def more_than_chance(now: int, before: int) -> bool:
    """Whether a count rose by more than chance: of all that were counted, each was as likely to be in either run."""
    from scipy.stats import binom

    return now > before and float(binom.sf(now - 1, now + before, 0.5)) < ALPHA


class _Run:
    """A run's cells by name, and what each is compared by. `references` are the cells at the fewest Services."""

    def __init__(self, scale: Scale) -> None:
        self.cells = {cell.key: cell for cell in scale.cells}
        self._measured = {key: cell for key, cell in self.cells.items() if cell.is_measured}
        self._references: dict[tuple[str, str, int, Unit], Cell] = {}
        repeated = [cell.ratios or cell.values for cell in self._measured.values() if len(cell.values) > 1]
        spreads = [relative_spread(each) for each in repeated]
        self._usual = statistics.median(spreads) if spreads else 0.0

    @property
    def measured(self) -> Sequence[Cell]:
        return tuple(self._measured.values())

    def beside(self, other: "_Run") -> None:
        """Take as references what both runs have measured at the fewest Services."""
        for key in sorted(set(self._measured) & set(other._measured), key=lambda one: one[2]):
            self._references.setdefault(_line(self._measured[key]), self._measured[key])

    def measure(self, cell: Cell) -> Measure | None:
        """None for what has nothing in its own run to be compared with."""
        if cell.limits:
            return Measure(f"× {cell.limited_by or 'the limit'}", cell.ratios, self._spread(cell.ratios))
        if cell.unit in ("ratio", "count"):
            return Measure("", cell.values, self._spread(cell.values))
        reference = self._references.get(_line(cell), cell)
        if reference is cell or not reference.median:
            return None
        numbers = tuple(value / reference.median for value in cell.values)
        # What it is divided by was measured no better than itself.
        spread = self._spread(numbers) + self._spread(reference.values)
        return Measure(f"× that at {say.services(reference.services)}", numbers, spread)

    def _spread(self, numbers: tuple[float, ...]) -> float:
        return max(relative_spread(numbers), self._usual)


def _line(cell: Cell) -> tuple[str, str, int, Unit]:
    return cell.chart, cell.series, cell.endpoints, cell.unit


def _change(cell: Cell, now: Measure, before: Measure) -> Change:
    """Relative to before; worse is more, or less where more is better."""
    sign = -1.0 if cell.better == "more" else 1.0
    moved = sign * (now.median - before.median)
    relative = abs(before.median)
    worse_by = moved / relative if relative else math.copysign(math.inf, moved) if moved else 0.0
    return Change(cell.name, before, now, worse_by)


def _counts(now: Cell, before: Cell) -> Iterator[str]:
    for what, new, old in (
        ("failed", now.failures, before.failures),
        ("reached their deadline", now.censored, before.censored),
    ):
        if more_than_chance(new, old):
            yield f"{now.name}: {new:,} {what}, was {old:,}"


def _warnings(now: Scale, before: Scale) -> Iterator[str]:
    """In what the runs differ, so that not only the system may be the reason."""
    differences: Sequence[tuple[str, Callable[[Scale], object]]] = (
        ("system", lambda one: one.system),
        ("mode", lambda one: one.mode),
        ("kernel", lambda one: one.kernel),
        ("CPU", lambda one: f"{one.cpus} × {one.cpu}"),
        ("length of a measurement", lambda one: say.quantity(one.duration, "s")),
    )
    for name, of in differences:
        if of(now) != of(before):
            yield f"another {name}: {of(now)}, was {of(before)}"


def _told(measure: Measure) -> str:
    return f"{say.number(measure.median)} (spread {say.percent(measure.spread)})"


def main(arguments: Sequence[str]) -> Literal[0, 1, 4]:
    """Compare two files."""
    if len(arguments) != 2:
        print("usage: python -m plugins.scale.baseline OLD NEW, each a scale.json", file=sys.stderr)
        return 4
    try:
        before, now = (read(Path(each)) for each in arguments)
        verdicts = judge(now, before)
    except UsageError as error:
        print(f"plumbline: {str(error).replace('--baseline=', '')}", file=sys.stderr)
        return 4
    print(*verdicts.lines(), sep="\n")
    return 1 if verdicts.regressions else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
