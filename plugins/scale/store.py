# SPDX-License-Identifier: Apache-2.0
"""Collects a run's cells, and writes scale.json, scale.csv and the page at its end: after Ctrl-C what there is."""

import os
import platform
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from plugins.options import Settings
from plugins.scale import page
from plugins.scale.cells import Cell, Scale, csv, dump
from plugins.scale.settings import DURATION

FILES = ("scale.json", "scale.csv", "scale.html")


@dataclass(slots=True)
class Store:
    """What has been measured so far, in its order."""

    cells: list[Cell] = field(default_factory=list)
    harness: dict[str, float] = field(default_factory=dict)
    sent: int = 0
    tell: Callable[[Cell], None] = lambda _: None

    def unsent(self) -> list[Cell]:
        """What has been measured since this was last asked."""
        new = self.cells[self.sent :]
        self.sent = len(self.cells)
        return new

    def keep(self, cell: Cell) -> None:
        """Add a cell, and tell whoever shows them."""
        self.cells.append(cell)
        self.tell(cell)

    def of(self, chart: str, series: str = "") -> dict[int, Cell]:
        """The measured cells of a line: by how many Services there were."""
        return {
            cell.services: cell
            for cell in self.cells
            if (cell.chart, cell.series) == (chart, series) and cell.is_measured
        }

    def scale(self, settings: Settings) -> Scale:
        """The run as it is written."""
        return Scale(
            system=settings.about(),
            mode=settings.mode,
            kernel=settings.kernel(),
            hermetic=settings.guest is not None,
            cpus=1 if settings.guest else os.cpu_count() or 1,  # a guest has one
            cpu=_cpu(),
            date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            seed=settings.seed,
            duration=settings.duration or DURATION,
            harness=dict(self.harness),
            cells=tuple(self.cells),
        )

    def write(self, settings: Settings) -> list[Path]:
        """Write all files into the report directory; which."""
        scale, directory = self.scale(settings), Path(settings.report)
        contents: Mapping[str, bytes] = {"scale.json": dump(scale), "scale.csv": csv(scale).encode()}
        for name, content in contents.items():
            (directory / name).write_bytes(content)
        page.write([scale], directory / "scale.html")
        return [directory / name for name in FILES]


def _cpu() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace"))
    return found[1] if found else platform.machine()
