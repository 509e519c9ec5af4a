# SPDX-License-Identifier: Apache-2.0
"""Whether the runs' charts can be believed: a flat line says something only beside one that bends.

Seen from the cells alone, so that a page of several runs has them too. What a run judged itself (chart `control`) is
told beside it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from plugins.scale import quantities as say
from plugins.scale.catalogue import CONTROL, ControlName
from plugins.scale.cells import Cell
from plugins.scale.panels import Group

Verdict = Literal["holds", "does not hold", "not looked at"]
BENDS, BENDS_MUCH, MUCH = 1.5, 2.0, 10_000
"""How many times as long a connection to iptables' last Service must take, and how many times from that N on."""
ENOUGH = 1_000  # Services, before anything has to bend
FLAT = 0.25
"""By so much the direct path at its best may differ between the most and the fewest Services.

A machine that others use is slower at one time than at another, which its best times show least; Services on the
direct path would multiply them.
"""
CHEAP = 0.05
"""The share that the client itself may have in the quickest thing that is measured."""


@dataclass(frozen=True, slots=True)
class Control:
    """`says` is a sentence of what was seen; `name` is what charts that rely on it call it."""

    name: str
    verdict: Verdict
    says: str


def controls(group: Group) -> tuple[Control, ...]:
    """All that there are to a group of runs."""
    return (_bends(group), _flat(group), _cheap(group), *_own(group))


def _bends(group: Group) -> Control:
    name: ControlName = "iptables bends"
    for scale in group.runs:
        cells = _grown([cell for cell in scale.cells if cell.chart == "first-packet" and "last" in cell.series])
        if scale.mode != "iptables" or len(cells) < 2 or cells[-1].services < ENOUGH:
            continue
        few, many = cells[0], cells[-1]
        factor, needed = grown(few, many), must_bend_by(many.services)
        says = (
            f"with iptables a connection to the last of {many.services:,} Services takes {say.times(factor)} as "
            f"long as with {few.services:,}, and must take {needed:g} × as long"
        )
        return Control(name, "holds" if factor >= needed else "does not hold", says)
    says = (
        "no run here is of mode iptables with its last Service dialled at two numbers of Services, the greater of "
        f"{ENOUGH:,} at least: a line that is flat proves less without one that bends"
    )
    return Control(name, "not looked at", says)


def _flat(group: Group) -> Control:
    """By the direct path of the chart of first packets, in each run."""
    name: ControlName = "the limit is flat"
    found: list[tuple[float, str]] = []
    for scale in group.runs:
        limits = best_limits(scale.cells)
        if len(limits) > 1:
            few, many = min(limits), max(limits)
            factor = limits[many] / limits[few]
            found.append((factor, f"from {few:,} to {say.services(many)} in mode {scale.mode}"))
    if not found:
        return Control(name, "not looked at", "no direct path was measured at two numbers of Services")
    factor, where = max(found, key=lambda one: abs(one[0] - 1))
    says = f"{where}, the direct path at its best takes {say.times(factor)} as long; {say.percent(FLAT)} are allowed"
    return Control(name, "holds" if abs(factor - 1) <= FLAT else "does not hold", says)


def _cheap(group: Group) -> Control:
    """By what the client costs itself, in each run."""
    name: ControlName = "measuring is cheap"
    shares = [
        (share, f"{what}, mode {scale.mode}")
        for scale in group.runs
        for what, share in shares_of(scale.harness).items()
    ]
    if not shares:
        return Control(name, "not looked at", "no run here has measured what measuring itself costs")
    most, where = max(shares)
    allowed = f"{say.percent(CHEAP)} are allowed"
    says = f"measuring itself is {say.percent(most)} of what is measured at most ({where}); {allowed}"
    return Control(name, "holds" if most <= CHEAP else "does not hold", says)


def _own(group: Group) -> Iterator[Control]:
    """What a run judged itself: failures are what did not hold."""
    for scale in group.runs:
        for cell in scale.cells:
            if cell.chart != CONTROL:
                continue
            name = f"{cell.series or 'control'} ({scale.mode})"
            if not cell.is_measured:
                yield Control(name, "not looked at", cell.reason)
                continue
            told = cell.note or f"{say.quantity(cell.median, cell.unit)} at {say.services(cell.services)}"
            yield Control(name, "does not hold" if cell.failures else "holds", told)


def _grown(cells: Sequence[Cell]) -> list[Cell]:
    """What was measured, one cell for each number of Services, the fewest first."""
    return sorted({cell.services: cell for cell in cells if cell.is_measured}.values(), key=lambda one: one.services)


def beside_limit(cell: Cell) -> float:
    """What a cell is judged by: its ratio to the limit, where there is one."""
    return cell.median if cell.ratio is None else cell.ratio


def grown(few: Cell, many: Cell) -> float:
    """How many times as much the second is, each beside its limit."""
    return beside_limit(many) / beside_limit(few)


def must_bend_by(services: int) -> float:
    """How many times as long a connection to iptables' last Service must take with so many as with few."""
    return BENDS_MUCH if services >= MUCH else BENDS


def best_limits(cells: Iterable[Cell]) -> dict[int, float]:
    """The direct path's shortest time at each number of Services, by the chart of first packets; in seconds."""
    found: dict[int, float] = {}
    for cell in cells:
        if cell.chart == "first-packet" and cell.limits:
            found[cell.services] = min(*cell.limits, found.get(cell.services, math.inf))
    return found


def shares_of(harness: Mapping[str, float]) -> dict[str, float]:
    """Of what the harness costs, what is a share of something that is measured."""
    return {what: share for what, share in harness.items() if not what.endswith("(s)")}
