# SPDX-License-Identifier: Apache-2.0
"""Cells in words."""

import pytest

from plugins.scale.cells import Cell, Unit
from plugins.scale.words import in_words, value_in_words


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.0000941, "s", "94.1 µs"),
        (1.97, "s", "1.97 s"),
        (0.119, "s", "119 ms"),
        (2e-8, "s", "20 ns"),
        (0.0, "s", "0 ns"),
        (10368.2, "1/s", "10,368 /s"),
        (13.4e9, "bit/s", "13.4 Gbit/s"),
        (172_000_000, "B", "172 MB"),
        (0.35, "cores", "0.35 cores"),
        (7.7, "ratio", "7.7"),
    ],
)
def test_values_have_three_digits_and_a_unit(value: float, unit: Unit, said: str) -> None:
    assert value_in_words(value, unit) == said


def test_a_cell_says_its_ratio_and_spread() -> None:
    cell = Cell(
        "first-packet", "last Service", 10_000, 2, "s", "less", (94e-6, 95e-6, 96e-6), (14e-6,) * 3, "direct veth"
    )
    assert in_words(cell) == "first-packet, last Service, 10,000 Services: 95 µs, 6.79 × direct veth, spread 2% of 3"


def test_failures_and_what_never_came_are_said() -> None:
    cell = Cell("programming", "", 1, 2, "s", "less", (0.1,), failures=3, censored=1)
    assert in_words(cell) == "programming, 1 Service: 100 ms, 3 failed, 1 never came"


def test_what_was_not_measured_says_why() -> None:
    cell = Cell("rate", "", 1_000, 2, "1/s", "more", outcome="unfit", reason="the limit moved")
    assert in_words(cell) == "rate, 1,000 Services: unfit: the limit moved"
