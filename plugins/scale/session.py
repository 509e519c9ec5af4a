# SPDX-License-Identifier: Apache-2.0
"""-m scale as a part of pytest's session: order, budget, the bench, progress, and what is written at the end."""

import math
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest

from plugins.options import Settings
from plugins.record import Record
from plugins.requirements import requirement_of
from plugins.run import watched_by
from plugins.scale import settings as given
from plugins.scale.bench import Bench
from plugins.scale.cells import Cell
from plugins.scale.harness import cost
from plugins.scale.plan import Plan, Point, chart_of
from plugins.scale.progress import Bar, Estimate, Lines, Shown
from plugins.scale.start import opened
from plugins.scale.store import Store
from plugins.session import RECORD, RUN, SETTINGS
from plugins.world import UnfitError

STORE = pytest.StashKey[Store]()
PLAN = pytest.StashKey[Plan]()
CELLS, HARNESS = "plumbline_cells", "plumbline_harness"


def is_scale(item: pytest.Item) -> bool:
    return item.get_closest_marker("scale") is not None


def services_of(item: pytest.Item) -> int | None:
    """At how many Services a test measures; None for one that judges what others have measured."""
    callspec = getattr(item, "callspec", None)
    found = callspec.params.get("services") if callspec else None
    return int(found) if found is not None else None


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[STORE] = Store()
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outside(config), "plumbline-scale")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A scale test that takes `services` is run at each of `--services`, or where its mark says (`at="most"`)."""
    mark = metafunc.definition.get_closest_marker("scale")
    if mark is not None and "services" in metafunc.fixturenames:
        settings = metafunc.config.stash.get(SETTINGS, None)
        ladder = settings.services if settings else given.SERVICES
        metafunc.parametrize("services", given.where(ladder, mark.kwargs.get("at", "each")))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Scale comes last, the fewest Services first; what judges the measured comes after it.

    With each number of Services those come first that want the proxy as it is; a mark's `turn` says who comes later.
    """

    def turn(item: pytest.Item) -> tuple[bool, float, int]:
        mark = item.get_closest_marker("scale")
        if mark is None:
            return False, 0, 0
        services = services_of(item)
        return True, math.inf if services is None else services, mark.kwargs.get("turn", 0)

    items.sort(key=turn)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the plan of what is left after -k and -m."""
    settings = session.config.stash.get(SETTINGS, None)
    items = [item for item in session.items if is_scale(item)]
    if settings is None or not items:
        return
    points = {}
    for item in items:
        requirement = requirement_of(item)
        assert requirement is not None
        points[item.nodeid] = Point(item.nodeid, chart_of(requirement.id), services_of(item) or 0)
    duration = settings.duration or given.DURATION
    plan = Plan.of(points, settings.mode, duration, settings.services, settings.budget)
    session.config.stash[PLAN] = plan


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What there is no time for becomes a cell that says so, before anything is started for it."""
    plan = item.config.stash.get(PLAN, None)
    if plan is None or item.nodeid not in plan.points:
        return
    why = plan.why_left_out(item.nodeid)
    if why:
        point, settings = plan.points[item.nodeid], item.config.stash[SETTINGS]
        left_out = Cell(
            chart=point.chart,
            series="",
            services=point.services,
            endpoints=settings.endpoints_per_service,
            unit="s",
            better="none",
            outcome="left out",
            reason=why,
        )
        item.config.stash[STORE].keep(left_out)
        pytest.skip(f"left out: {why}")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A test all of whose cells are unfit is unfit itself."""
    done = yield
    bench = pyfuncitem.funcargs.get("bench") if is_scale(pyfuncitem) else None
    if isinstance(bench, Bench) and bench.cells and not any(cell.is_measured for cell in bench.cells):
        raise UnfitError(bench.cells[0].reason)
    return done


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """From a guest, cells travel with the report."""
    report = yield
    store = item.config.stash[STORE]
    if call.when == "teardown" and hasattr(item.config, "workerinput") and is_scale(item):
        vars(report)[CELLS], vars(report)[HARNESS] = msgspec.to_builtins(store.unsent()), dict(store.harness)
    return report


@pytest.fixture(scope="session")
def _bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    config = request.config
    store = config.stash[STORE]
    with opened(config.stash[SETTINGS], config.hook, store.keep, watched_pids=watched_by(config)) as bench:
        if RUN not in config.stash:
            config.stash[RUN] = bench.run
        store.harness.update(cost(bench))
        yield bench


@pytest.fixture
def bench(_bench: Bench, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The session's bench, whose cells belong to this test."""
    _bench.cells = []
    _bench.record = request.node.stash.setdefault(RECORD, Record("", "", "", "", {}))
    yield _bench
    # What a proxy that has died was measured at is worth nothing.
    _bench.run.proxy.check()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Store:
    """What the run has measured so far."""
    return request.config.stash[STORE]


class Outside:
    """In the process that the user sees: progress, files, and a line of summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._store = config.stash[STORE]
        self._shown: Shown | None = None
        self._estimate = Estimate({})
        self._written = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self) -> None:
        plan = self._config.stash.get(PLAN, None)
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        option = self._config.option
        if plan is None or terminal is None or option.requirements or option.collectonly:
            return
        measured = {test: cost for test, cost in plan.expected.items() if plan.points[test] in plan.chosen}
        self._estimate = Estimate(measured)
        terminal.showfspath = False
        if terminal.isatty and option.verbose == 0 and option.capture != "no":
            # A descriptor of its own: while tests run, pytest's is where their output is caught.
            self._shown = Bar(os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8"))
        else:
            self._shown = Lines(self._write_line)
        self._store.tell = self._shown.cell

    def _write_line(self, text: str) -> None:
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        terminal: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            terminal.write_line(text)
            terminal.flush()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self._shown is None or nodeid not in self._config.stash[PLAN].points:
            return
        if not self._estimate.began:
            self._estimate.begin()
        self._shown.begin(nodeid.rpartition("::")[2])

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """What was measured is told, instead of a dot for having been measured."""
        if self._shown is None or "scale" not in report.keywords or report.failed or self._config.option.verbose > 0:
            return None
        return ("", "", "") if report.when != "call" and report.passed else (report.outcome, "", "")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for cell in msgspec.convert(vars(report).get(CELLS, []), list[Cell]):
            self._store.keep(cell)
        self._store.harness.update(vars(report).get(HARNESS, {}))
        if self._shown is None or report.when != "teardown":
            return
        self._estimate.end(report.nodeid)
        self._shown.end(self._estimate.fraction, self._estimate.left)

    def pytest_sessionfinish(self) -> None:
        """What was measured is kept, however the run has ended."""
        if self._shown is not None:
            self._shown.close()
        settings: Settings | None = self._config.stash.get(SETTINGS, None)
        if settings is not None and self._store.cells:
            self._store.write(settings)
            self._written = True

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._written:
            return
        cells = self._store.cells
        counts = {name: sum(cell.outcome == name for cell in cells) for name in ("measured", "unfit", "left out")}
        said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        terminalreporter.section("plumbline: scale")
        terminalreporter.write_line(f"cells: {said}")
        for cell in cells:
            if not cell.is_measured:
                terminalreporter.write_line(f"{cell.outcome}: {cell.name}: {cell.reason}")
        directory = self._config.stash[SETTINGS].report
        terminalreporter.write_line(f"written: {directory}/scale.json, scale.csv, scale.html")
