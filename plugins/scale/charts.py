# SPDX-License-Identifier: Apache-2.0
"""Panels as SVG elements."""

from plugins.scale.dots import Dots, height
from plugins.scale.lines import Lines
from plugins.scale.panels import Panel
from plugins.scale.svg import element

WIDTH, HEIGHT = 400, 260  # in the SVG's own units, which are pixels on a screen of that width
LEFT, RIGHT, TOP, BOTTOM = 54, 82, 24, 40
MARGIN = 14  # at both sides of a panel of dots
POINTS = 72  # to an inch
FONT = 12


def draw(panel: Panel, name: str, says: str) -> str:
    """The panel as an SVG element whose ids begin with `name`; `says` is for those who do not see it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    many = panel.has_lines
    tall = HEIGHT if many else TOP + BOTTOM + height(panel)
    # Names of series are text, whatever signs they have.
    with mpl.rc_context({"font.size": FONT, "axes.linewidth": 0.8, "text.parse_math": False}):
        figure = Figure(figsize=(WIDTH / POINTS, tall / POINTS), dpi=POINTS)
        axes = figure.add_subplot()
        left, right = (LEFT, RIGHT) if many else (MARGIN, MARGIN)
        figure.subplots_adjust(left / WIDTH, BOTTOM / tall, 1 - right / WIDTH, 1 - TOP / tall)
        drawing = Lines(axes, panel) if many else Dots(axes, panel)
        drawing.draw()
        return element(figure, name, says, drawing.titles)
