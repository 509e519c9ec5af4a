# SPDX-License-Identifier: Apache-2.0
"""What a measurement must show by itself, judged as soon as it is there; verdicts.py judges several together."""

from collections.abc import Mapping, Sequence

import pytest

from plugins.scale import quantities as say
from plugins.scale.bench import Bench
from plugins.scale.cells import Cell
from plugins.scale.correctness import Checked
from plugins.scale.fairness import Fairness
from plugins.scale.jitter import CONNECTIONS_WORST, REQUESTS_WORST, Jitter
from plugins.scale.maglev import Disruption, most_moved, slots
from plugins.scale.store import Store
from plugins.statistics import ALPHA
from plugins.world import UnfitError

LEFT = 0.8
"""Of what was done in the middle bin of an idle run, a disturbed one must have done less than this part."""
HARDLY, QUIET = 0.05, 0.02
"""Seconds: nothing may take longer where a proxy's work is hardly felt; so long things may take in idle runs."""


def judge_control(bench: Bench, series: str, value: float, told: str, *, holds: bool) -> None:
    """Keep what a control came to, for the page; fail where it does not hold."""
    bench.add(
        Cell(
            chart="control",
            series=series,
            services=bench.services,
            endpoints=bench.shape.each,
            unit="ratio",
            better="none",
            values=(value,),
            failures=int(not holds),
            note=told,
        )
    )
    if not holds:
        pytest.fail(f"{told}: a measurement that does not show it shows nothing")


def must_be_felt(bench: Bench, found: Jitter) -> None:
    """Somebody else on the CPU shows as fewer requests, in the low bins and in the middle one."""
    left = max(found.busy.low, found.busy.middle) / found.idle.middle
    told = (
        f"beside somebody who wants the same CPU bins had {left:.0%} of an idle run's requests at most, and must "
        f"have less than {LEFT:.0%}"
    )
    judge_control(bench, "jitter shows a spinner", left, told, holds=left < LEFT)


def must_hardly_be_felt(measured: Store, where: str) -> None:
    """While Services change no connection fails and nothing takes long. Raises UnfitError where that is unknown."""
    cells: list[Cell] = []
    for what in (REQUESTS_WORST, CONNECTIONS_WORST):
        cells += measured.of("jitter", f"{what}, {where}").values()
    cells = [cell for cell in cells if cell.limit is not None and cell.limit <= QUIET]
    if not cells:
        raise UnfitError(f"jitter with the {where} was not measured, or not on a quiet machine")
    for cell in cells:
        if cell.failures:
            pytest.fail(f"with {cell.services:,} Services {cell.failures:,} connections failed ({cell.series})")
        if cell.median > HARDLY:
            pytest.fail(
                f"with {cell.services:,} Services the worst took {say.quantity(cell.median, 's')} ({cell.series}), "
                f"and should take {say.quantity(HARDLY, 's')} at most"
            )


def must_be_fair(found: Sequence[Fairness]) -> None:
    """No sample is less even than a fair chooser's would be once in a million."""
    for one in found:
        if not one.is_fair:
            pytest.fail(
                f"of {one.flows:,} connections the busiest endpoint had {one.largest:.2f} times an equal share, and "
                f"endpoints shares that a fair choice gives with a chance of {one.chance:.1g}, less than {ALPHA:.0e}"
            )


def must_be_unfair(bench: Bench, found: Fairness) -> None:
    """The control: twice the share of the others is not fair."""
    told = (
        f"an endpoint with twice the weight of each other had {found.largest:.2f} times an equal share of "
        f"{found.flows:,} connections, which a fair choice gives with a chance of {found.chance:.1g}, and must be "
        f"less than {ALPHA:.0e}"
    )
    judge_control(bench, "fairness shows a weight", found.largest, told, holds=not found.is_fair)


def must_move_few(mode: str, found: Mapping[int, Disruption]) -> None:
    """Of the connections of endpoints that stay, no more move than a table of this size allows."""
    for count, one in found.items():
        size = slots(mode, count)
        if one.collateral > most_moved(size):
            pytest.fail(
                f"when one of {count} endpoints went, {one.collateral:.2%} of the others' connections moved, and "
                f"with a table of {size:,} slots {most_moved(size):.0%} may at most"
            )


def must_be_right(found: Mapping[str, Checked]) -> None:
    """None of the Services that were asked was wrong."""
    for when, one in found.items():
        if one.wrong:
            pytest.fail(f"{when}, {len(one.wrong)} of {one.asked:,} Services were wrong: {one.in_words}")
