# SPDX-License-Identifier: Apache-2.0
"""Bins of a run, idle runs around busy ones, and what must be felt and what must not."""

from collections.abc import Callable, Iterable, Sequence

import pytest

from clusters.measure.traffic import Bin, Sample
from plugins.scale.cells import Cell
from plugins.scale.jitter import (
    CONNECTIONS_WORST,
    REQUESTS_WORST,
    SAME_CPU,
    Felt,
    Jitter,
    beside_idle,
    felt,
    keep,
)
from plugins.scale.obligations import must_be_felt, must_hardly_be_felt
from plugins.scale.store import Store
from plugins.world import UnfitError
from tests.scale.fake_bench import fake_bench


def sample(counts: Iterable[int], worst: float = 0.001, failures: int = 0) -> Sample:
    bins = tuple(Bin(count, 0, worst) for count in counts)
    return Sample(sum(one.count for one in bins), failures, len(bins) / 10, 0, 0, 0, 0, worst, bins=bins)


def test_the_low_bin_is_the_twentieth_part() -> None:
    found = felt(sample([*range(100, 139), 1]), 4.0)
    assert [found.middle, found.low] == [pytest.approx(1190), pytest.approx(1010)]
    assert felt(sample([1, 2, *[100] * 38]), 4.0).low == 1000, "two of forty are fewer than a twentieth"
    assert felt(sample([1, 2, 3, *[100] * 37]), 4.0).low == pytest.approx(30)


def test_bins_in_which_nothing_ended_count() -> None:
    """A run that stood still for its last second has ten bins fewer."""
    assert felt(sample([100] * 30), 4.0).low == 0
    assert felt(sample([100] * 15), 4.0).middle == 0


def test_a_bin_that_is_not_whole_does_not_count() -> None:
    assert felt(sample([*[100] * 10, 3]), 1.0).low == 1000


def test_without_a_whole_bin_there_is_nothing_to_tell() -> None:
    with pytest.raises(ValueError, match=r"0.05 s hold no whole bin"):
        felt(sample([1]), 0.05)


def one(middle: float, worst: float = 0.001) -> Felt:
    return Felt(middle, middle * 0.9, worst, 0)


def in_turn(runs: Sequence[Felt]) -> Callable[[], Felt]:
    left = iter(runs)
    return lambda: next(left)


def test_each_busy_run_stands_between_two_idle_ones() -> None:
    busy = {"a": lambda: one(50), "b": lambda: one(80)}
    found = beside_idle(in_turn([one(100), one(104), one(102)]), busy)
    assert found["a"].idle.middle == 102
    assert found["b"].idle.middle == 103
    assert found["a"].moved == pytest.approx(0.04)
    assert [found[name].busy.middle for name in "ab"] == [50, 80]


def test_only_what_moved_is_measured_again() -> None:
    asked: list[str] = []

    def busy(name: str) -> Callable[[], Felt]:
        return lambda: asked.append(name) or one(50)  # type: ignore[func-returns-value]

    idle = in_turn([one(100), one(100), one(150), one(100), one(101)])
    found = beside_idle(idle, {"a": busy("a"), "b": busy("b")})
    assert asked == ["a", "b", "b"]
    assert found["b"].moved == pytest.approx(0.01)


def test_a_machine_that_is_not_quiet_makes_cells_unfit() -> None:
    bench, kept = fake_bench()
    keep(bench, "request", SAME_CPU, Jitter(one(50), one(100), 0.2))
    assert {cell.outcome for cell in kept} == {"unfit"}
    assert kept[0].reason == "idle runs before and after differ by 20%: the machine was not quiet"


def test_cells_stand_beside_the_idle_run() -> None:
    bench, kept = fake_bench()
    keep(bench, "request", SAME_CPU, Jitter(one(50, 0.1), one(100, 0.001), 0.02))
    told = {cell.series: (cell.median, cell.ratio) for cell in kept}
    assert told == {
        f"requests, p05 of bins, {SAME_CPU}": (45, pytest.approx(0.5)),
        f"requests, median of bins, {SAME_CPU}": (50, 0.5),
        f"requests, worst, {SAME_CPU}": (0.1, pytest.approx(100)),
    }


def test_a_spinner_must_be_felt() -> None:
    idle = Felt(1000, 900, 0.001, 0)
    bench, kept = fake_bench()
    must_be_felt(bench, Jitter(Felt(500, 100, 0.01, 0), idle, 0.0))
    assert [(cell.chart, cell.values, cell.failures) for cell in kept] == [("control", (0.5,), 0)]
    for busy in (Felt(950, 100, 0.01, 0), Felt(500, 990, 0.01, 0)):
        with pytest.raises(pytest.fail.Exception, match=r"bins had 9\d% of an idle run's requests at most, and must"):
            must_be_felt(bench, Jitter(busy, idle, 0.0))
    assert [cell.failures for cell in kept] == [0, 1, 1]


def measured(worst: float, failures: int = 0, what: str = CONNECTIONS_WORST, idle: float = 0.001) -> Store:
    store = Store()
    cell = Cell("jitter", f"{what}, {SAME_CPU}", 10_000, 2, "s", "less", (worst,), (idle,), failures=failures)
    store.keep(cell)
    return store


def test_a_resync_that_is_hardly_felt() -> None:
    must_hardly_be_felt(measured(0.049), SAME_CPU)
    with pytest.raises(pytest.fail.Exception, match=r"the worst took 51\.0 ms"):
        must_hardly_be_felt(measured(0.051), SAME_CPU)
    with pytest.raises(pytest.fail.Exception, match=r"the worst took 51\.0 ms"):
        must_hardly_be_felt(measured(0.051, what=REQUESTS_WORST), SAME_CPU)
    with pytest.raises(pytest.fail.Exception, match="3 connections failed"):
        must_hardly_be_felt(measured(0.001, 3), SAME_CPU)
    with pytest.raises(UnfitError, match="was not measured"):
        must_hardly_be_felt(Store(), SAME_CPU)
    with pytest.raises(UnfitError, match="not on a quiet machine"):
        must_hardly_be_felt(measured(0.2, idle=0.1), SAME_CPU)
