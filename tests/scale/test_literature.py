# SPDX-License-Identifier: Apache-2.0
"""What others have published is drawn at our height, in its own shape, and only where it can be."""

from pathlib import Path

import pytest

from clusters.errors import PlumblineError
from plugins.scale import literature
from plugins.scale.catalogue import CHARTS
from plugins.scale.cells import Cell, Unit
from plugins.scale.literature import Published

BLOG = Published(
    "x", "iptables", "blog", "a blog", "https://example.invalid/", 2025, "last", "s", {1: 1.0, 10: 3.0, 99: 9.0}
)


def cells(*values: tuple[int, float], unit: Unit = "s") -> list[Cell]:
    return [Cell("x", "last Service", services, 2, unit, "less", (value,)) for services, value in values]


def test_every_entry_is_about_a_chart_that_there_is() -> None:
    found = literature.load()
    assert {one.chart for one in found} <= {chart.id for chart in CHARTS}
    assert len({(one.chart, one.label, one.says) for one in found}) == len(found)


def test_it_meets_ours_at_the_fewest_services_that_both_have() -> None:
    assert BLOG.scaled(cells((1, 0.5), (10, 0.6), (99, 0.7))) == {1: 0.5, 10: 1.5, 99: 4.5}
    assert BLOG.scaled(cells((5, 0.5), (10, 0.6), (99, 0.7))) == pytest.approx({10: 0.6, 99: 1.8})


def test_it_is_not_drawn_beyond_ours() -> None:
    assert BLOG.scaled(cells((1, 0.5), (50, 0.7))) == {1: 0.5, 10: 1.5}


def test_of_a_client_that_does_one_thing_after_the_other_a_time_is_a_rate() -> None:
    ours = cells((1, 100.0), (10, 90.0), unit="1/s")
    assert BLOG.is_about(ours[0], "iptables")
    assert BLOG.scaled(ours) == pytest.approx({1: 100.0, 10: 100 / 3})


def test_nothing_is_drawn_without_two_points_or_a_point_in_common() -> None:
    assert BLOG.scaled(cells((2, 0.5), (50, 0.6))) == {}
    assert BLOG.scaled(cells((1, 0.5))) == {}
    assert BLOG.scaled(cells((1, 0.5), (2, 0.5))) == {}


def test_it_is_held_against_its_own_mode_and_series_alone() -> None:
    (cell,) = cells((1, 0.5))
    assert BLOG.is_about(cell, "iptables")
    assert not BLOG.is_about(cell, "nftables")
    assert not BLOG.is_about(Cell("x", "first Service", 1, 2, "s", "less", (1.0,)), "iptables")
    assert not BLOG.is_about(Cell("x", "last Service", 1, 2, "B", "less", (1.0,)), "iptables")


@pytest.mark.parametrize(
    "text",
    [
        "- chart: update\n",
        "- {chart: a, mode: b, label: c, source: d, url: 'ftp://x', year: 2000, says: e}\n",
        "- {chart: a, mode: b, label: c, source: d, url: 'https://x', year: 2000}\n",
        "- {chart: a, mode: b, label: c, source: d, url: 'https://x', year: 2000, points: {1: 2}}\n",
        ": :",
    ],
)
def test_a_file_that_is_wrong_is_one_sentence(text: str, tmp_path: Path) -> None:
    file = tmp_path / "literature.yaml"
    file.write_text(text)
    with pytest.raises(PlumblineError, match=r"literature\.yaml is wrong"):
        literature.load(file)
