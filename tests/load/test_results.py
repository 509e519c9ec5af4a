# SPDX-License-Identifier: Apache-2.0
"""locust's JSON in SI units, failures by name, and nothing averaged away."""

import json
from typing import Any

import pytest

from clusters.errors import PlumblineError
from plugins.load.results import (
    Failure,
    Load,
    entry_in_words,
    in_words,
    load_cells,
    must_have_answered,
    percentile,
    read,
)
from plugins.world import UnfitError

ENTRY: dict[str, Any] = {
    "name": "HTTP keepalive",
    "method": "HTTP",
    "last_request_timestamp": 1012.0,
    "start_time": 1002.0,
    "num_requests": 1000,
    "num_none_requests": 0,
    "num_failures": 10,
    "total_response_time": 2000.0,
    "max_response_time": 123.4,
    "min_response_time": 0.5,
    "total_content_length": 0,
    "response_times": {"1": 600, "2": 350, "120": 50},
    "num_reqs_per_sec": {},
    "num_fail_per_sec": {},
}
ERRORS = [
    {"name": "HTTP keepalive", "error": "connection refused", "count": 7},
    {"name": "HTTP keepalive", "error": "no answer in time", "count": 3},
    {"name": "TCP line", "error": "connection refused", "count": 1},
]


def loaded(**changes: Any) -> Load:
    return Load(read(json.dumps([{**ENTRY, **changes}]), ERRORS))


def test_figures_are_in_seconds_and_per_second() -> None:
    (found,) = loaded().kinds
    assert (found.requests, found.failed, found.seconds) == (1000, 10, 10.0)
    assert found.rate == pytest.approx(99.0)
    assert (found.p50, found.p90, found.p99, found.worst) == pytest.approx((0.001, 0.002, 0.12, 0.1234))
    assert found.failures == (Failure("connection refused", 7), Failure("no answer in time", 3))


def test_what_failed_is_counted_and_named() -> None:
    with pytest.raises(AssertionError) as caught:
        must_have_answered(loaded(), "while it rained")
    assert str(caught.value).startswith(
        "10 of 1000 requests failed while it rained "
        "[7 × HTTP keepalive: connection refused; 3 × HTTP keepalive: no answer in time]"
    )


def test_failures_beyond_the_first_three_are_counted() -> None:
    errors = [{"name": ENTRY["name"], "error": str(number), "count": 5 - number} for number in range(5)]
    text = in_words(Load(read(json.dumps([ENTRY]), errors)))
    assert "[5 × HTTP keepalive: 0; 4 × HTTP keepalive: 1; 3 × HTTP keepalive: 2; 3 others]" in text


def test_no_failure_is_no_failure() -> None:
    must_have_answered(loaded(num_failures=0), "at all")


@pytest.mark.parametrize("kinds", [("TCP line",), ("HTTP keepalive", "TCP line")])
def test_a_kind_without_requests_proves_nothing(kinds: tuple[str, ...]) -> None:
    with pytest.raises(UnfitError, match="no request of the kind 'TCP line'"):
        loaded().only(kinds)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"name": "x"}]', "[", "null"])
def test_what_is_no_json_of_locusts_is_one_sentence(text: str) -> None:
    with pytest.raises(PlumblineError, match=r"^locust has written no JSON that can be understood"):
        read(text, [])


def test_percentiles_are_by_rank() -> None:
    times = {1.0: 50, 2.0: 49, 1000.0: 1}
    assert [percentile(times, share) for share in (0.5, 0.51, 0.99, 1.0)] == [1.0, 2.0, 2.0, 1000.0]
    assert percentile({}, 0.5) == 0.0


def entry(**more: Any) -> dict[str, Any]:
    named = {"scenario": "load.steady.rate-x", "requirement": "load.steady.rate", "endpoints": 1, "pace": 0.0}
    return {**named, **loaded().as_dict(), **more}


def test_a_scenario_is_a_cell_for_its_rate_and_one_for_its_time() -> None:
    rate, time = load_cells([entry(limit={"rate": 198.0, "p50": 0.0005, "moved": 0.02})])
    assert (rate.chart, rate.series, rate.ratio) == ("load", "steady.rate: HTTP keepalive", 0.5)
    assert (time.chart, time.unit, time.ratio) == ("load-latency", "s", 2.0)
    assert rate.failures == 10
    assert time.percentiles["p99"] == pytest.approx(0.12)


def test_a_limit_that_moved_makes_a_cell_unfit() -> None:
    cells = load_cells([entry(limit={"rate": 198.0, "p50": 0.0005, "moved": 0.25})])
    assert {cell.outcome for cell in cells} == {"unfit"}
    assert "moved by 25%" in cells[0].reason


def test_a_scenario_without_a_limit_has_none() -> None:
    assert all(cell.limit is None and cell.is_measured for cell in load_cells([entry()]))


def test_one_look_is_shown_and_not_compared() -> None:
    assert {cell.better for pace in (0.0, 25.0) for cell in load_cells([entry(pace=pace)])} == {"none"}


def test_a_line_for_people() -> None:
    assert entry_in_words(entry()) == (
        "load.steady.rate-x: 10 of 1000 requests failed: HTTP keepalive 99/s (p50 1 ms)"
    )
    assert entry_in_words(entry(limit={"rate": 198.0})).endswith("; without the Service 198/s")
