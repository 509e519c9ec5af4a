# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' tables judge by medians and ratios, and the page keeps the sections that were not measured anew."""

from pathlib import Path

from benchmarks import page
from benchmarks.rows import Beside


def test_a_goal_is_for_the_median_of_the_ratios() -> None:
    row = Beside("x", "µs", [12, 30, 11], [10, 10, 10], "cable", goal=1.2)
    assert row.met
    assert "| 1.20 (1.10 to 3.00, 3 runs) | ≤ 1.2 | yes |" in row.as_markdown()
    assert not Beside("x", "/s", [80], [100], "cable", goal=0.9, better="more").met


def test_a_goal_can_be_for_what_was_measured() -> None:
    row = Beside("x", "s", [2.0], [0.1], "updates alone", goal=3.0, goal_is_for="measured")
    assert row.met
    assert "| ≤ 3 s | yes |" in row.as_markdown()


def test_a_row_without_a_goal_is_not_judged() -> None:
    assert Beside("x", "s", [2.0], [0.1], "updates alone").met is None


def test_a_section_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    kept = tmp_path / "benchmarks.md"
    for title, line in (("One", "old"), ("Two", "stays"), ("One", "new")):
        page.write(title, "make bench", "a machine", [line], kept)
    text = kept.read_text()
    assert text.startswith(page.HEAD)
    assert text.index("## One") < text.index("new") < text.index("## Two") < text.index("stays")
    assert "\nold\n" not in text
