# SPDX-License-Identifier: Apache-2.0
"""A budget is spent on what is worth most, and loading Services is paid once."""

from plugins.scale.plan import CHARTS, Plan, Point, chart_of, chosen, loading, seconds

LADDER = (1, 1_000, 5_000, 10_000)
POINTS = [
    Point(f"{chart}[{services}]", chart, services)
    for chart in ("first-packet", "rate", "throughput")
    for services in LADDER
]


def test_without_a_budget_everything_is_measured() -> None:
    assert chosen(POINTS, "iptables", 1.0, LADDER, None) == frozenset(POINTS)


def test_the_ends_of_a_line_come_before_what_is_between() -> None:
    kept = chosen(POINTS, "ebpf", 1.0, LADDER, 50.0)
    assert {one.services for one in kept if one.chart == "first-packet"} >= {1, 10_000}
    assert not any(one.services == 5_000 for one in kept)


def test_what_is_worth_most_is_kept() -> None:
    kept = chosen(POINTS, "ebpf", 1.0, LADDER, 30.0)
    assert kept
    assert {one.chart for one in kept} <= {"first-packet", "rate"}
    assert "first-packet" in {one.chart for one in kept}


def test_what_is_kept_fits_the_budget() -> None:
    for budget in (0.5, 5.0, 20.0, 60.0, 200.0):
        kept = chosen(POINTS, "iptables", 1.0, LADDER, budget)
        cost = sum(seconds(one, "iptables", 1.0) for one in kept)
        cost += sum(loading(services, "iptables") for services in {one.services for one in kept})
        assert cost <= budget


def test_a_longer_budget_never_leaves_more_out() -> None:
    kept = [len(chosen(POINTS, "iptables", 1.0, LADDER, budget)) for budget in (1, 10, 50, 100, 500, 5_000)]
    assert kept == sorted(kept)
    assert kept[-1] == len(POINTS)


def test_no_time_is_nothing() -> None:
    assert chosen(POINTS, "iptables", 1.0, LADDER, 0.01) == frozenset()


def test_longer_measurements_cost_more() -> None:
    assert seconds(POINTS[0], "ebpf", 4.0) > 3 * seconds(POINTS[0], "ebpf", 1.0)


def test_a_requirement_names_its_chart() -> None:
    assert chart_of("scale.first-packet.latency") == "first-packet"
    assert all(cost.worth > 0 for cost in CHARTS.values())


def test_a_slow_run_leaves_out_what_is_worth_least_and_not_what_comes_last() -> None:
    """Twice as slow as expected, and the worthiest, at the most Services, is the last but two."""
    points = {point.test: point for services in LADDER for point in POINTS if point.services == services}
    needed = sum(Plan.of(points, "ebpf", 1.0, LADDER, None).expected.values())
    plan = Plan.of(points, "ebpf", 1.0, LADDER, needed + 0.1)
    now, left_out = 0.0, []
    for test, point in points.items():
        if plan.why_left_out(test, now):
            left_out.append(point)
        else:
            now += 2 * plan.expected[test]
    assert plan.chosen == frozenset(points.values())
    assert left_out
    assert {one.services for one in left_out} & {1_000, 5_000}
    assert not any(one.chart == "first-packet" and one.services in (1, 10_000) for one in left_out)
    assert now < 1.1 * needed


def test_a_run_as_fast_as_expected_leaves_nothing_out() -> None:
    points = {point.test: point for point in POINTS}
    needed = sum(Plan.of(points, "iptables", 1.0, LADDER, None).expected.values())
    plan = Plan.of(points, "iptables", 1.0, LADDER, needed + 0.1)
    now = 0.0
    for test in points:
        assert plan.why_left_out(test, now) == ""
        now += plan.expected[test]


def test_what_a_plan_has_no_time_for_says_about_how_long_it_takes() -> None:
    points = {point.test: point for point in POINTS}
    plan = Plan.of(points, "ebpf", 1.0, LADDER, 30.0)
    assert plan.why_left_out("throughput[5000]", 0.0) == "--budget=30s has no time for it (about 11 s)"
    assert plan.why_left_out("first-packet[1]", 29.0) == "--budget=30s is all but used up (it takes about 9 s)"
    assert Plan.of(points, "ebpf", 1.0, LADDER, None).why_left_out("throughput[5000]", 1e6) == ""
