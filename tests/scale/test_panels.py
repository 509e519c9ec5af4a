# SPDX-License-Identifier: Apache-2.0
"""Who shares a chart with whom, and what is drawn in it."""

from dataclasses import replace

from plugins.scale import literature
from plugins.scale.cells import Cell, Scale
from plugins.scale.panels import Group, groups, panels
from tests.scale import made

MODES = ("iptables", "nftables", "ebpf")


def all_modes() -> Group:
    (group,) = groups([made.scale(mode) for mode in MODES])
    return group


def test_a_hermetic_kernel_has_charts_of_its_own_after_the_native_ones() -> None:
    ipvs = made.scale("ipvs", hermetic=True)
    found = groups([ipvs, made.scale("iptables"), made.scale("ebpf")])
    assert [[run.mode for run in group.runs] for group in found] == [["iptables", "ebpf"], ["ipvs"]]
    assert [group.hermetic for group in found] == [False, True]


def test_another_machine_or_kernel_has_charts_of_its_own() -> None:
    here = made.scale("iptables")
    others = [replace(here, cpu="another"), replace(here, kernel="5.10"), replace(here, cpus=64)]
    assert len(groups([here, made.scale("ebpf"), *others])) == 4


def test_series_share_a_panel_while_there_are_few_lines() -> None:
    alone = Group((made.scale("iptables"),))
    (panel,) = panels(alone, "first-packet", ())
    assert panel.all_series == ("last Service", "uniform", "first Service")
    assert panel.ticks == made.SERVICES
    (limit,) = panel.limits
    assert limit.label == made.DIRECT
    assert set(limit.points) == set(made.SERVICES)


def test_three_modes_of_three_series_are_a_panel_for_each_series() -> None:
    drawn = panels(all_modes(), "first-packet", ())
    assert [panel.series for panel in drawn] == ["last Service", "uniform", "first Service"]
    assert all([line.mode for line in panel.lines] == list(MODES) for panel in drawn)


def test_series_with_other_limits_do_not_share_a_panel() -> None:
    alone = Group((made.scale("iptables"),))
    assert [panel.series for panel in panels(alone, "keepalive", ())] == [
        "one connection",
        "100 requests each",
        "new connections",
    ]


def test_one_number_of_services_is_no_line() -> None:
    (panel,) = panels(all_modes(), "hop", ())
    assert panel.ticks == (1,)
    assert len(panel.lines) == 6
    assert not panel.has_lines


def test_many_endpoints_of_one_service_are_the_axis() -> None:
    cells = tuple(Cell("slices", "x", 1, endpoints, "s", "less", (1.0,)) for endpoints in (1_000, 10_000))
    (panel,) = panels(Group((replace(made.scale(), cells=cells),)), "slices", ())
    assert panel.by_endpoints
    assert panel.ticks == (1_000, 10_000)


def test_points_that_stand_alone_share_a_panel_whatever_their_size() -> None:
    sizes = {"few": (1, 1e-6), "many": (50, 1.0)}
    cells = tuple(Cell("x", name, n, 2, "s", "less", (value,)) for name, (n, value) in sizes.items())
    (panel,) = panels(Group((replace(made.scale(), cells=cells),)), "x", ())
    assert not panel.has_lines


def test_what_was_left_out_is_shown_once_and_keeps_its_place_on_the_axis() -> None:
    run = made.scale(services=(1, 1_000))
    blank = Cell("rate", "", 10_000, 2, "s", "none", outcome="left out", reason="no time")
    drawn = panels(Group((replace(run, cells=(*run.cells, blank)),)), "rate", ())
    assert [len(panel.blank) for panel in drawn] == [1]
    assert drawn[0].ticks == (1, 1_000, 10_000)
    assert drawn[0].unit == "1/s"


def test_a_chart_of_which_nothing_was_measured_is_not_drawn() -> None:
    run: Scale = made.scale(services=(1,))
    for services in (1,):
        run = made.without(run, "rate", services)
    assert panels(Group((run,)), "rate", ()) == ()


def test_literature_is_drawn_where_its_mode_is() -> None:
    published = literature.load()
    numbers = [each.number for panel in panels(all_modes(), "rate", published) for each in panel.overlays]
    assert numbers == [1, 2]
    only = Group((made.scale("nftables"),))
    assert not [each for panel in panels(only, "rate", published) for each in panel.overlays]
