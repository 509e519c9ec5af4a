# SPDX-License-Identifier: Apache-2.0
"""Waits that reached their deadline are longer than it: never left out, and never taken for it."""

import pytest

from plugins.scale.waits import Waits, keep, waits
from tests.scale.fake_bench import fake_bench


def test_percentiles_of_waits_that_all_ended() -> None:
    found = waits([number / 100 for number in range(100)], 10.0)
    assert [found.percentile(part) for part in (0.5, 0.9, 0.99)] == [0.5, 0.9, 0.99]
    assert found.in_words(0.5) == "500 ms"


def test_what_never_came_counts_among_the_longest() -> None:
    """Five of a hundred left out would make p90 of 0.90 s one of 0.85 s."""
    found = waits([*(number / 100 for number in range(95)), *[None] * 5], 10.0)
    assert found.percentile(0.9) == 0.9
    assert found.percentile(0.99) is None
    assert found.in_words(0.99) == "> 10.0 s"
    assert found.known == {"p50": 0.5, "p90": 0.9}


def test_their_order_does_not_count() -> None:
    assert waits([None, 3.0, 1.0, None, 2.0], 9.0) == Waits((3.0, 1.0, 2.0), 2, 9.0)
    assert waits([None, 3.0, 1.0, None, 2.0], 9.0).percentile(0.5) == 3.0


def test_the_deadline_itself_is_no_percentile() -> None:
    assert waits([None] * 3, 2.0).percentile(0.0) is None
    assert waits([1.0, None], 2.0).percentile(0.5) is None


def test_of_nothing_there_are_no_percentiles() -> None:
    with pytest.raises(ValueError, match="nothing was waited for"):
        waits([], 1.0)


def test_cells_have_numbers_only_where_there_are_any() -> None:
    bench, kept = fake_bench()
    found = waits([*(1.0 + number / 100 for number in range(95)), *[None] * 5], 10.0)
    keep(bench, "programming", "endpoint added", found, waits([0.001] * 100, 10.0), "the write's own event")
    p50, p90, p99 = kept
    assert (p50.series, p50.values) == ("endpoint added, p50", (1.5,))
    assert p50.ratio == pytest.approx(1500)
    assert p50.percentiles == {"p50": 1.5, "p90": 1.9}
    assert p90.values == (1.9,)
    assert (p99.outcome, p99.values) == ("unfit", ())
    assert p99.reason == "p99 > 10.0 s: 5 of 100 waits reached their deadline"
    assert {cell.censored for cell in kept} == {5}
    assert {cell.note for cell in kept} == {"100 waits: p50 1.50 s, p90 1.90 s, p99 > 10.0 s"}


def test_a_limit_that_never_came_is_none() -> None:
    bench, kept = fake_bench()
    keep(bench, "programming", "x", waits([1.0], 10.0), waits([None], 10.0), "the write's own event")
    assert [(cell.limits, cell.limited_by) for cell in kept] == [((), "")] * 3
