# SPDX-License-Identifier: Apache-2.0
"""A chart's cells as the page's table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plugins.scale import quantities as say
from plugins.scale import style
from plugins.scale.cells import PERCENTILES, Cell, Scale
from plugins.scale.panels import Group

STOLEN = 0.001  # a share of CPU time that is worth a column


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
    found = [cell for _, cell in cells]
    limited = any(cell.limits for cell in found)
    columns: list[tuple[Column, bool, Callable[[Scale, Cell], Each]]] = [
        (Column("mode", True), len(group.runs) > 1, _mode),
        (Column("series", True), any(cell.series for cell in found), lambda _, of: Each(of.series or "–", "text")),
        (Column("Services"), True, lambda _, of: Each(f"{of.services:,}")),
        (Column("endpoints"), True, lambda _, of: Each(f"{of.endpoints:,}")),
        (Column("median"), True, lambda _, of: Each(_median(of))),
        (Column("spread"), any(len(cell.values) > 1 for cell in found), lambda _, of: Each(_spread(of))),
        (Column("limit"), limited, lambda _, of: Each(_limit(of))),
        (Column("ratio"), limited, lambda _, of: Each(_ratio(of))),
        *((Column(name), any(name in cell.percentiles for cell in found), _percentile(name)) for name in PERCENTILES),
        (Column("failed"), any(cell.failures for cell in found), lambda _, of: _failed(of.failures)),
        (Column("at deadline"), any(cell.censored for cell in found), lambda _, of: Each(f"{of.censored:,}")),
        (Column("stolen"), any(cell.steal >= STOLEN for cell in found), lambda _, of: Each(say.percent(of.steal))),
        (Column("remarks", True), any(cell.reason or cell.note for cell in found), lambda _, of: _remarks(of)),
    ]
    shown = [(column, of) for column, is_there, of in columns if is_there]
    return [column for column, _ in shown], [[of(group.runs[run], cell) for _, of in shown] for run, cell in cells]


def _mode(scale: Scale, _cell: Cell) -> Each:
    return Each(scale.mode, "text mode", style.look(scale.mode).name)


def _median(cell: Cell) -> str:
    return say.quantity(cell.median, cell.unit) if cell.is_measured else cell.outcome


def _spread(cell: Cell) -> str:
    return say.percent(cell.spread) if len(cell.values) > 1 else ""


def _limit(cell: Cell) -> str:
    return "" if cell.limit is None else f"{say.quantity(cell.limit, cell.unit)} ({cell.limited_by or 'limit'})"


def _ratio(cell: Cell) -> str:
    return "" if cell.ratio is None else say.number(cell.ratio)


def _percentile(name: str) -> Callable[[Scale, Cell], Each]:
    def of(_scale: Scale, cell: Cell) -> Each:
        return Each(say.quantity(cell.percentiles[name], cell.unit) if name in cell.percentiles else "")

    return of


def _failed(failures: int) -> Each:
    return Each(f"{failures:,}", "bad" if failures else "")


def _remarks(cell: Cell) -> Each:
    return Each("; ".join(part for part in (cell.reason, cell.note) if part), "reason")
