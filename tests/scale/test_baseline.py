# SPDX-License-Identifier: Apache-2.0
"""A run that got worse is caught, one that did not is let be, and how often that is wrong is known."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from clusters.errors import UsageError
from plugins.scale import baseline
from plugins.scale.baseline import Change, Measure, judge, more_than_chance, worse
from plugins.scale.cells import Cell, Scale, dump, relative_spread
from tests.scale import made

TRIALS = 4_000
Noise = Callable[[random.Random], float]


def changed(run: Scale, chart: str, factor: float, services: int | None = None) -> Scale:
    """The run with the values of a chart multiplied, at one number of Services or at all."""
    return replace(
        run,
        cells=tuple(
            replace(cell, values=tuple(factor * each for each in cell.values))
            if cell.chart == chart and services in (None, cell.services)
            else cell
            for cell in run.cells
        ),
    )


def test_the_same_system_is_no_regression() -> None:
    verdicts = judge(made.scale(seed=2), made.scale(seed=1))
    assert verdicts.regressions == verdicts.improvements == verdicts.missing == verdicts.warnings == ()
    assert verdicts.compared > 40


def test_a_slowed_proxy_is_caught() -> None:
    verdicts = judge(made.scale(seed=2, slower=1.3), made.scale(seed=1))
    assert any(one.startswith("first-packet last Service at 10,000 × 2: ") for one in verdicts.regressions)
    assert any(one.startswith("keepalive one connection at 1 × 2: ") for one in verdicts.regressions)
    assert not any(one.startswith("throughput") for one in verdicts.regressions)


def test_a_regression_is_told_with_both_ratios() -> None:
    before = made.scale(noise=0.0)
    (told,) = judge(changed(before, "rate", 0.8, 10_000), before).regressions[:1]
    assert told == (
        "rate last Service at 10,000 × 2: 0.312 (spread 0 %), was 0.391 (spread 0 %) × direct veth: 20 % worse"
    )


def test_a_proxy_that_got_faster_is_told_and_is_no_regression() -> None:
    verdicts = judge(made.scale(seed=2, slower=0.7), made.scale(seed=1))
    assert verdicts.regressions == ()
    assert len(verdicts.improvements) > 10


def test_a_slower_machine_is_no_regression() -> None:
    """Values and limits are both twice what they were."""
    before = made.scale(seed=1)
    slow = replace(
        before,
        cells=tuple(
            replace(
                cell,
                values=tuple((0.5 if cell.better == "more" else 2) * each for each in cell.values),
                limits=tuple((0.5 if cell.better == "more" else 2) * each for each in cell.limits),
            )
            for cell in made.scale(seed=2).cells
        ),
    )
    assert judge(slow, before).regressions == ()


def test_without_a_limit_a_line_is_held_against_its_own_beginning() -> None:
    before = made.scale(noise=0.01)
    everywhere = judge(changed(before, "memory", 1.5), before)
    assert everywhere.regressions == ()
    (told,) = judge(changed(before, "cold", 1.5, 10_000), before).regressions[:1]
    assert "cold from nothing at 10,000 × 2" in told
    assert "× that at 1 Service" in told


def test_of_other_numbers_of_services_those_are_compared_that_both_have() -> None:
    few = made.scale(services=(1_000, 10_000), seed=2)
    verdicts = judge(changed(few, "cold", 1.5, 10_000), made.scale(seed=1))
    assert any("× that at 1,000 Services" in one for one in verdicts.regressions)
    assert any(one.endswith("at 5,000 × 2: not in this run") for one in verdicts.missing)


def test_a_change_within_its_spread_is_none() -> None:
    noisy = made.scale(noise=0.15)
    assert judge(changed(noisy, "first-packet", 1.2), noisy).regressions == ()
    quiet = made.scale(noise=0.01)
    assert judge(changed(quiet, "first-packet", 1.2), quiet).regressions != ()
    assert judge(changed(quiet, "first-packet", 1.08), quiet).regressions == ()


def test_a_cell_that_is_missing_is_told() -> None:
    before = made.scale()
    verdicts = judge(made.without(before, "rate", 10_000), before)
    assert verdicts.regressions == ()
    assert "rate last Service at 10,000 × 2: unfit: the limit itself moved by more than 5%" in verdicts.missing


def test_failures_are_compared_as_counts() -> None:
    before = made.scale()
    cells = before.cells
    failing = replace(before, cells=(replace(cells[0], failures=40), *cells[1:]))
    assert "first-packet last Service at 1 × 2: 40 failed, was 0" in judge(failing, before).regressions
    one = replace(before, cells=(replace(cells[0], failures=1, censored=2), *cells[1:]))
    assert judge(one, before).regressions == ()
    assert judge(failing, failing).regressions == ()


def test_chance_alone_is_no_rise() -> None:
    assert not more_than_chance(0, 0)
    assert not more_than_chance(5, 0)
    assert more_than_chance(20, 0)
    assert not more_than_chance(1_050, 1_000)
    assert more_than_chance(100_000, 50_000)


def test_a_value_that_was_nothing_and_is_something_is_worse() -> None:
    none = Cell("correctness", "wrong", 10, 2, "count", "less", (0.0, 0.0, 0.0))
    before = replace(made.scale(), cells=(none,))
    now = replace(before, cells=(replace(none, values=(3.0, 3.0, 3.0)),))
    assert len(judge(now, before).regressions) == 1
    assert judge(before, before).regressions == ()
    assert len(judge(before, now).improvements) == 1


def test_what_has_no_better_side_is_not_judged() -> None:
    some = Cell("fairness", "x", 10, 2, "ratio", "none", (1.0, 1.0))
    before = replace(made.scale(), cells=(some,))
    assert judge(replace(before, cells=(replace(some, values=(9.0, 9.0)),)), before).compared == 0


def test_another_machine_or_mode_is_a_warning_and_ratios_are_still_compared() -> None:
    now = replace(made.scale(seed=2, slower=1.5), kernel="6.18", cpu="another", mode="nftables")
    verdicts = judge(now, made.scale(seed=1))
    assert verdicts.regressions
    assert verdicts.warnings == (
        "another mode: nftables, was iptables",
        "another kernel: 6.18, was 6.12.1",
        "another CPU: 2 × another, was 2 × AMD EPYC",
    )


@pytest.mark.parametrize("hermetic", [False, True])
def test_a_hermetic_kernel_is_never_compared_with_a_native_one(hermetic: bool) -> None:
    with pytest.raises(UsageError, match="cannot be compared") as raised:
        judge(made.scale(hermetic=hermetic), made.scale(hermetic=not hermetic))
    assert "\n" not in str(raised.value)
    assert judge(made.scale(hermetic=hermetic), made.scale(hermetic=hermetic)).regressions == ()


# How often the rule is wrong.


def normal(size: float) -> Noise:
    return lambda source: 1 + source.gauss(0, size)


def heavy(size: float) -> Noise:
    """Student's t of three degrees of freedom: every hundredth is 4.5 times as far out as `size`."""

    def draw(source: random.Random) -> float:
        return 1 + size * source.gauss(0, 1) / math.sqrt(sum(source.gauss(0, 1) ** 2 for _ in range(3)) / 3)

    return draw


def spiked(size: float) -> Noise:
    """Mostly quiet, and in one of ten half as long again."""
    return lambda source: (1.5 if source.random() < 0.1 else 1) + source.gauss(0, size)


def share_called_worse(noise: Noise, repeats: int, factor: float = 1.0) -> float:
    """Of that many comparisons, in which the ratio is `factor` times what it was, how many are called worse.

    Repeats are of one run of twenty such cells each, whose usual spread holds for all of them.
    """
    source = random.Random(repeats)
    called = 0
    for _ in range(TRIALS // 20):
        runs = [[tuple(noise(source) for _ in range(repeats)) for _ in range(20)] for _ in range(2)]
        usual = [sorted(relative_spread(each) for each in run)[10] for run in runs]
        for old, new in zip(*runs, strict=True):
            before = Measure("", old, max(relative_spread(old), usual[0]))
            slowed = tuple(factor * each for each in new)
            now = Measure("", slowed, max(relative_spread(slowed), usual[1]))
            called += worse(Change("", before, now, now.median / before.median - 1))
    return called / TRIALS


@pytest.mark.parametrize("repeats", [3, 5])
@pytest.mark.parametrize(
    "noise", [normal(0.01), normal(0.03), normal(0.10), heavy(0.03), heavy(0.1), spiked(0.01), spiked(0.05)]
)
def test_what_did_not_change_is_called_worse_less_than_once_in_a_thousand(noise: Noise, repeats: int) -> None:
    assert share_called_worse(noise, repeats) <= 0.001


@pytest.mark.parametrize("repeats", [3, 5])
def test_what_got_a_quarter_slower_is_caught_where_repeats_agree_within_five_per_cent(repeats: int) -> None:
    assert share_called_worse(normal(0.02), repeats, 1.25) >= 0.99


def test_the_files_are_compared_by_themselves_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, slow = (tmp_path / name for name in ("old.json", "new.json", "slow.json"))
    for path, run in ((old, made.scale(seed=1)), (new, made.scale(seed=2)), (slow, made.scale(slower=1.5))):
        path.write_bytes(dump(run))
    assert baseline.main([str(old), str(new)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("cells compared, 0 worse, 0 better")
    assert baseline.main([str(old), str(slow)]) == 1
    assert capsys.readouterr().out.startswith("regression: ")
    assert baseline.main([str(old)]) == 4
    assert baseline.main([str(old), str(tmp_path / "none.json")]) == 4
    assert "none.json cannot be read: No such file" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text("{}")
    assert baseline.main([str(old), str(tmp_path / "bad.json")]) == 4
    assert "bad.json cannot be used: it is no scale.json" in capsys.readouterr().err
    hermetic = tmp_path / "hermetic.json"
    hermetic.write_bytes(dump(made.scale(hermetic=True)))
    assert baseline.main([str(old), str(hermetic)]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1
