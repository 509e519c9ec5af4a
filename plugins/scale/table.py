# SPDX-License-Identifier: Apache-2.0
"""A chart's cells as the page's table."""

from collections.abc import Sequence
from dataclasses import dataclass

from plugins.scale import quantities as say
from plugins.scale import style
from plugins.scale.cells import PERCENTILES, Cell, Scale
from plugins.scale.panels import Group


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    text: bool = False


@dataclass(frozen=True, slots=True)
class Each:
    """One field of the table of cells."""

    text: str
    css: str = ""
    colour: str = ""


def table(group: Group, cells: Sequence[tuple[int, Cell]]) -> tuple[list[Column], list[list[Each]]]:
    """All cells; a column that would say nothing is left out."""
    several = len(group.runs) > 1
    known = [name for name in PERCENTILES if any(name in cell.percentiles for _, cell in cells)]
    optional = (
        ("failed", any(cell.failures for _, cell in cells)),
        ("at deadline", any(cell.censored for _, cell in cells)),
        ("stolen", any(cell.steal >= 0.001 for _, cell in cells)),
        ("remarks", any(cell.note or cell.reason for _, cell in cells)),
    )
    columns = [
        *([Column("mode", True)] if several else []),
        *(Column(name, True) for name in ("series",)),
        *map(Column, ("Services", "endpoints", "median", "spread", "limit", "ratio", *known)),
        *(Column(name, name == "remarks") for name, is_there in optional if is_there),
    ]
    shown = {name for name, is_there in optional if is_there}
    rows = [_row(group.runs[run], cell, several, known, shown) for run, cell in cells]
    return columns, rows


def _row(scale: Scale, cell: Cell, several: bool, known: Sequence[str], shown: set[str]) -> list[Each]:
    limit, ratio = cell.limit, cell.ratio
    limited = "" if limit is None else f"{say.quantity(limit, cell.unit)} ({cell.limited_by or 'limit'})"
    percentiles = (cell.percentiles.get(name) for name in known)
    remarks = "; ".join(part for part in (cell.reason, cell.note) if part)
    row = [
        *([Each(scale.mode, "text mode", style.look(scale.mode).name)] if several else []),
        Each(cell.series or "–", "text"),
        Each(f"{cell.services:,}"),
        Each(f"{cell.endpoints:,}"),
        Each(say.quantity(cell.median, cell.unit) if cell.is_measured else cell.outcome),
        Each(say.percent(cell.spread) if len(cell.values) > 1 else ""),
        Each(limited),
        Each("" if ratio is None else say.number(ratio)),
        *(Each("" if value is None else say.quantity(value, cell.unit)) for value in percentiles),
    ]
    more = (
        ("failed", Each(f"{cell.failures:,}", "bad" if cell.failures else "")),
        ("at deadline", Each(f"{cell.censored:,}")),
        ("stolen", Each(say.percent(cell.steal))),
        ("remarks", Each(remarks, "reason")),
    )
    return [*row, *(each for name, each in more if name in shown)]
