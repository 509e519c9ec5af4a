# SPDX-License-Identifier: Apache-2.0
"""What drawings of panels have in common: a frame, an axis of values, markers, and what a pointer brings up."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from plugins.scale import quantities as say
from plugins.scale import style
from plugins.scale.cells import Cell
from plugins.scale.panels import Line, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = 11  # of a font
LOG_FROM = 50.0  # ratio of most to least from which an axis is logarithmic
HEADROOM = 1.08
FARTHEST = 2.0  # times the greatest median: so far a bar is shown


class Drawing:
    """Draws a panel into axes. `titles` are what a pointer brings up over parts with these ids."""

    def __init__(self, axes: "Axes", panel: Panel) -> None:
        self._axes = axes
        self._panel = panel
        self.titles: dict[str, str] = {}

    def draw(self) -> None:
        raise NotImplementedError

    def _frame(self, grid: str) -> None:
        axes, ink = self._axes, style.colour
        axes.set_facecolor("none")
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(ink("faint"))
        axes.tick_params(colors=ink("soft"), labelsize=SMALL, length=3)
        axes.tick_params(which="minor", length=0)
        axes.grid(True, axis=grid, color=ink("faint"), linewidth=0.6)  # type: ignore[arg-type]
        axes.set_axisbelow(True)

    def _medians(self) -> Iterator[float]:
        """Of cells and limits: what the axis of values must have room for."""
        for line in self._panel.lines:
            yield from (cell.median for cell in line.measured)
        for limit in self._panel.limits:
            yield from (median for median, _, _ in limit.points.values())

    def _is_log(self) -> bool:
        medians = list(self._medians())
        return min(medians) > 0 and max(medians) > LOG_FROM * min(medians)

    def _bounds(self) -> tuple[float, float]:
        """A repeat far off is not worth an axis on which nothing else can be seen: its bar leaves the chart."""
        medians = list(self._medians())
        repeats = [each for line in self._panel.lines for cell in line.measured for each in cell.values]
        most = min(max(medians + repeats), FARTHEST * max(medians)) if max(medians) > 0 else 0.0
        if self._is_log():
            return min(medians) / 1.5, most * 1.5
        return min(0.0, *medians, *repeats) * HEADROOM, (most * HEADROOM or 1.0)

    def _tell_values(self, axis: Any, bounds: tuple[float, float], label: str) -> None:
        """Ticks of the axis of values, in one size that is named once; each with its own on a logarithmic axis."""
        from matplotlib.ticker import FuncFormatter, NullFormatter

        unit = self._panel.unit
        if self._is_log():
            axis.set_major_formatter(FuncFormatter(lambda value, _: say.rough(value, unit)))
            axis.set_minor_formatter(NullFormatter())
            name = ""
        else:
            per, name = say.size(max(map(abs, bounds)), unit)
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(value / per, 9):,.6g}"))
        told = ", ".join(part for part in (name, label) if part)
        self._axes.set_title(told, loc="left", fontsize=SMALL, color=style.colour("soft"))

    def _titled(self, title: str) -> str:
        """An id for a part of the drawing over which this is shown."""
        ident = f"p{len(self.titles)}"
        self.titles[ident] = title
        return ident

    def _hollow(self, line: Line) -> bool:
        """Whether another run of the same mode came before: its markers are filled."""
        return any(other.mode == line.mode and other.run < line.run for other in self._panel.lines)

    def _point(self, x: float, y: float, line: Line, cell: Cell) -> None:
        look = style.look(line.mode)
        self._axes.plot(
            [x],
            [y],
            marker=look.marker,
            markersize=6,
            color=style.colour(look.name),
            markerfacecolor=style.colour("paper" if self._hollow(line) else look.name),
            markeredgewidth=1.2,
            linestyle="none",
            gid=self._titled(tooltip(line, cell)),
            zorder=4,
        )


def tooltip(line: Line, cell: Cell) -> str:
    """All that there is to say of a point, in one line."""
    who = ", ".join(part for part in (line.system, cell.series, say.services(cell.services)) if part)
    if not cell.is_measured:
        return f"{who}: {cell.outcome}: {cell.reason}"
    ratio = f", {say.times(cell.ratio)} {cell.limited_by or 'the limit'}" if cell.ratio is not None else ""
    failed = f", {cell.failures:,} failed" if cell.failures else ""
    spread = f" (spread {say.percent(cell.spread)})" if len(cell.values) > 1 else ""
    return f"{who}: {say.quantity(cell.median, cell.unit)}{spread}{ratio}{failed}"


def repeats_of(panel: Panel) -> str:
    """What each point is, as far as it is the same for all."""
    repeats = {len(cell.values) for line in panel.lines for cell in line.measured}
    if repeats == {1}:
        return ""
    return f"median of {repeats.pop()} runs" if len(repeats) == 1 else "median"
