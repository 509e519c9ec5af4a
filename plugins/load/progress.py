# SPDX-License-Identifier: Apache-2.0
"""How load goes, while it goes: one line that changes on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

# Between two lines where there is no terminal, in seconds.
NOW_AND_THEN = 5.0
TAKE_BACK = "\r\x1b[K"


@dataclass(frozen=True, slots=True)
class Moment:
    """What locust's master has counted so far; `left` is in seconds."""

    users: int
    requests: int
    failures: int
    left: float

    def __str__(self) -> str:
        counts = f"{self.users} users, {self.requests:,} requests, {self.failures:,} failed"
        return f"{counts}, {abs(self.left):.0f} s {'left' if self.left >= 0 else 'over its time'}"


class Shown(Protocol):
    """Whoever shows how it goes."""

    def show(self, what: str, moment: Moment) -> None:
        """How it goes now."""

    def over(self) -> None:
        """Nothing more will come of this."""


class Silent:
    """Shows nothing, as in a worker of xdist's."""

    def show(self, what: str, moment: Moment) -> None:
        """Nothing."""

    def over(self) -> None:
        """Nothing."""


@dataclass(slots=True)
class Lines:
    """A line at the beginning, and now and then."""

    write_line: Callable[[str], Any]
    clock: Callable[[], float] = time.monotonic
    _last: float | None = None

    def show(self, what: str, moment: Moment) -> None:
        now = self.clock()
        if self._last is None or now - self._last >= NOW_AND_THEN:
            self._last = now
            self.write_line(f"{what}: {moment}")

    def over(self) -> None:
        self._last = None


@dataclass(slots=True)
class OneLine:
    """A terminal's last line, written anew and taken back in the end."""

    write: Callable[[str], Any]
    width: int
    _shown: bool = False

    def show(self, what: str, moment: Moment) -> None:
        self._shown = True
        self.write(f"{TAKE_BACK}{what}: {moment}"[: len(TAKE_BACK) + self.width - 1])

    def over(self) -> None:
        if self._shown:
            self.write(TAKE_BACK)
        self._shown = False


@dataclass(slots=True)
class Uncaptured:
    """Shows through pytest's capturing of what tests print."""

    shown: Shown
    uncaptured: Callable[[], AbstractContextManager[None]] = field(default=nullcontext)

    def show(self, what: str, moment: Moment) -> None:
        with self.uncaptured():
            self.shown.show(what, moment)

    def over(self) -> None:
        with self.uncaptured():
            self.shown.over()


def shown_by(config: pytest.Config) -> Shown:
    """What fits this process of pytest's: nothing where it has no terminal of its own, or is to be quiet."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or hasattr(config, "workerinput") or config.get_verbosity() < 0:
        return Silent()
    capture = config.pluginmanager.get_plugin("capturemanager")
    uncaptured = capture.global_and_fixture_disabled if capture else nullcontext

    def line(text: str) -> None:
        terminal.ensure_newline()
        terminal.write_line(text)

    def write(text: str) -> None:
        terminal.write(text, flush=True)

    if not terminal.isatty:
        return Uncaptured(Lines(line), uncaptured)
    return Uncaptured(OneLine(write, terminal._screen_width), uncaptured)
