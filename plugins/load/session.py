# SPDX-License-Identifier: Apache-2.0
"""-m load as a part of pytest's session: the fixture of its tests, load.json, cells for scale.json, and a summary."""

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters.lab.provider import Lab
from plugins.load.bench import DURATION, Bench
from plugins.load.progress import shown_by
from plugins.load.results import entry_in_words, load_cells
from plugins.requirements import axes_of, requirement_of
from plugins.scale.session import STORE
from plugins.session import SETTINGS
from plugins.world import UnfitError, World

FORMAT = "plumbline load 1"
ENTRIES = pytest.StashKey[list[dict[str, Any]]]()
TRAVELS = "plumbline_load"


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outside(config), "plumbline-load")


@pytest.fixture
def load(world: World, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Pods, traffic, and what came of it."""
    settings = request.config.stash[SETTINGS]
    if not isinstance(world.cluster, Lab):
        raise UnfitError("the cluster has no place for locust's processes; the lab has")
    found = requirement_of(request.node)
    assert found is not None
    scenario = "-".join([found.id, *(axis.replace(" ", "-") for axis in axes_of(request.node).values())])
    with Bench(
        world,
        world.cluster,
        scenario,
        settings.duration or DURATION,
        settings.deadline_scale,
        shown_by(request.config),
    ) as bench:
        request.node.stash[ENTRIES] = bench.entries
        yield bench


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Figures travel with the report: from a guest and from a worker too."""
    report = yield
    if call.when == "call" and ENTRIES in item.stash:
        vars(report)[TRAVELS] = item.stash[ENTRIES]
    return report


class Outside:
    """In the process that the user sees: the file, and lines of summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._entries: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Written at once, so that nothing is lost however the run ends."""
        new = vars(report).get(TRAVELS)
        if not new:
            return
        outcome = getattr(report, "plumbline_outcome", None)
        self._entries += [{**entry, "test": report.nodeid, "outcome": outcome} for entry in new]
        for cell in load_cells(new):
            self._config.stash[STORE].keep(cell)
        settings = self._config.stash[SETTINGS]
        whole = {
            "format": FORMAT,
            "system": settings.about(),
            "kernel": settings.kernel(),
            "hermetic": settings.guest is not None,
            "scenarios": self._entries,
        }
        self._path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._entries:
            return
        terminalreporter.section("plumbline: load")
        for entry in self._entries:
            terminalreporter.write_line(entry_in_words(entry))
        terminalreporter.write_line(f"written: {self._path}")

    @property
    def _path(self) -> Path:
        return Path(self._config.stash[SETTINGS].report) / "load.json"
