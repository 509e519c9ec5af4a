# SPDX-License-Identifier: Apache-2.0
"""Cells as the bench makes them: from repeats and their limits, or the reason why there is nothing to report."""

from types import SimpleNamespace
from typing import Any

import pytest

from clusters.measure.services import Shape
from clusters.measure.traffic import Sample, TrafficError
from clusters.proxies.configuration import DEFAULT
from plugins.options import Settings
from plugins.scale.bench import DIRECT_VETH, Bench
from plugins.scale.cells import Cell
from plugins.scale.limits import REPEATS
from plugins.world import UnfitError

NOTHING: Any = None
UNCONFIGURED: Any = SimpleNamespace(asked=DEFAULT)


def sample(p50: float, count: int = 1_000, failures: int = 0) -> Sample:
    return Sample(count, failures, 0.5, p50 / 2, p50, p50 * 2, p50 * 3, p50 * 9)


@pytest.fixture
def kept() -> list[Cell]:
    return []


@pytest.fixture
def bench(kept: list[Cell]) -> Bench:
    """Without a lab: what measures is given."""
    return Bench(
        settings=Settings("kube-proxy", "iptables"),
        run=UNCONFIGURED,
        stage=NOTHING,
        api=NOTHING,
        shape=Shape(["10.128.0.1"], 1),
        duration=1.0,
        keep=kept.append,
        grow=NOTHING,
        configure=NOTHING,
        services=10,
    )


def test_a_cell_has_a_value_and_a_limit_for_each_repeat(bench: Bench, kept: list[Cell]) -> None:
    cell = bench.cell(
        "first-packet",
        series="last Service",
        unit="s",
        better="less",
        measured=lambda: sample(20e-6, failures=1),
        limit=lambda: sample(10e-6),
        limited_by=DIRECT_VETH,
    )
    assert kept == [cell]
    assert (cell.services, cell.endpoints, cell.outcome) == (10, 1, "measured")
    assert cell.values == (20e-6,) * REPEATS
    assert cell.limits == pytest.approx((10e-6,) * REPEATS)
    assert cell.ratio == pytest.approx(2.0)
    assert cell.percentiles == pytest.approx(
        {"p01": 10e-6, "p50": 20e-6, "p90": 40e-6, "p99": 60e-6, "worst": 180e-6}
    )
    assert cell.failures == REPEATS
    assert bench.record.observed == (
        "first-packet, last Service, 10 Services: 20.0 µs, 2.00 × direct veth, "
        f"spread 0% of {REPEATS}, {REPEATS} failed"
    )


def test_what_counts_depends_on_the_unit(bench: Bench) -> None:
    rate = bench.cell("rate", unit="1/s", better="more", measured=lambda: sample(1e-5), repeats=2)
    assert rate.values == (2_000.0, 2_000.0)
    own = bench.cell("rate", unit="s", better="less", measured=lambda: sample(1e-5), value=lambda one: one.worst)
    assert own.median == pytest.approx(9e-5)
    number = bench.cell("cpu", unit="cores", better="less", measured=lambda: 0.25, limit=lambda: 0.2)
    assert number.ratio == pytest.approx(1.25)
    assert not number.percentiles


def test_a_limit_that_moves_is_not_reported(bench: Bench) -> None:
    limits = iter(range(1, 100))
    cell = bench.cell(
        "rate", unit="1/s", better="more", measured=lambda: 5.0, limit=lambda: float(next(limits) % 2 + 1)
    )
    assert (cell.outcome, cell.values, cell.limits) == ("unfit", (), ())
    assert "the limit itself moved by more than 5%" in cell.reason


def test_connections_that_fail_make_it_unfit_and_not_a_crash(bench: Bench) -> None:
    def failing() -> Sample:
        raise TrafficError("connect from a to b: too many connections failed, the last one: Connection refused")

    cell = bench.cell("rate", unit="1/s", better="more", measured=failing)
    assert cell.outcome == "unfit"
    assert "Connection refused" in cell.reason


def test_a_tool_that_is_missing_is_said_in_the_cell(bench: Bench) -> None:
    def missing() -> float:
        raise UnfitError("iperf3 is not installed here: sudo apt-get install iperf3")

    cell = bench.cell("throughput", unit="bit/s", better="more", measured=lambda: 1.0, limit=missing)
    assert (cell.outcome, cell.reason) == ("unfit", "iperf3 is not installed here: sudo apt-get install iperf3")


def test_values_of_one_s_own_are_a_cell_too(bench: Bench) -> None:
    cell = bench.cell_of("update", series="added", unit="s", better="less", values=[0.1, 0.2], limits=[0.05, 0.1])
    assert cell.ratios == (2.0, 2.0)
    left_out = bench.leave_out("cold", series="from nothing", unit="s", reason="it would take minutes")
    assert (left_out.outcome, left_out.reason) == ("left out", "it would take minutes")


def test_services_are_only_added(bench: Bench) -> None:
    with pytest.raises(UnfitError, match="Services are only added, and there are 10 already"):
        bench.at(5)
    bench.at(10)


def test_of_many_services_some_are_dialled_and_they_are_spread(bench: Bench) -> None:
    assert len(bench.every_service()) == 10
    bench.services = 50_000
    dialled = bench.every_service()
    assert len(dialled) == 1_000
    assert dialled[0] == bench.service(0)
    assert dialled[-1] == bench.service(49_950)
