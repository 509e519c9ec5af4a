# SPDX-License-Identifier: Apache-2.0
"""What is drawn: of each chart one panel or several, with lines, limits and literature. Nothing is drawn here.

Runs that may share a chart are grouped first: a guest's kernel is never drawn beside a native one, nor one machine
beside another.
"""

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from plugins.scale.cells import Cell, Scale, Unit
from plugins.scale.literature import Published

MOST_LINES, MOST_SERIES = 6, 4  # in one panel, before each series gets its own
SAME_LIMIT = 0.10  # limits that are nearer than this are one line
SAME_SIZE = 50.0  # series that are further apart than by this factor do not share an axis


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that may be drawn in one chart."""

    runs: tuple[Scale, ...]

    @property
    def hermetic(self) -> bool:
        return self.runs[0].hermetic

    def cells(self, chart: str) -> list[tuple[int, Cell]]:
        """A chart's cells, each with the number of its run."""
        return [(run, cell) for run, scale in enumerate(self.runs) for cell in scale.cells if cell.chart == chart]

    @property
    def charts(self) -> set[str]:
        return {cell.chart for scale in self.runs for cell in scale.cells}


@dataclass(frozen=True, slots=True)
class Line:
    """One run's cells of one series, the fewest Services first. `run` is its place in the group."""

    run: int
    mode: str
    system: str
    series: str
    cells: tuple[Cell, ...]

    @property
    def measured(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.is_measured)


@dataclass(frozen=True, slots=True)
class Limit:
    """What the limit was: `points` are at → (median, least, most) over the runs and series that had it."""

    label: str
    points: Mapping[int, tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class Overlay:
    """Published figures beside our lines; `number` is what they are called in the chart."""

    number: int
    published: Published
    points: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines that share an axis. `series` is set where the panel is of one series alone.

    `blank` are lines that could have been there, and of which nothing was measured.
    """

    chart: str
    unit: Unit
    series: str | None
    by_endpoints: bool  # whether its axis is of endpoints rather than of Services
    lines: tuple[Line, ...]
    blank: tuple[Line, ...]
    limits: tuple[Limit, ...]
    overlays: tuple[Overlay, ...]

    def at(self, cell: Cell) -> int:
        """Where on its axis a cell is."""
        return cell.endpoints if self.by_endpoints else cell.services

    @property
    def ticks(self) -> tuple[int, ...]:
        lines = (*self.lines, *self.blank)
        return tuple(sorted({self.at(cell) for line in lines for cell in line.cells}))

    @property
    def has_lines(self) -> bool:
        """Whether there is anything to connect, or each point stands alone."""
        return _has_lines(self.lines)

    @property
    def all_series(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(line.series for line in self.lines))


def groups(scales: Iterable[Scale]) -> tuple[Group, ...]:
    """Runs by what they ran on, native ones first, otherwise in the order given."""
    by: dict[tuple[bool, str, str, int], list[Scale]] = {}
    for scale in scales:
        by.setdefault((scale.hermetic, scale.kernel, scale.cpu, scale.cpus), []).append(scale)
    return tuple(Group(tuple(by[key])) for key in sorted(by, key=lambda key: key[0]))


def panels(group: Group, chart: str, literature: Sequence[Published]) -> tuple[Panel, ...]:
    """What is drawn of one chart: first by unit, then by series where one panel would be too full."""
    found = group.cells(chart)
    units = list(dict.fromkeys(cell.unit for _, cell in found))
    every = {unit: _lines(group, [(run, cell) for run, cell in found if cell.unit == unit]) for unit in units}
    drawn: list[Panel] = []
    numbers = itertools.count(1)
    # What was left out is not known by unit or series, so it is shown once, in the first panel.
    blank = [line for lines in every.values() for line in lines if not line.measured]
    for unit, lines in every.items():
        measured = [line for line in lines if line.measured]
        sets = [(None, measured)] if _fit_together(measured) else _by_series(measured)
        for series, some in sets:
            if some:
                drawn.append(_panel(chart, unit, series, (some, blank), literature, numbers))
                blank = []
    return tuple(drawn)


def _lines(group: Group, found: Sequence[tuple[int, Cell]]) -> list[Line]:
    by: dict[tuple[str, int], list[Cell]] = {}
    for run, cell in found:
        by.setdefault((cell.series, run), []).append(cell)
    order = list(dict.fromkeys(cell.series for _, cell in found))
    return [
        Line(
            run,
            group.runs[run].mode,
            group.runs[run].system,
            series,
            tuple(sorted(by[series, run], key=lambda cell: (cell.services, cell.endpoints))),
        )
        for series, run in sorted(by, key=lambda key: (order.index(key[0]), key[1]))
    ]


def _by_series(lines: Sequence[Line]) -> list[tuple[str | None, list[Line]]]:
    return [
        (series, [line for line in lines if line.series == series])
        for series in dict.fromkeys(line.series for line in lines)
    ]


def _fit_together(lines: Sequence[Line]) -> bool:
    """Whether one axis can show all these lines, and one set of limits is right for all of them."""
    series = {line.series for line in lines}
    if len(series) == 1:
        return True
    if not _has_lines(lines):
        return True
    if not _same_size(lines):
        return False
    if len(lines) > MOST_LINES or len(series) > MOST_SERIES:
        return False
    limits = [_limit_of(line) for line in lines]
    return not any(limits) or (all(limits) and _near([one for one in limits if one], 1 + SAME_LIMIT))


def _has_lines(lines: Sequence[Line]) -> bool:
    return any(len({(cell.services, cell.endpoints) for cell in line.cells}) > 1 for line in lines)


def _same_size(lines: Sequence[Line]) -> bool:
    """Whether, at each number of Services, all values are of one order."""
    by: dict[int, list[float]] = {}
    for line in lines:
        for cell in line.measured:
            by.setdefault(cell.services, []).append(cell.median)
    return all(_near(values, SAME_SIZE) for values in by.values())


def _limit_of(line: Line) -> float | None:
    limits = [cell.limit for cell in line.measured if cell.limit is not None]
    return statistics.median(limits) if limits else None


def _near(values: Sequence[float], factor: float) -> bool:
    positive = [value for value in values if value > 0]
    return not positive or max(positive) <= factor * min(positive)


def _panel(
    chart: str,
    unit: Unit,
    series: str | None,
    drawn: tuple[Sequence[Line], Sequence[Line]],
    literature: Sequence[Published],
    numbers: "itertools.count[int]",
) -> Panel:
    lines, blank = drawn
    cells = [cell for line in lines for cell in line.cells]
    by_endpoints = len({cell.services for cell in cells}) == 1 < len({cell.endpoints for cell in cells})
    overlays = () if by_endpoints else tuple(_overlays(lines, literature, numbers))
    panel = Panel(chart, unit, series, by_endpoints, tuple(lines), tuple(blank), (), overlays)
    return replace(panel, limits=_limits(panel))


def _limits(panel: Panel) -> tuple[Limit, ...]:
    by: dict[str, dict[int, list[float]]] = {}
    for line in panel.lines:
        for cell in line.measured:
            by.setdefault(cell.limited_by, {}).setdefault(panel.at(cell), []).extend(cell.limits)
    return tuple(
        Limit(
            label or "limit",
            {at: (statistics.median(some), min(some), max(some)) for at, some in sorted(points.items()) if some},
        )
        for label, points in by.items()
        if any(points.values())
    )


def _overlays(
    lines: Sequence[Line], literature: Sequence[Published], numbers: "itertools.count[int]"
) -> Iterable[Overlay]:
    for published in literature:
        for line in lines:
            cells = [cell for cell in line.cells if published.is_about(cell, line.mode)]
            points = published.scaled(cells)
            if points:
                yield Overlay(next(numbers), published, points)
                break
