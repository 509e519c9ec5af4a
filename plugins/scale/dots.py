# SPDX-License-Identifier: Apache-2.0
"""A panel in which each point stands alone: under each series' name a row for each run."""

from plugins.scale import quantities as say
from plugins.scale import style
from plugins.scale.drawing import SMALL, Drawing, repeats_of
from plugins.scale.panels import Line, Panel

NAME, ROW = 20, 16  # heights of a series' name, and of a run's row under it


class Dots(Drawing):
    """Under each series' name a row for each run."""

    def draw(self) -> None:
        axes, panel = self._axes, self._panel
        self._frame("x")
        bounds = self._bounds()
        if self._is_log():
            axes.set_xscale("log")
        axes.set_xlim(*bounds)
        axes.set_ylim(height(panel), 0)
        self._tell_values(axes.xaxis, bounds, ", ".join(part for part in (repeats_of(panel), _size(panel)) if part))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        y = 0.0
        for series in panel.all_series:
            axes.text(
                0,
                y + NAME - 3,
                _named(panel, series),
                transform=axes.get_yaxis_transform(),
                va="bottom",
                fontsize=SMALL,
                color=style.colour("ink"),
            )
            y += NAME
            for line in panel.lines:
                if line.series == series:
                    self._row(y + ROW / 2, line)
                    y += ROW

    def _row(self, y: float, line: Line) -> None:
        ink = style.colour(style.look(line.mode).name)
        for cell in line.measured:
            if cell.limit is not None:
                half = ROW / 2 - 1
                self._axes.vlines(cell.limit, y - half, y + half, colors=style.colour("limit"), linewidth=1.6)
            below, above = cell.median - min(cell.values), max(cell.values) - cell.median
            self._axes.errorbar(
                [cell.median], [y], xerr=[[below], [above]], fmt="none", ecolor=ink, capsize=3, zorder=3
            )
            self._point(cell.median, y, line, cell)


def height(panel: Panel) -> float:
    """Of all rows."""
    return NAME * len(panel.all_series) + ROW * len(panel.lines)


def _size(panel: Panel) -> str:
    """How many Services there are, where it is the same number for all."""
    numbers = _numbers(panel)
    return say.services(numbers.pop()) if len(numbers) == 1 else ""


def _named(panel: Panel, series: str) -> str:
    """A series, and its number of Services where others have another."""
    cell = next(cell for line in panel.lines if line.series == series for cell in line.cells)
    size = say.services(cell.services) if len(_numbers(panel)) > 1 else ""
    return ", ".join(part for part in (series, size) if part)


def _numbers(panel: Panel) -> set[int]:
    return {cell.services for line in panel.lines for cell in line.cells}
