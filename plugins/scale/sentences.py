# SPDX-License-Identifier: Apache-2.0
"""What a chart shows, in words computed from its numbers."""

from collections.abc import Iterator, Sequence

from plugins.scale import quantities as say
from plugins.scale.catalogue import Chart
from plugins.scale.cells import Cell, Unit
from plugins.scale.panels import Group, Line, panels

NEAR = 0.05
"""A factor that is no further from 1 than this is called no change."""
FEW = 6  # so many series can be told one after the other; of more, the chart and its table tell better
MOVED = 0.15
"""Limits of one line that differ by more are told."""


def sentences(group: Group, chart: Chart) -> tuple[str, ...]:
    """How each series grows in each mode, how series compare, how far it is to the limit, and what failed."""
    lines = [line for panel in panels(group, chart.id, ()) for line in panel.lines]
    told: list[str] = []
    for series in dict.fromkeys(line.series for line in lines):
        some = [line for line in lines if line.series == series]
        told += _growth(group, chart, some)
    told += _contrasts(group, chart, lines)
    told += _limits(group, lines)
    told += _moved(lines)
    told += _sizes(group, lines)
    told += _failed(group, lines)
    return tuple(told)


def _growth(group: Group, chart: Chart, lines: Sequence[Line]) -> Iterator[str]:
    """From the fewest to the most Services: one sentence for all modes that have both."""
    by: dict[tuple[int, int, Unit], list[str]] = {}
    for line in lines:
        few, many = line.measured[0], line.measured[-1]
        if few.services < many.services and few.median > 0 and few.unit == many.unit:
            by.setdefault((few.services, many.services, few.unit), []).append(
                f"{say.times(many.median / few.median)}{_hardly(few, many)}{_in(group, line.mode)}"
            )
    for (few_services, many_services, unit), parts in by.items():
        series = lines[0].series
        verb, as_much = say.COMPARED[unit]
        parts[0] = parts[0].replace("×", f"× {as_much}", 1)
        if chart.id == "first-packet" and "last" in series and few_services == 1:
            yield f"Connecting to the last of {many_services:,} Services, beside the only one, {verb} {_told(parts)}."
        else:
            subject = chart.subject(series)
            yield f"From {few_services:,} to {say.services(many_services)}, {subject} {verb} {_told(parts)}."


def _contrasts(group: Group, chart: Chart, lines: Sequence[Line]) -> Iterator[str]:
    """One series beside its counterpart, at the most Services that both have."""
    names = dict.fromkeys(line.series for line in lines)
    pairs = [(name, this, that) for this, that in chart.contrasts for name in names if this in name]
    for series, this, that in pairs:
        counterpart = series.replace(this, that)
        by: dict[int, list[str]] = {}
        unit: Unit = "s"
        for run in range(len(group.runs)):
            here = [line for line in lines if line.run == run]
            pair = [
                {cell.services: cell for line in here if line.series == name for cell in line.measured}
                for name in (series, counterpart)
            ]
            both = set(pair[0]) & set(pair[1])
            if both and pair[1][max(both)].median > 0:
                one, other = pair[0][max(both)], pair[1][max(both)]
                unit = one.unit
                by.setdefault(max(both), []).append(
                    f"{say.times(one.median / other.median)}{_hardly(one, other)}{_in(group, group.runs[run].mode)}"
                )
        for services, parts in by.items():
            verb, as_much = say.COMPARED[unit]
            parts[0] = parts[0].replace("×", f"× {as_much}", 1)
            short = next(part for part in counterpart.split(", ") if that in part)
            yield f"At {say.services(services)}, “{series}” {verb} {_told(parts)}, beside “{short}”."


def _limits(group: Group, lines: Sequence[Line]) -> Iterator[str]:
    """How many times its limit each series is, at the most Services."""
    by: dict[tuple[int, str], dict[str, list[str]]] = {}
    for line in lines:
        cell = line.measured[-1]
        if cell.ratio is not None:
            named = by.setdefault((cell.services, cell.limited_by or "the limit"), {})
            named.setdefault(line.series, []).append(f"{say.times(cell.ratio)}{_in(group, line.mode)}")
    for (services, limit), named in by.items():
        if len(named) > FEW:
            continue
        parts = [f"{series} {_told(each)}".strip() for series, each in named.items()]
        yield f"At {say.services(services)}, beside {limit}: {'; '.join(parts)}."


def _moved(lines: Sequence[Line]) -> Iterator[str]:
    """Limits that are not what they were: then ratios say what values do not."""
    moved: list[tuple[float, str]] = []
    for line in lines:
        limits = [cell.limit for cell in line.measured if cell.limit]
        if limits and max(limits) > (1 + MOVED) * min(limits):
            moved.append((max(limits) / min(limits), ", ".join(part for part in (line.mode, line.series) if part)))
    if moved:
        factor, where = max(moved)
        told = f"{say.times(factor)} at most: {where}"
        yield f"Limits were not the same at all numbers of Services ({told}): compare ratios."


def _sizes(group: Group, lines: Sequence[Line]) -> Iterator[str]:
    """Of lines that are one point and have no limit, the value."""
    by: dict[int, list[str]] = {}
    for line in lines:
        cell = line.measured[-1]
        if len(line.measured) == 1 and cell.ratio is None:
            by.setdefault(cell.services, []).append(
                f"{line.series} {say.quantity(cell.median, cell.unit)}{_in(group, line.mode)}".strip()
            )
    for services, parts in by.items():
        if len(parts) <= FEW:
            yield f"At {say.services(services)}: {'; '.join(parts)}."


def _failed(group: Group, lines: Sequence[Line]) -> Iterator[str]:
    """What failed, or reached its deadline, is told and never averaged away."""
    for line in lines:
        for cell in line.measured:
            where = ", ".join(part for part in (line.mode if len(group.runs) > 1 else "", line.series) if part)
            place = f"{where} at {say.services(cell.services)}" if where else f"at {say.services(cell.services)}"
            if cell.failures:
                yield f"Failed: {cell.failures:,} ({place})."
            if cell.censored:
                yield f"Reached their deadline, and are kept as that: {cell.censored:,} ({place})."


def _hardly(one: Cell, other: Cell) -> str:
    """A remark where two cells do not differ, or where their repeats overlap."""
    if abs(one.median - other.median) <= NEAR * other.median:
        return " (no change)"
    overlap = min(max(one.values), max(other.values)) >= max(min(one.values), min(other.values))
    return " (within the spread)" if overlap and len(one.values) > 1 else ""


def _in(group: Group, mode: str) -> str:
    return f" in mode {mode}" if len(group.runs) > 1 else ""


def _told(parts: Sequence[str]) -> str:
    return say.listed([parts[0], *(part.replace("in mode ", "in ") for part in parts[1:])])
