# SPDX-License-Identifier: Apache-2.0
"""Cells in words."""

from plugins.scale.cells import Cell
from plugins.scale.words import in_words


def test_a_cell_says_its_ratio_and_spread() -> None:
    cell = Cell(
        "first-packet", "last Service", 10_000, 2, "s", "less", (94e-6, 95e-6, 96e-6), (14e-6,) * 3, "direct veth"
    )
    assert (
        in_words(cell) == "first-packet, last Service, 10,000 Services: 95.0 µs, 6.79 × direct veth, spread 2% of 3"
    )


def test_failures_and_what_never_came_are_said() -> None:
    cell = Cell("programming", "", 1, 2, "s", "less", (0.1,), failures=3, censored=1)
    assert in_words(cell) == "programming, 1 Service: 100 ms, 3 failed, 1 never came"


def test_what_was_not_measured_says_why() -> None:
    cell = Cell("rate", "", 1_000, 2, "1/s", "more", outcome="unfit", reason="the limit moved")
    assert in_words(cell) == "rate, 1,000 Services: unfit: the limit moved"
