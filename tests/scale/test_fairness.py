# SPDX-License-Identifier: Apache-2.0
"""Fair choosers pass, and those that favour an endpoint do not, by each scheduler's own null model."""

import random

import pytest

from plugins.scale.fairness import (
    ENDPOINTS,
    SPREAD,
    judge,
    largest_of_fair,
    scheduler_of,
    twice_the_first,
)
from plugins.world import UnfitError

PLACES = [f"10.128.0.{number}" for number in range(1, ENDPOINTS + 1)]


def picks(weights: list[float], seed: int = 0) -> list[str]:
    return random.Random(seed).choices(PLACES, weights, k=SPREAD.flows)


def test_a_fair_chooser_is_fair() -> None:
    assert all(judge("random", picks([1.0] * 10, seed), PLACES).is_fair for seed in range(50))


@pytest.mark.parametrize("weight", [0.5, 0.0, 2.0])
def test_one_that_favours_an_endpoint_is_not(weight: float) -> None:
    found = judge("random", picks([weight, *[1.0] * 9]), PLACES)
    assert not found.is_fair
    assert found.largest > 1


def test_turns_are_exact() -> None:
    in_turn = [PLACES[number % ENDPOINTS] for number in range(SPREAD.flows)]
    assert judge("rr", in_turn, PLACES).is_fair
    assert not judge("rr", [in_turn[0], *in_turn[:-1]], PLACES).is_fair
    assert not judge("rr", picks([1.0] * 10), PLACES).is_fair


def test_other_schedulers_promise_no_equal_shares() -> None:
    with pytest.raises(UnfitError, match="with scheduler sh"):
        judge("sh", picks([1.0] * 10), PLACES)


def test_which_scheduler_a_proxy_goes_by() -> None:
    assert scheduler_of("iptables", frozenset({"sctp", "scheduler-random"})) == "random"
    assert scheduler_of("ipvs", frozenset({"scheduler-rr"})) == "rr"
    assert scheduler_of("ebpf", frozenset({"scheduler-rr", "scheduler-lc", "scheduler-random"})) == "random"
    assert scheduler_of("ipvs", frozenset({"scheduler-rr", "scheduler-lc", "scheduler-sh"})) == "rr"
    with pytest.raises(UnfitError, match=r"it has none"):
        scheduler_of("command", frozenset())
    with pytest.raises(UnfitError, match="it has lc, sh"):
        scheduler_of("command", frozenset({"scheduler-lc", "scheduler-sh"}))


def test_the_largest_share_of_a_fair_chooser() -> None:
    fair = largest_of_fair("random", SPREAD.flows, ENDPOINTS, 0)
    assert 1.02 < fair < 1.3
    assert fair == largest_of_fair("random", SPREAD.flows, ENDPOINTS, 0)
    assert largest_of_fair("random", 100, ENDPOINTS, 0) > fair, "fewer connections spread more"
    assert largest_of_fair("rr", 1_000, ENDPOINTS, 0) == 1.0


def test_an_endpoint_with_two_addresses_shows() -> None:
    eleven = [*PLACES, "10.128.0.11"]
    endpoint_of = twice_the_first(eleven)
    assert len({endpoint_of(one) for one in eleven}) == ENDPOINTS
    answers = random.Random(3).choices(eleven, k=SPREAD.flows)
    assert not judge("random", [endpoint_of(one) for one in answers], PLACES[:1] + PLACES[2:] + eleven[-1:]).is_fair
