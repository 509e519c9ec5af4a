# SPDX-License-Identifier: Apache-2.0
"""How far a scale run has come, and how long it will still take: a bar on a terminal, lines elsewhere."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from plugins.scale.cells import Cell
from plugins.scale.words import in_words


class Shown(Protocol):
    """Whoever shows progress."""

    def begin(self, what: str) -> None:
        """A test begins."""

    def cell(self, cell: Cell) -> None:
        """A cell was measured."""

    def end(self, fraction: float, left: float) -> None:
        """A test has ended: how much of the run is over, and seconds that are left."""

    def close(self) -> None:
        """Nothing more will come."""


@dataclass(slots=True)
class Estimate:
    """What is left, by what was expected and how that compares with what it took so far."""

    expected: Mapping[str, float]  # test → seconds
    clock: Callable[[], float] = time.monotonic
    began: float = 0.0
    over: float = 0.0  # of the expected seconds
    _done: set[str] = field(default_factory=set)

    def begin(self) -> None:
        self.began = self.clock()

    def end(self, test: str) -> None:
        if test not in self._done:
            self._done.add(test)
            self.over += self.expected.get(test, 0.0)

    @property
    def whole(self) -> float:
        return sum(self.expected.values())

    @property
    def fraction(self) -> float:
        return self.over / self.whole if self.whole else 1.0

    @property
    def left(self) -> float:
        """Seconds. The pace so far counts as soon as a tenth is over."""
        rest = self.whole - self.over
        if not self.over or self.fraction < 0.1:
            return rest
        return rest * (self.clock() - self.began) / self.over


class Lines:
    """A line for each cell."""

    def __init__(self, write_line: Callable[[str], Any]) -> None:
        self._write_line = write_line
        self._where = ""

    def begin(self, what: str) -> None:
        """Nothing to show."""

    def cell(self, cell: Cell) -> None:
        self._write_line(f"{self._where}{in_words(cell)}")

    def end(self, fraction: float, left: float) -> None:
        self._where = f"[{fraction:4.0%}, {minutes(left)} left] "

    def close(self) -> None:
        """Nothing to take back."""


class Bar:
    """A bar at the bottom of a terminal, with what was measured above it."""

    def __init__(self, file: Any) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(file=file, highlight=False)
        self._progress = Progress(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[left]} left  {task.description}"),
            console=self._console,
            transient=True,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=1.0, left="?")

    def begin(self, what: str) -> None:
        self._progress.start()
        self._progress.update(self._task, description=what)

    def cell(self, cell: Cell) -> None:
        from rich.text import Text

        self._progress.console.print(Text(in_words(cell)))

    def end(self, fraction: float, left: float) -> None:
        self._progress.update(self._task, completed=fraction, left=minutes(left))

    def close(self) -> None:
        self._progress.stop()


def minutes(seconds: float) -> str:
    """As 4:05."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"
