# SPDX-License-Identifier: Apache-2.0
"""Runs of pytest for the tests of the plugin: started ahead two at a time, each command only once."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.plugin.runs import Command, Finished, Runner

AT_ONCE = 2
# Enough that both places are always taken while a test waits for its own run.
LOOK_AHEAD = 8


class Ahead:
    """Starts the run a test asks for, and those of the tests after it."""

    def __init__(self, runner: Runner, items: Sequence[pytest.Item], look_ahead: int) -> None:
        self._runner = runner
        self._look_ahead = look_ahead
        self._commands = list(dict.fromkeys(command for item in items if (command := _command_of(item))))
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._runs: dict[Command, Future[Finished]] = {}

    def finished(self, command: Command) -> Finished:
        place = self._commands.index(command)
        for one in self._commands[place : place + self._look_ahead]:
            if one not in self._runs:
                self._runs[one] = self._pool.submit(self._runner.prepare(one).run)
        return self._runs[command].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    directory: Path = tmp_path_factory.mktemp("runs")
    return Runner(directory)


@pytest.fixture(scope="session")
def _ahead(runner: Runner, request: pytest.FixtureRequest) -> Iterator[Ahead]:
    # Under xdist the tests after this one may be another worker's.
    alone = not hasattr(request.config, "workerinput")
    ahead = Ahead(runner, request.session.items, LOOK_AHEAD if alone else 1)
    yield ahead
    ahead.close()


@pytest.fixture
def finished(_ahead: Ahead, request: pytest.FixtureRequest) -> Finished:
    """The end of the run this test is marked with (`runs.runs`)."""
    command = _command_of(request.node)
    assert command is not None
    return _ahead.finished(command)


def _command_of(item: pytest.Item) -> Command | None:
    mark = item.get_closest_marker("plumbline_run")
    return mark.args[0] if mark else None
