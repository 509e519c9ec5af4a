# SPDX-License-Identifier: Apache-2.0
"""What moves when an endpoint goes: counted, simulated, and what hashing by a remainder would do."""

from collections import Counter

import pytest

from plugins.scale.maglev import (
    CONNECTIONS,
    MOST_MOVED,
    Disruption,
    by_remainder,
    dialled,
    most_moved,
    simulated,
    slots,
    table,
)


def test_only_connections_of_others_count() -> None:
    before = {1: "a", 2: "a", 3: "b", 4: "c"}
    assert Disruption(before, {1: "b", 2: "c", 3: "b", 4: "c"}, "a").collateral == 0
    assert Disruption(before, {1: "b", 2: "c", 3: "c", 4: "c"}, "a").collateral == 0.5
    assert Disruption(before, {1: "b", 2: "c", 3: "c", 4: "b"}, "a").collateral == 1
    assert Disruption(before, before, "a").largest_share == 1.5


def test_of_nothing_nothing_can_be_said() -> None:
    with pytest.raises(ValueError, match="no connection had another endpoint"):
        _ = Disruption({1: "a"}, {1: "b"}, "a").collateral


def test_a_table_is_whole_and_its_shares_are_even() -> None:
    owners = table([str(number) for number in range(10)], 1_021)
    assert len(owners) == 1_021
    assert set(Counter(owners).values()) <= {102, 103}


@pytest.mark.parametrize(("count", "size"), [(10, 1_021), (100, 16_381)])
def test_simulations_stay_within_what_may_move(count: int, size: int) -> None:
    assert 0 < simulated(count, size).collateral < most_moved(size)


def test_connections_are_fewer_than_slots() -> None:
    whole = simulated(10, 1_021)
    some = dialled(whole)
    assert len(some.before) == CONNECTIONS
    assert some.collateral == pytest.approx(whole.collateral, abs=0.01)
    assert whole.largest_share < some.largest_share < 1.1


def test_a_remainder_moves_nearly_everything() -> None:
    for count in (10, 100):
        moved = by_remainder(count).collateral
        assert moved == pytest.approx((count - 1) / count, abs=0.03)
        assert moved > max(MOST_MOVED.values()), "it could pass for Maglev"


def test_which_table_allows_what() -> None:
    assert [most_moved(size) for size in (65_537, 65_536, 16_381, 4_093, 1_021)] == [0.01, 0.02, 0.02, 0.06, 0.06]
    with pytest.raises(ValueError, match="a table of 251 slots"):
        most_moved(251)
    assert [slots("ebpf", count) for count in (10, 100, 200)] == [16_381, 16_381, 65_537]
    assert slots("ipvs", 10) == slots("ipvs", 200) == 4_093
