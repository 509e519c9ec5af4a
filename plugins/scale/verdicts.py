# SPDX-License-Identifier: Apache-2.0
"""What the cells of a run must show: judged when all of them have been measured."""

import pytest

from plugins.scale import controls
from plugins.scale.cells import Cell
from plugins.scale.controls import CHEAP, ENOUGH, FLAT, beside_limit
from plugins.scale.store import Store
from plugins.world import UnfitError


def only_mode(mode: str, wanted: str) -> None:
    """Raise UnfitError for another mode."""
    if mode != wanted:
        raise UnfitError(f"it is about mode {wanted}, and the proxy's is {mode}")


def must_bend(measured: Store, *, mode: str) -> None:
    """The last Service's latency must show the length of iptables' chain."""
    only_mode(mode, "iptables")
    fewest, most = _ends(measured, "first-packet", "last Service")
    if most.services < ENOUGH:
        raise UnfitError(f"{most.services:,} Services are too few to show it; it takes {ENOUGH:,}")
    grown, needed = controls.grown(fewest, most), controls.must_bend_by(most.services)
    if grown < needed:
        pytest.fail(
            f"{_between(fewest, most)} connections to the last Service take {grown:.2f} times as long, "
            f"and must take {needed:g} times as long: what is measured is not the Services"
        )


def must_stay_flat(measured: Store) -> None:
    """The limit at the most Services must be what it was at the fewest."""
    limits = controls.best_limits(measured.cells)
    if len(limits) < 2:
        raise UnfitError("the direct path was not measured at two numbers of Services")
    few, many = min(limits), max(limits)
    grown = limits[many] / limits[few]
    if abs(grown - 1) > FLAT:
        pytest.fail(
            f"from {few:,} to {many:,} Services the direct path has become {grown:.2f} times what it was, "
            f"and no Service is on it: the machine has changed meanwhile"
        )


def must_cost_little(measured: Store, *, hermetic: bool) -> None:
    """What the client itself takes of what it measures. A guest's clock is a system call, and so no small part."""
    if hermetic:
        raise UnfitError("reading the clock is a system call in a guest, and its times are not compared with others")
    shares = controls.shares_of(measured.harness)
    if not shares:
        raise UnfitError("nothing was measured")
    name, worst = max(shares.items(), key=lambda one: one[1])
    if worst > CHEAP:
        pytest.fail(f"the client itself is {worst:.1%} of what it measures ({name}), and may be {CHEAP:.0%} at most")


def must_not_grow(measured: Store, chart: str, series: str, *, most: float) -> None:
    """A line's value beside its limit at the most Services, over that at the fewest."""
    fewest, last = _ends(measured, chart, series)
    grown = controls.grown(fewest, last)
    if grown > most:
        pytest.fail(
            f"{_between(fewest, last)} {series} takes {grown:.2f} times as long, and should {most:.2f} at most"
        )


def must_be_near_the_limit(measured: Store, chart: str, series: str, *, most: float) -> None:
    """A line's value beside its limit, wherever it was measured."""
    cells = measured.of(chart, series)
    if not cells:
        raise UnfitError(f"{chart} of {series} was not measured")
    worst = max(cells.values(), key=beside_limit)
    if beside_limit(worst) > most:
        pytest.fail(
            f"with {worst.services:,} Services {series} takes {beside_limit(worst):.2f} times the direct path, "
            f"and should {most:.2f} at most"
        )


def _ends(measured: Store, chart: str, series: str) -> tuple[Cell, Cell]:
    """The cells at the fewest and at the most Services. Raises UnfitError where there are no two."""
    cells = measured.of(chart, series)
    if len(cells) < 2:
        raise UnfitError(f"{chart} of {series} was not measured at two numbers of Services")
    return cells[min(cells)], cells[max(cells)]


def _between(fewest: Cell, most: Cell) -> str:
    return f"from {fewest.services:,} to {most.services:,} Services"
