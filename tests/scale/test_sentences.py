# SPDX-License-Identifier: Apache-2.0
"""What charts show, in words; and the controls they stand on."""

from dataclasses import replace

import pytest

from plugins.scale.catalogue import Chart, ordered
from plugins.scale.cells import Cell, Scale
from plugins.scale.controls import Control, controls
from plugins.scale.panels import Group, groups
from plugins.scale.sentences import sentences
from tests.scale import made


def told(*runs: Scale, chart: str) -> str:
    (group,) = groups(runs)
    (found,) = ordered([chart])
    return "\n".join(sentences(group, found))


def exact(mode: str = "iptables", **options: int) -> Scale:
    return made.scale(mode, noise=0.0, **options)  # type: ignore[arg-type]


def test_how_a_line_grows_is_told_for_all_modes_at_once() -> None:
    first, second, *_ = told(exact(), exact("ebpf"), chart="first-packet").splitlines()
    assert first == (
        "Connecting to the last of 10,000 Services, beside the only one, takes 2.82 × as long in mode iptables and "
        "1.00 × (no change) in ebpf."
    )
    assert second == (
        "From 1 to 10,000 Services, a connection to any Service takes 1.91 × as long in mode iptables and 1.00 × "
        "(no change) in ebpf."
    )


def test_the_last_is_held_against_the_first() -> None:
    wanted = "At 10,000 Services, “last Service” takes 2.82 × as long, beside “first Service”."
    assert wanted in told(exact(), chart="first-packet")


def test_a_rate_that_falls_is_told_as_what_is_left_of_it() -> None:
    assert "dialling the last Service runs at 0.531 × the rate." in told(exact(), chart="rate")


def test_the_limit_is_told_at_the_most_services() -> None:
    text = told(exact(), chart="first-packet")
    assert (
        "At 10,000 Services, beside direct veth: last Service 6.20 ×; uniform 4.20 ×; first Service 2.20 ×." in text
    )


def test_what_has_come_to_nothing_is_told() -> None:
    run = exact()
    cells = [
        replace(cell, values=(0.0,) * len(cell.values)) if cell.chart == "rate" and cell.services > 1 else cell
        for cell in run.cells
    ]
    assert "runs at 0 × the rate" in told(replace(run, cells=tuple(cells)), chart="rate")


def test_one_number_of_services_has_no_growth() -> None:
    text = told(exact(), exact("ebpf"), chart="hop")
    assert "From" not in text
    assert (
        "“routed, other node” runs at 0.824 × the throughput in mode iptables and 0.824 × in ebpf, "
        "beside “same node”." in text
    )


def test_what_failed_is_told() -> None:
    run = exact()
    cells = tuple(
        replace(cell, failures=12, censored=3) if (cell.chart, cell.services) == ("rate", 10_000) else cell
        for cell in run.cells
    )
    text = told(replace(run, cells=cells), chart="rate")
    assert "Failed: 12 (last Service at 10,000 Services)." in text
    assert "Reached their deadline, and are kept as that: 3 (last Service at 10,000 Services)." in text


def test_a_limit_that_moved_is_told() -> None:
    run = exact(services=(1, 10))  # type: ignore[arg-type]
    cells = tuple(
        replace(cell, limits=tuple(1.3 * each for each in cell.limits)) if cell.services == 10 else cell
        for cell in run.cells
    )
    text = told(replace(run, cells=cells), chart="first-packet")
    assert "not the same at all numbers of Services (1.30 × at most: iptables, uniform): compare ratios." in text
    assert "compare ratios" not in told(run, chart="first-packet")


def test_a_cell_that_was_not_measured_says_nothing() -> None:
    run = made.without(exact(), "first-packet", 10_000)
    assert "last of 5,000 Services" in told(run, chart="first-packet")


def test_an_unknown_chart_is_called_by_its_id() -> None:
    assert ordered(["zebra", "rate", "control"]) == (*ordered(["rate"]), Chart("zebra", "Zebra", ""))


def found(*runs: Scale) -> dict[str, Control]:
    (group,) = groups(runs)
    return {control.name: control for control in controls(group)}


def test_iptables_must_bend() -> None:
    control = found(exact(), exact("ebpf"))["iptables bends"]
    assert control.verdict == "holds"
    assert "takes 2.82 × as long as with 1, and must take 2 × as long" in control.says


def test_iptables_that_is_flat_is_caught() -> None:
    flat = replace(exact("ebpf"), mode="iptables")
    assert found(flat)["iptables bends"].verdict == "does not hold"


@pytest.mark.parametrize("runs", [(exact("ebpf"),), (exact(services=(1,)),), (exact(services=(1, 100)),)])  # type: ignore[arg-type]
def test_a_bend_that_could_not_be_seen_is_not_called_one(runs: tuple[Scale, ...]) -> None:
    assert found(*runs)["iptables bends"].verdict == "not looked at"


def test_the_direct_path_must_not_change() -> None:
    run = exact()
    assert found(run)["the limit is flat"].verdict == "holds"
    cells = tuple(
        replace(cell, limits=tuple(1.3 * each for each in cell.limits)) if cell.services == 10_000 else cell
        for cell in run.cells
    )
    bent = found(replace(run, cells=cells), exact("ebpf"))["the limit is flat"]
    assert bent.verdict == "does not hold"
    assert "in mode iptables, the direct path at its best takes 1.30 × as long" in bent.says


def test_measuring_must_cost_little() -> None:
    run = exact()
    assert found(run)["measuring is cheap"].verdict == "holds"
    dear = found(replace(run, harness={"clock (s)": 1.0, "share of a direct rate": 0.08}), run)["measuring is cheap"]
    assert dear.verdict == "does not hold"
    assert "8 % of what is measured at most (share of a direct rate, mode iptables); 5 % are allowed" in dear.says
    assert found(replace(run, harness={}))["measuring is cheap"].verdict == "not looked at"


def test_what_a_run_judged_itself_is_told_too() -> None:
    good = Cell("control", "a spinner shows", 1, 2, "ratio", "none", (3.0,), note="3.0 × as many late")
    bad = replace(good, series="a skewed weight shows", failures=1)
    missing = replace(good, series="x", values=(), outcome="unfit", reason="no CPU to spare")
    run = replace(exact(), cells=(good, bad, missing))
    verdicts = {name: control.verdict for name, control in found(run).items()}
    assert verdicts["a spinner shows (iptables)"] == "holds"
    assert verdicts["a skewed weight shows (iptables)"] == "does not hold"
    assert verdicts["x (iptables)"] == "not looked at"
    assert Group((run,)).charts == {"control"}
    assert ordered(Group((run,)).charts) == ()
