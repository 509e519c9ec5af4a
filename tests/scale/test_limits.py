# SPDX-License-Identifier: Apache-2.0
"""A value counts only where its limit stood still, and a cell is given up rather than reported."""

from collections.abc import Callable, Iterable

import pytest

from plugins.scale.limits import ENOUGH, REPEATS, Best, Round, in_turns, stolen


def one_after_the_other(values: Iterable[float]) -> Callable[[], float]:
    left = iter(values)
    return lambda: next(left)


def steady() -> float:
    return 10.0


def test_a_round_has_the_mean_of_its_two_limits() -> None:
    rounds = in_turns(one_after_the_other([1, 2]), one_after_the_other([10.0, 10.2, 10.4]), repeats=2)
    assert rounds.steady == [Round(1, 10.0, 10.2), Round(2, 10.2, 10.4)]
    assert [one.limit for one in rounds.steady] == pytest.approx([10.1, 10.3])


def test_the_limit_is_measured_once_more_than_the_value() -> None:
    asked = []
    in_turns(steady, lambda: asked.append(0) or 10.0, repeats=5)  # type: ignore[func-returns-value]
    assert len(asked) == 6


def test_a_round_whose_limit_moved_is_measured_again() -> None:
    limits = [10.0, 12.0, *[12.0] * 10]
    rounds = in_turns(one_after_the_other(range(100)), one_after_the_other(limits))
    assert [one.value for one in rounds.steady] == [1, 2, 3, 4, 5]
    assert not rounds.why_unfit


def test_what_the_value_does_decides_nothing() -> None:
    rounds = in_turns(one_after_the_other([1, 100, 1, 100, 1]), steady)
    assert [one.value for one in rounds.steady] == [1, 100, 1, 100, 1]


def test_a_limit_that_never_stands_still_makes_it_unfit_after_a_second_attempt() -> None:
    count = 0

    def moving() -> float:
        nonlocal count
        count += 1
        return 10.0 if count % 2 else 13.0

    rounds = in_turns(steady, moving)
    assert rounds.steady == []
    assert count == 2 * (2 * REPEATS + 1)
    assert rounds.why_unfit == (
        "the limit itself moved by more than 5% in 10 of 10 rounds, by 30% at worst: the machine was not quiet"
    )


def test_a_second_attempt_may_do() -> None:
    limits = [value for _ in range(5) for value in (10.0, 13.0)] + [10.0] * 20
    rounds = in_turns(one_after_the_other(range(100)), one_after_the_other(limits))
    assert len(rounds.steady) == REPEATS
    assert not rounds.why_unfit


def test_some_steady_rounds_are_enough() -> None:
    # Of ten rounds every other one, and then three at most in a row.
    limits = [10.0, 10.0, 13.0, 13.0, 10.0, 10.0, 13.0, 16.0, 20.0, 25.0, 30.0]
    rounds = in_turns(one_after_the_other(range(100)), one_after_the_other(limits))
    assert len(rounds.steady) == ENOUGH
    assert not rounds.why_unfit


def test_rounds_at_full_speed_are_preferred() -> None:
    """The machine was slow in the first three rounds, and had been quicker before."""
    best = Best(more=False, value=10.0)
    limits = [13.0] * 4 + [10.0] * 20
    rounds = in_turns(one_after_the_other(range(100)), one_after_the_other(limits), best=best)
    assert [one.value for one in rounds.steady] == [4, 5, 6, 7, 8]
    assert best.value == 10.0


def test_a_machine_that_stays_slow_is_measured_as_it_is() -> None:
    best = Best(more=True, value=1_000.0)
    rounds = in_turns(one_after_the_other(range(100)), lambda: 800.0, best=best)
    assert len(rounds.steady) == 2 * REPEATS
    assert not rounds.why_unfit
    assert best.value == 1_000.0


@pytest.mark.parametrize(("more", "near", "far"), [(False, 10.9, 11.1), (True, 9.2, 9.0)])
def test_what_is_near_the_best(more: bool, near: float, far: float) -> None:
    best = Best(more)
    for limit in (10.0, near, far):
        assert best.notice(limit) == limit
    assert (best.value, best.is_near(near), best.is_near(far)) == (10.0, True, False)


def test_what_was_stolen_is_a_share() -> None:
    with stolen() as steal:
        sum(range(10**6))
    assert 0 <= steal.share <= 1
