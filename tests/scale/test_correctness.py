# SPDX-License-Identifier: Apache-2.0
"""How many Services must be asked, and which answers are wrong."""

import random

import pytest

from plugins.scale.correctness import Checked, chosen, enough, judged


def test_so_many_are_asked_that_a_hundredth_wrong_would_show() -> None:
    assert enough() == 459
    assert (1 - 0.01) ** 459 < 0.01 < (1 - 0.01) ** 458
    assert enough(0.5, 0.5) == 1
    assert enough(0.001, 0.999) == 6905


def test_the_bound_holds_in_a_simulation() -> None:
    """Of a thousand samples of a dataplane of which a hundredth is wrong about ten see nothing, and half as many more
    than of one of which half as much is."""
    chooser, services = random.Random(1), 10_000
    wrong = set(chooser.sample(range(services), services // 100))
    blind = sum(wrong.isdisjoint(chosen(services, seed)) for seed in range(1_000))
    assert blind < 25
    fewer = set(list(wrong)[: len(wrong) // 4])
    assert sum(fewer.isdisjoint(chosen(services, seed)) for seed in range(1_000)) > 200, "a quarter is often missed"


@pytest.mark.parametrize(("part", "confidence"), [(0, 0.99), (1, 0.99), (0.01, 0), (0.01, 1), (-1, 0.5)])
def test_certainty_cannot_be_had(part: float, confidence: float) -> None:
    with pytest.raises(ValueError, match="may be 0, 1 or beyond"):
        enough(part, confidence)


def test_few_services_are_all_asked() -> None:
    assert chosen(100, 0) == list(range(100))
    assert len(chosen(10_000, 0)) == len(set(chosen(10_000, 0))) == 459
    assert chosen(10_000, 0) == chosen(10_000, 0) != chosen(10_000, 1)
    assert "all of them" in Checked(100, 100, {}).bound
    assert Checked(459, 10_000, {}).bound == (
        "459 of 10,000 at random: none wrong means fewer than 1% of all, 99% sure"
    )


EXPECTED = {0: ["10.128.0.1", "10.128.0.2"], 1: ["10.128.0.3"], 2: ["10.128.0.4"]}


def test_own_endpoints_are_right() -> None:
    assert judged({0: ["10.128.0.1", "10.128.0.2"], 1: ["10.128.0.3"] * 3, 2: []}, EXPECTED) == {}


def test_an_endpoint_of_another_service_is_wrong() -> None:
    wrong = judged({0: ["10.128.0.1", "10.128.0.3"], 1: ["10.128.0.3"], 2: ["10.128.0.3", None]}, EXPECTED)
    assert wrong == {
        0: "answered from 10.128.0.3, not from 10.128.0.1, 10.128.0.2",
        2: "answered from 10.128.0.3, not from 10.128.0.4",
    }


def test_no_answer_is_wrong() -> None:
    wrong = judged({1: ["10.128.0.3", None, None]}, EXPECTED)
    assert wrong == {1: "did not answer 2 of 3 connections"}
    many = Checked(459, 10_000, dict.fromkeys(range(5), "did not answer"))
    assert many.in_words == "s-0 did not answer; s-1 did not answer; s-2 did not answer; and 2 more"
