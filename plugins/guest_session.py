# SPDX-License-Identifier: Apache-2.0
"""The session of pytest inside a guest: by the command line of the one outside, and of its tests those it is told."""

import base64
import os
import sys
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from _pytest.config import _prepareconfig

from plugins.guest import Speech

NAME = "plumbline-guest-session"
# Of a longer file the end is what matters.
MOST_BYTES = 8 << 20


def run(speech: Speech, asked: Mapping[str, Any]) -> None:
    """Run the session to its end."""
    sys.argv = asked["arguments"]
    items: list[str] = asked["items"]
    arguments = asked["arguments"][1:]
    # Importing it takes seconds here, and no requirement needs it.
    unneeded = [] if any("hypothesis" in one for one in arguments) else ["-p", "no:hypothesispytest"]
    config = _prepareconfig([*unneeded, *arguments])
    config.args = list(dict.fromkeys(item.partition("::")[0] for item in items))
    option = config.option
    option.numprocesses, option.dist, option.tx, option.maxfail = None, "no", [], 0
    option.usepdb = False
    vars(config)["workerinput"] = {
        "workerid": asked["worker"],
        "workercount": asked["workers"],
        "mainargv": asked["arguments"],
        "plumbline_settings": asked["settings"],
        "plumbline_controller": os.getpid(),
    }
    workeroutput = vars(config)["workeroutput"] = {}
    config.pluginmanager.register(Session(speech, items, Path(asked["report"])), NAME)
    config.hook.pytest_cmdline_main(config=config)
    speech.send(ended=True, facts=workeroutput.get("plumbline"))


class Session:
    """The plugin that does what it is told."""

    def __init__(self, speech: Speech, items: list[str], report: Path) -> None:
        self._speech = speech
        self._ids = items
        self._report = report
        self._sent: set[Path] = set()

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            config.pluginmanager.unregister(terminal)
        self._config = config

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._speech.send(broken=f"{report.nodeid}: {report.longreprtext}")

    def pytest_internalerror(self, excrepr: object) -> None:
        self._speech.send(broken=str(excrepr))

    def pytest_runtestloop(self, session: pytest.Session) -> Literal[True]:
        """Run what is asked for, until there is nothing more."""
        found = {item.nodeid: item for item in session.items}
        missing = [name for name in self._ids if name not in found]
        if missing:
            self._speech.send(broken=f"there is no {missing[0]}")
            return True
        # Batches of arrangements are made of what comes next, in the order of outside.
        session.items[:] = [found[name] for name in self._ids]
        self._speech.send(collected=len(session.items))
        while "finish" not in (message := self._speech.receive()):
            item, following = found[message["run"]], message["next"]
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=found[following] if following else None)
            self._send_files("artefacts")
            self._speech.send(done=True, shouldstop=session.shouldstop)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._speech.send(report=data)

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: object
    ) -> None:
        """Only what belongs to a test: all else is warned of outside too."""
        if when == "runtest":
            seen = warning_message
            shown = {"text": str(seen.message), "category": seen.category.__name__}
            self._speech.send(
                warning={**shown, "filename": seen.filename, "lineno": seen.lineno, "nodeid": nodeid},
                location=location,
            )

    def pytest_unconfigure(self) -> None:
        self._send_files("logs")

    def _send_files(self, directory: str) -> None:
        for file in sorted(path for path in (self._report / directory).rglob("*") if path.is_file()):
            if file not in self._sent:
                self._sent.add(file)
                data = base64.b64encode(zlib.compress(file.read_bytes()[-MOST_BYTES:], 1)).decode()
                self._speech.send(file=str(file.relative_to(self._report)), data=data)
