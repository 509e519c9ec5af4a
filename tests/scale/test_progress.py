# SPDX-License-Identifier: Apache-2.0
"""Time that is left: as planned at first, then by the pace so far."""

import io

import pytest

from plugins.scale.cells import Cell
from plugins.scale.progress import Bar, Estimate, Lines, minutes

CELL = Cell("rate", "uniform", 10, 2, "1/s", "more", (10_000.0,), (13_000.0,), "direct veth")


def test_time_left_follows_the_pace() -> None:
    now = 0.0
    estimate = Estimate({"a": 10.0, "b": 10.0, "c": 20.0}, clock=lambda: now)
    estimate.begin()
    assert estimate.left == 40.0
    now = 20.0
    estimate.end("a")
    estimate.end("a")
    assert estimate.fraction == 0.25
    assert estimate.left == pytest.approx(60.0)
    estimate.end("b")
    estimate.end("c")
    assert (estimate.fraction, estimate.left) == (1.0, 0.0)


def test_nothing_planned_is_all_over() -> None:
    estimate = Estimate({})
    estimate.end("what nobody knew of")
    assert (estimate.fraction, estimate.left) == (1.0, 0.0)


def test_minutes() -> None:
    assert [minutes(seconds) for seconds in (0, 59.6, 245, -3)] == ["0:00", "1:00", "4:05", "0:00"]


def test_lines_tell_each_cell_and_what_is_left() -> None:
    said: list[str] = []
    lines = Lines(said.append)
    lines.begin("test_rate[10]")
    lines.cell(CELL)
    lines.end(0.25, 60.0)
    lines.cell(CELL)
    lines.close()
    told = "rate, uniform, 10 Services: 10.0 k/s, 0.77 × direct veth"
    assert said == [told, f"[ 25%, 1:00 left] {told}"]


def test_a_bar_leaves_only_the_cells_behind() -> None:
    file = io.StringIO()
    bar = Bar(file)
    bar.begin("test_rate[10]")
    bar.cell(CELL)
    bar.end(0.5, 30.0)
    bar.close()
    assert "rate, uniform, 10 Services: 10.0 k/s" in file.getvalue()
