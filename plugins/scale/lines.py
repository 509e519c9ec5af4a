# SPDX-License-Identifier: Apache-2.0
"""A panel over the number of Services, or of endpoints.

Steps between the numbers that were measured are equal, and their logarithms are in proportion within each. Bars at a
point reach from the least repeat to the most; a band, from the 1st to the 99th percentile of single samples.
"""

import itertools
import math
from collections.abc import Sequence

from plugins.scale import quantities as say
from plugins.scale import style
from plugins.scale.cells import Cell
from plugins.scale.drawing import SMALL, Drawing, repeats_of, tooltip
from plugins.scale.panels import Line

LONGEST = 14  # characters of a label beside its line
GAP = 13  # between such labels


class Lines(Drawing):
    """Over the number of Services, or of endpoints."""

    def draw(self) -> None:
        axes, panel = self._axes, self._panel
        self._frame("y")
        bounds = self._bounds()
        if self._is_log():
            axes.set_yscale("log")
        axes.set_ylim(*bounds)
        axes.set_xlim(-0.3, len(panel.ticks) - 0.85)
        self._tell_values(axes.yaxis, bounds, repeats_of(panel))
        axes.set_xticks(range(len(panel.ticks)), [say.short(tick) for tick in panel.ticks])
        axes.set_xlabel("endpoints" if panel.by_endpoints else "Services", fontsize=SMALL, color=style.colour("soft"))
        for overlay in panel.overlays:
            xs = [self._x(services) for services in overlay.points]
            axes.plot(xs, list(overlay.points.values()), color=style.colour("published"), linewidth=1.2, zorder=1)
        for limit in panel.limits:
            xs = [self._x(at) for at in limit.points]
            middle, least, most = zip(*limit.points.values(), strict=True)
            dash = style.LIMIT_DASH[0]
            # A limit that is known at one place is no line.
            marker = "_" if len(xs) == 1 else ""
            axes.fill_between(xs, least, most, color=style.colour("limit"), alpha=0.18, linewidth=0, zorder=1)
            axes.plot(
                xs,
                middle,
                color=style.colour("limit"),
                linestyle=dash,
                linewidth=1.3,
                marker=marker,
                markersize=18,
                zorder=2,
            )
        for line in panel.lines:
            self._line(line)
        for line in panel.blank:
            for cell in line.cells:
                self._missing(self._x(panel.at(cell)), line, cell)
        self._labels()

    def _x(self, at: int) -> float:
        """Equal steps between ticks, the logarithm within each."""
        ticks = self._panel.ticks
        for place, (low, high) in enumerate(itertools.pairwise(ticks)):
            if at <= high:
                if low <= 0:
                    return place + (at - low) / (high - low)
                return place + math.log(at / low) / math.log(high / low)
        return len(ticks) - 1.0

    def _line(self, line: Line) -> None:
        axes, look = self._axes, style.look(line.mode)
        ink = style.colour(look.name)
        dash = style.dash(self._panel.all_series.index(line.series))[0]
        # What is not there is a gap, not a shorter way.
        ys = [cell.median if cell.is_measured else math.nan for cell in line.cells]
        xs = [self._x(self._panel.at(cell)) for cell in line.cells]
        axes.plot(xs, ys, color=ink, linestyle=dash, linewidth=1.8, zorder=3)
        banded = [(x, cell.percentiles) for x, cell in zip(xs, line.cells, strict=True) if _has_band(cell)]
        if len(banded) == len(line.measured) > 1 == len(self._panel.lines):
            low, high = [one["p01"] for _, one in banded], [one["p99"] for _, one in banded]
            axes.fill_between([x for x, _ in banded], low, high, color=ink, alpha=0.09, linewidth=0, zorder=1)
        for x, cell in zip(xs, line.cells, strict=True):
            if cell.is_measured:
                below, above = cell.median - min(cell.values), max(cell.values) - cell.median
                axes.errorbar([x], [cell.median], [[below], [above]], fmt="none", ecolor=ink, capsize=3, zorder=3)
                self._point(x, cell.median, line, cell)
            else:
                self._missing(x, line, cell)

    def _missing(self, x: float, line: Line, cell: Cell) -> None:
        """A mark on the axis where a cell is unfit (a cross) or was left out (a ring)."""
        axes = self._axes
        axes.plot(
            [x + 0.07 * line.run],
            [0.035],
            marker="x" if cell.outcome == "unfit" else "o",
            markersize=6,
            markerfacecolor="none",
            color=style.colour(style.look(line.mode).name),
            linestyle="none",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            gid=self._titled(tooltip(line, cell)),
            zorder=5,
        )

    def _labels(self) -> None:
        """Names beside the lines' ends, moved apart where they would lie on each other."""
        wanted = [
            *((line.measured[-1].median, *self._name(line)) for line in self._panel.lines if line.measured),
            *((list(limit.points.values())[-1][0], "limit", "limit") for limit in self._panel.limits),
            *((list(each.points.values())[-1], f"[{each.number}]", "published") for each in self._panel.overlays),
        ]
        axes = self._axes
        bottom, top = axes.bbox.y0, axes.bbox.y1
        named = [(axes.transData.transform((0, y))[1], text, ink) for y, text, ink in wanted if text]
        placed = sorted((min(y, top), text, ink) for y, text, ink in named)
        for y, (_, text, ink) in zip(_apart([y for y, _, _ in placed], bottom, top), placed, strict=True):
            x = axes.bbox.x1 + 4
            axes.annotate(
                text,
                (x, y),
                xycoords="figure pixels",
                fontsize=SMALL,
                va="center",
                color=style.colour(ink),
                annotation_clip=False,
            )

    def _name(self, line: Line) -> tuple[str, str]:
        """What a line is called beside its end, and in which colour; the legend has the rest."""
        panel = self._panel
        alone = len({other.run for other in panel.lines}) == 1
        name = line.series if alone and len(panel.all_series) > 1 else line.mode
        if not alone and len(panel.all_series) > 1 and line.series != panel.all_series[0]:
            name = ""
        return (name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"), style.look(line.mode).name


def _has_band(cell: Cell) -> bool:
    return cell.is_measured and {"p01", "p99"} <= set(cell.percentiles)


def _apart(wanted: Sequence[float], low: float, high: float) -> list[float]:
    """Places in that order, at least GAP from each other, as near to those wanted as a walk up and down finds."""
    places = list(wanted)
    for place in range(1, len(places)):
        places[place] = max(places[place], places[place - 1] + GAP)
    if places and places[-1] > high:
        places[-1] = high
    for place in range(len(places) - 2, -1, -1):
        places[place] = min(places[place], places[place + 1] - GAP)
    return [max(each, low) for each in places]
