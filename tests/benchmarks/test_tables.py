# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' tables judge by medians and ratios, and the page keeps the sections that were not measured anew."""

from pathlib import Path

from benchmarks import page
from benchmarks.reference.compare import MEASURES, Cell, Mode, Number, as_markdown, bends, is_ahead
from benchmarks.rows import Beside


def cell(mode: Mode, services: int, value: float, ratio: float | None = None) -> Cell:
    return Cell(mode, services, dict.fromkeys(MEASURES, Number(value, ratio)))


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


def test_modes_are_compared_by_their_ratio_to_the_limit() -> None:
    reference, other = cell("reference", 1, 30.0, 1.2), cell("iptables", 1, 20.0, 1.3)
    assert is_ahead("connect", reference, [other])
    assert not is_ahead("rate", reference, [other])  # where more is better


def test_who_is_not_ahead_is_told_so() -> None:
    cells = [cell("reference", 1, 3.0), cell("iptables", 1, 2.0), cell("nftables", 1, 4.0)]
    lines = as_markdown(cells)
    assert "| from the proxy's start to the first reply | 1 | 3 s | 2 s | 4 s | **no** |" in lines


def test_iptables_must_bend() -> None:
    few = cell("iptables", 1, 20.0, 1.2)
    assert bends([few]) is None
    assert bends([few, cell("iptables", 10_000, 40.0, 2.4)]) == (2.0, True)
    straight = [few, cell("iptables", 10_000, 21.0, 1.2)]
    assert bends(straight) == (1.0, False)
    assert "**does not hold**" in as_markdown(straight)[-1]


def test_a_section_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    kept = tmp_path / "benchmarks.md"
    for title, line in (("One", "old"), ("Two", "stays"), ("One", "new")):
        page.write(title, "make bench", "a machine", [line], kept)
    text = kept.read_text()
    assert text.startswith(page.HEAD)
    assert text.index("## One") < text.index("new") < text.index("## Two") < text.index("stays")
    assert "\nold\n" not in text
