# SPDX-License-Identifier: Apache-2.0
"""Cells say what they are, and a file of them is read strictly or not at all."""

import csv as tables
import io
import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from clusters.errors import PlumblineError
from plugins.scale.cells import Cell, csv, dump, load
from tests.scale import made

CELL = Cell("rate", "last Service", 10, 2, "1/s", "more", (90.0, 100.0, 80.0), (100.0, 100.0, 100.0), "direct veth")


def test_a_cell_is_told_by_its_median_its_spread_and_its_ratio() -> None:
    assert CELL.median == 90.0
    assert CELL.spread == pytest.approx(20 / 90)
    assert CELL.ratios == (0.9, 1.0, 0.8)
    assert CELL.ratio == 0.9
    assert CELL.limit == 100.0


def test_what_was_not_measured_has_no_number() -> None:
    cell = replace(CELL, values=(), limits=(), outcome="unfit", reason="the machine was not quiet")
    assert math.isnan(cell.median)
    assert cell.ratio is None
    assert cell.spread == 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"values": ()}, "one limit for each value"),
        ({"values": (), "limits": ()}, "measured and has no value"),
        ({"values": (math.nan, 1.0, 1.0)}, "not finite"),
        ({"limits": (1.0,)}, "one limit for each value"),
        ({"limits": (0.0, 1.0, 1.0)}, "not positive"),
        ({"percentiles": {"p95": 1.0}}, "percentiles are"),
        ({"failures": -1}, "negative"),
        ({"outcome": "unfit"}, "without a reason"),
        ({"services": -1}, "fewer than none"),
        ({"chart": ""}, "names no chart"),
    ],
)
def test_what_cannot_be_a_cell_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        replace(CELL, **changes)


def test_a_file_is_read_as_it_was_written() -> None:
    run = made.without(made.scale(), "rate", 5_000)
    assert load(dump(run)) == run


def _with(**changes: object) -> bytes:
    whole = msgspec.json.decode(dump(made.scale()))
    return msgspec.json.encode({**whole, **changes})


def _with_cell(**changes: object) -> bytes:
    whole = msgspec.json.decode(dump(made.scale()))
    whole["cells"][3].update(changes)
    return msgspec.json.encode(whole)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it is not JSON"),
        (b"\xff", "it is not JSON"),
        (b'{"id": "clusterip"}', "it is no scale.json"),
        (b"[]", "it is no scale.json"),
        (_with(format="plumbline scale 99"), "it is no scale.json of this version"),
        (_with(cpus="two"), r"Expected `int`, got `str` - at `\$.cpus`"),
        (_with(cells={}), "Expected `array`"),
        (_with_cell(unit="furlong"), "furlong"),
        (_with_cell(outcome="great"), "great"),
        (_with_cell(values=[]), "one limit for each value"),
        (_with_cell(values=["1"]), "Expected `float`"),
        (_with_cell(limits=[0, 0, 0, 0, 0]), "not positive"),
    ],
)
def test_what_is_no_such_file_is_one_sentence(data: bytes, problem: str) -> None:
    with pytest.raises(PlumblineError, match=problem) as raised:
        load(data)
    assert "\n" not in str(raised.value)


def test_what_is_not_finite_cannot_come_in_by_a_file() -> None:
    with pytest.raises(PlumblineError):
        load(dump(made.scale()).replace(b'"duration": 1.0', b'"duration": 1e999'))


def test_csv_has_a_line_for_each_cell() -> None:
    run = made.without(made.scale(), "rate", 5_000)
    rows = list(tables.DictReader(io.StringIO(csv(run))))
    assert len(rows) == len(run.cells)
    first = next(row for row in rows if row["chart"] == "first-packet")
    assert float(first["median"]) == run.cells[0].median
    assert float(first["ratio"]) == run.cells[0].ratio
    assert first["p99"]
    unfit = next(row for row in rows if row["outcome"] == "unfit")
    assert unfit["median"] == unfit["limit"] == unfit["ratio"] == ""
    assert unfit["reason"].startswith("the limit itself moved")
