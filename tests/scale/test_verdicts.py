# SPDX-License-Identifier: Apache-2.0
"""The controls go red: when iptables does not bend, and when the direct path does."""

import pytest

from plugins.scale.cells import Cell
from plugins.scale.store import Store
from plugins.scale.verdicts import (
    must_be_near_the_limit,
    must_bend,
    must_cost_little,
    must_not_grow,
    must_stay_flat,
)
from plugins.world import UnfitError


def measured(*points: tuple[int, float, float], chart: str = "first-packet", series: str = "last Service") -> Store:
    """Cells of (Services, value, limit)."""
    store = Store()
    for services, value, limit in points:
        store.keep(Cell(chart, series, services, 2, "s", "less", (value,) * 3, (limit,) * 3, "direct veth"))
    return store


def test_iptables_that_bends_is_a_control_that_holds() -> None:
    must_bend(measured((1, 24e-6, 14e-6), (10_000, 183e-6, 14e-6)), mode="iptables")


def test_iptables_that_does_not_bend_is_a_failure() -> None:
    flat = measured((1, 24e-6, 14e-6), (10_000, 26e-6, 14e-6))
    with pytest.raises(pytest.fail.Exception, match=r"take 1\.08 times as long, and must take 2 times"):
        must_bend(flat, mode="iptables")


def test_fewer_services_must_bend_less() -> None:
    some = ((1, 24e-6, 14e-6), (5_000, 40e-6, 14e-6))
    must_bend(measured(*some), mode="iptables")
    with pytest.raises(pytest.fail.Exception, match="must take 2 times"):
        must_bend(measured(*some, (10_000, 40e-6, 14e-6)), mode="iptables")


def test_a_slower_machine_is_no_bend() -> None:
    slower = measured((1, 24e-6, 14e-6), (10_000, 72e-6, 42e-6))
    with pytest.raises(pytest.fail.Exception, match=r"1\.00 times"):
        must_bend(slower, mode="iptables")


@pytest.mark.parametrize("mode", ["nftables", "ipvs", "ebpf", "command"])
def test_only_iptables_must_bend(mode: str) -> None:
    with pytest.raises(UnfitError, match=f"and the proxy's is {mode}"):
        must_bend(measured((1, 1, 1), (10_000, 1, 1)), mode=mode)


@pytest.mark.parametrize("points", [(), ((1, 1.0, 1.0),), ((1, 1.0, 1.0), (100, 1.0, 1.0))])
def test_too_little_was_measured_to_tell(points: tuple[tuple[int, float, float], ...]) -> None:
    with pytest.raises(UnfitError):
        must_bend(measured(*points), mode="iptables")


def test_the_direct_path_must_not_change() -> None:
    must_stay_flat(measured((1, 1.0, 14.0e-6), (10_000, 5.0, 14.9e-6)))
    must_stay_flat(measured((1, 1.0, 14.0e-6), (10_000, 5.0, 14.9e-6), (10_000, 5.0, 29e-6)))
    with pytest.raises(pytest.fail.Exception, match=r"the direct path has become 1\.36 times what it was"):
        must_stay_flat(measured((1, 1.0, 14e-6), (10_000, 5.0, 19e-6)))
    with pytest.raises(pytest.fail.Exception, match=r"0\.71 times"):
        must_stay_flat(measured((1, 1.0, 14e-6), (10_000, 5.0, 10e-6)))
    with pytest.raises(UnfitError):
        must_stay_flat(measured((1, 1.0, 14e-6)))


def test_growth_is_judged_beside_the_limit() -> None:
    must_not_grow(measured((1, 18, 14), (10_000, 19, 14)), "first-packet", "last Service", most=1.10)
    with pytest.raises(pytest.fail.Exception, match=r"1\.17 times as long, and should 1\.10 at most"):
        must_not_grow(measured((1, 18, 14), (10_000, 21, 14)), "first-packet", "last Service", most=1.10)


def test_the_worst_point_is_judged() -> None:
    near = measured((1, 15, 14), (1_000, 16, 14), (10_000, 15, 14), chart="keepalive", series="one connection")
    must_be_near_the_limit(near, "keepalive", "one connection", most=1.15)
    with pytest.raises(pytest.fail.Exception, match=r"with 1,000 Services one connection takes 1\.14 times"):
        must_be_near_the_limit(near, "keepalive", "one connection", most=1.10)
    with pytest.raises(UnfitError):
        must_be_near_the_limit(Store(), "keepalive", "one connection", most=1.10)


def test_unfit_cells_are_no_evidence() -> None:
    store = measured((1, 24e-6, 14e-6))
    store.keep(Cell("first-packet", "last Service", 10_000, 2, "s", "less", outcome="unfit", reason="it moved"))
    with pytest.raises(UnfitError, match="not measured at two numbers"):
        must_bend(store, mode="iptables")


def test_a_client_that_costs_much_is_a_failure() -> None:
    store = Store()
    with pytest.raises(UnfitError, match="nothing was measured"):
        must_cost_little(store, hermetic=False)
    store.harness.update({"clock (s)": 1.0, "share of a direct connect": 0.02, "share of a direct rate": 0.049})
    must_cost_little(store, hermetic=False)
    store.harness["share of a direct rate"] = 0.06
    with pytest.raises(pytest.fail.Exception, match=r"is 6\.0% of what it measures \(share of a direct rate\)"):
        must_cost_little(store, hermetic=False)
    with pytest.raises(UnfitError, match="system call in a guest"):
        must_cost_little(store, hermetic=True)
