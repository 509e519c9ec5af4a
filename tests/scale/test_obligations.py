# SPDX-License-Identifier: Apache-2.0
"""What single measurements must show goes red where they do not."""

from collections.abc import Mapping

import pytest

from plugins.scale.correctness import Checked
from plugins.scale.fairness import Fairness
from plugins.scale.maglev import Disruption
from plugins.scale.obligations import must_be_fair, must_be_right, must_be_unfair, must_move_few
from plugins.scale.settings import where
from tests.scale.fake_bench import fake_bench

FAIR, UNFAIR = Fairness(1.05, 0.4, 1_400), Fairness(1.8, 1e-9, 1_400)


def test_fair_is_what_chance_allows() -> None:
    must_be_fair([FAIR, FAIR])
    with pytest.raises(pytest.fail.Exception, match=r"1\.80 times an equal share"):
        must_be_fair([FAIR, UNFAIR])


def test_a_control_that_looks_fair_is_a_failure() -> None:
    bench, kept = fake_bench()
    must_be_unfair(bench, UNFAIR)
    with pytest.raises(
        pytest.fail.Exception, match=r"with a chance of 0\.4, and must be less than 1e-06: a measurement"
    ):
        must_be_unfair(bench, FAIR)
    assert [(cell.chart, cell.failures) for cell in kept] == [("control", 0), ("control", 1)]


def moved(part: float) -> Mapping[int, Disruption]:
    before = dict.fromkeys(range(1_000), "b") | {1_000: "a"}
    after = {port: "c" if port < part * 1_000 else "b" for port in range(1_001)}
    return {10: Disruption(before, after, "a")}


def test_few_connections_may_move() -> None:
    must_move_few("ebpf", moved(0.01))
    with pytest.raises(
        pytest.fail.Exception, match=r"3\.00% of the others' connections moved, and with a table of 16,381"
    ):
        must_move_few("ebpf", moved(0.03))


def test_one_wrong_service_is_a_failure() -> None:
    must_be_right({"before churn": Checked(459, 10_000, {})})
    with pytest.raises(pytest.fail.Exception, match=r"after churn, 1 of 459 Services were wrong: s-7 did not answer"):
        must_be_right(
            {"before churn": Checked(459, 10_000, {}), "after churn": Checked(459, 10_000, {7: "did not answer"})}
        )


def test_where_a_test_measures() -> None:
    ladder = (1, 1_000, 10_000)
    assert where(ladder, "each") == ladder
    assert where(ladder, "ends") == (1, 10_000)
    assert where(ladder, "fewest") == (1,)
    assert where(ladder, "most") == (10_000,)
    assert where((5,), "ends") == where((5,), "apart") == (5,)
    assert where((1, 1_000, 5_000, 10_000), "apart") == (1, 1_000, 10_000)
    assert where((1, 1_000, 5_000, 10_000, 20_000), "apart") == (1, 1_000, 5_000, 20_000)
    assert where((1, 2), "apart") == (1, 2)
    with pytest.raises(KeyError):
        where(ladder, "somewhere")
