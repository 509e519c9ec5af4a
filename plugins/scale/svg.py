# SPDX-License-Identifier: Apache-2.0
"""A figure of matplotlib as an element of a page: text stays text, colours are the page's, names are its own."""

import html
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from plugins.scale.style import painted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEFT_OUT = (
    re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->", re.DOTALL),
    re.compile(r"<metadata>.*?</metadata>", re.DOTALL),
    re.compile(r"<style.*?</style>", re.DOTALL),  # it would hold for the whole page
)
HEAD = re.compile(r"<svg\b[^>]*?viewBox=\"([^\"]*)\"[^>]*>", re.DOTALL)
FONT = re.compile(r"font: ([^;\"]*?)(\d[\d.]*)px [^;\"]*")
FAMILY = re.compile(r"font-family: [^;\"]*")
DIGITS = re.compile(r"(?<=[ \"(,ML-])(-?\d+\.\d{2})\d+")


def element(figure: "Figure", name: str, says: str, titles: Mapping[str, str]) -> str:
    """The figure as `<svg>`, named for those who do not see it.

    `titles` are shown over the parts that have these ids (`gid`). Every id gets `name` before it.
    """
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _cleaned(file.getvalue(), name, says, titles)


def _cleaned(text: str, name: str, says: str, titles: Mapping[str, str]) -> str:
    for pattern in LEFT_OUT:
        text = pattern.sub("", text)
    text = FONT.sub(r"font: \1\2px var(--font)", text)
    text = FAMILY.sub("font-family: var(--font)", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'\b(?:xlink:)?href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    text = DIGITS.sub(r"\1", text)
    text = re.sub(r"\s*\n\s*", "\n", painted(text)).strip()
    # From here on there are people's words in it.
    head = f'role="img" aria-label="{html.escape(says)}"'
    text = HEAD.sub(lambda found: f'<svg viewBox="{found[1]}" {head}>', text, count=1)
    for part, title in titles.items():
        start = f'<g id="{name}-{part}">'
        text = text.replace(start, f"{start}<title>{html.escape(title)}</title>", 1)
    return text
