# SPDX-License-Identifier: Apache-2.0
"""Statistical checks: fair samples pass at the stated rate, unfair ones fail with the stated power."""

import random
from collections.abc import Sequence

import pytest

from plugins.statistics import (
    ALPHA,
    POWER,
    Effect,
    Following,
    Repeats,
    Rule,
    Spread,
    chance_of_at_least,
    chance_of_counts,
    fewest,
    locality,
    locality_replicated,
    overflow,
    same_endpoint,
    shared_by_weight,
)
from tests.plugin.runs import ROOT

PLANS: list[tuple[int, Effect]] = [(2, "half"), (3, "half"), (4, "half"), (9, "double")]
WORDS = {2: "what the other gets"}
EACH = pytest.mark.parametrize(("endpoints", "effect"), PLANS)


def sample(chance: random.Random, shares: Sequence[float], flows: int) -> list[int]:
    drawn = chance.choices(range(len(shares)), shares, k=flows)
    return [drawn.count(place) for place in range(len(shares))]


@EACH
def test_fair_samples_fail_as_often_as_stated(endpoints: int, effect: Effect) -> None:
    """The chance is a chance: one in ten samples has less than a tenth, one in a hundred less than a hundredth."""
    spread, chance = Spread.even(endpoints, effect), random.Random(endpoints)
    found = [spread.chance(sample(chance, spread.fair, spread.flows)) for _ in range(1000)]
    assert 70 <= sum(one < 0.1 for one in found) <= 130
    assert sum(one < 0.01 for one in found) <= 25
    assert min(found) >= ALPHA


@EACH
def test_unfair_samples_are_noticed(endpoints: int, effect: Effect) -> None:
    spread, chance = Spread.even(endpoints, effect), random.Random(endpoints)
    found = [spread.chance(sample(chance, spread.unfair, spread.flows)) for _ in range(500)]
    assert all(one < ALPHA for one in found)


@EACH
def test_the_sample_is_no_larger_than_it_must_be(endpoints: int, effect: Effect) -> None:
    spread = Spread.even(endpoints, effect)
    assert POWER <= spread.power < POWER + 1e-5
    assert spread.flows * min(spread.fair) >= 12


def test_a_stronger_effect_is_noticed_too() -> None:
    spread = Spread.even(9, "double")
    assert spread.chance([0, *[spread.flows // 8] * 8]) < ALPHA
    assert spread.chance([spread.flows, *[0] * 8]) < ALPHA


def test_many_endpoints_by_few_bits() -> None:
    spread, chance = Spread.coarse(300), random.Random(7)
    assert spread.power >= POWER
    assert spread.chance(sample(chance, spread.fair, spread.flows)) >= ALPHA
    assert spread.chance(sample(chance, spread.unfair, spread.flows)) < ALPHA


def test_each_endpoint_has_a_count() -> None:
    with pytest.raises(ValueError, match="2 counts for 3 endpoints"):
        Spread.even(3, "half").chance([1, 2])


@pytest.mark.parametrize("endpoints", [2, 3, 4])
def test_independent_choices_repeat_by_chance(endpoints: int) -> None:
    repeats, chance = Repeats(endpoints), random.Random(endpoints)
    found = [repeats.chance(chance.choices(range(endpoints), k=repeats.flows)) for _ in range(1000)]
    assert sum(one < 0.1 for one in found) <= 130
    assert min(found) >= ALPHA


@pytest.mark.parametrize("endpoints", [2, 3, 4])
def test_turns_and_runs_are_noticed(endpoints: int) -> None:
    repeats = Repeats(endpoints)
    assert repeats.power >= POWER
    assert repeats.chance([turn % endpoints for turn in range(repeats.flows)]) < ALPHA
    assert repeats.chance([turn // 2 % endpoints for turn in range(repeats.flows)]) < ALPHA or endpoints == 2
    assert repeats.chance([0] * repeats.flows) < ALPHA


@pytest.mark.parametrize("endpoints", [2, 3])
def test_half_as_many_repeats_are_noticed(endpoints: int) -> None:
    repeats, chance = Repeats(endpoints), random.Random(endpoints)
    for wanted in repeats.unfair:
        for _ in range(200):
            row = [0]
            while len(row) < repeats.flows:
                row.append(row[-1] if chance.random() < wanted else (row[-1] + 1) % endpoints)
            assert repeats.chance(row) < ALPHA


def test_a_simulation_of_what_compares() -> None:
    assert shared_by_weight([1, 1, 1], 7, ahead=0) == [3, 2, 2]
    assert shared_by_weight([3, 1, 1], 50, ahead=0) == [30, 10, 10]
    assert shared_by_weight([9, 1, 1], 8, ahead=1) == [8, 0, 0]
    assert sum(shared_by_weight([9, 1, 1], 8, ahead=0)[1:]) == 2, "what counts nothing ahead asks the idle first"


FOLLOWED = [
    (fewest, [0, 1, 2, 2, 0, 1], None),
    (fewest, [0, 1, 0], 3),
    (same_endpoint, [2, 2, 2], None),
    (same_endpoint, [2, 2, 1], 3),
    # Two, which is more than its weight, and another is idle; no other is, and it keeps them.
    (locality, [0, 0, 1, 1, 2, 2, 2, 2], None),
    (locality, [0, 0, 0], 3),
    (locality, [0, 1], 2),
    (locality, [0, 0, 1, 0], 4),
    (locality, [0, 0, 1, 1, 2, 2, 0], 7),
    (locality_replicated, [0, 0, 1, 1, 2, 2, 0, 1, 2], None),
    (locality_replicated, [0, 0, 1, 0], 4),
    (locality_replicated, [0, 1], 2),
    (overflow, [1, 1, 0, 0, 2, 2], None),
    (overflow, [1, 0], 2),
    (overflow, [1, 1, 1], 3),
]


@pytest.mark.parametrize(("rule", "choices", "broken"), FOLLOWED)
def test_who_may_be_next(rule: Rule, choices: list[int], broken: int | None) -> None:
    assert Following.of(rule, 3, choices).broken_at == broken


@pytest.mark.parametrize("rule", [fewest, same_endpoint, locality, locality_replicated, overflow])
def test_a_random_choice_follows_as_seldom_as_stated(rule: Rule) -> None:
    chance, followed, stated = random.Random(3), 0, 0.0
    for _ in range(20_000):
        choices: list[int] = []
        found = Following.of(rule, 3, choices)
        while len(choices) < 4 and found.broken_at is None:
            choices.append(chance.randrange(3))
            found = Following.of(rule, 3, choices)
        if found.broken_at is None:
            followed, stated = followed + 1, found.blind
    assert followed / 20_000 == pytest.approx(stated, rel=0.2)


def test_the_chance_of_many() -> None:
    assert chance_of_at_least(0, 5, 0.5) == 1
    assert chance_of_at_least(5, 5, 0.5) == pytest.approx(1 / 32)
    assert chance_of_at_least(4, 5, 0.5) == pytest.approx(6 / 32)


def test_the_chance_of_counts() -> None:
    assert chance_of_counts([2, 0]) == pytest.approx(1 / 2)
    assert chance_of_counts([1, 1]) == pytest.approx(1 / 2)
    assert chance_of_counts([1, 1, 1]) == pytest.approx(6 / 27)
    assert sum(chance_of_counts(one) for one in ([3, 0, 0], [2, 1, 0], [1, 1, 1])) == pytest.approx(1)


def test_the_page_has_these_numbers() -> None:
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8").splitlines()
    rows = [
        f"| shares | {endpoints} | one gets {effect} of {WORDS.get(endpoints, 'what each other gets')} "
        f"| {Spread.even(endpoints, effect).flows} | {Spread.even(endpoints, effect).power:.4f} |"
        for endpoints, effect in PLANS
    ]
    many, repeats = Spread.coarse(300), Repeats(2)
    quarter = "a quarter of them gets half of what each other gets"
    rows.append(f"| shares | 300 | {quarter} | {many.flows} | {many.power:.4f} |")
    rows.append(f"| repeats | 2 | half as many, or half as many again | {repeats.flows} | {repeats.power:.4f} |")
    assert [line for line in page if line.startswith(("| shares ", "| repeats "))] == rows
