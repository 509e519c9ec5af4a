# SPDX-License-Identifier: Apache-2.0
"""How things look: a colour and a marker for each mode, a dash for each series, and what becomes of them in a page.

Charts are drawn in colours that stand for something; the page's style sheet says what each is, in light and in dark.
The colours of modes are Okabe and Ito's, which people tell apart who see few colours; markers say the same again.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """Of a mode: the name of its colour, and matplotlib's and the legend's marker."""

    name: str
    marker: str
    sign: str


LOOKS: Mapping[str, Look] = {
    "iptables": Look("iptables", "o", "●"),
    "nftables": Look("nftables", "s", "■"),
    "ipvs": Look("ipvs", "D", "◆"),
    "ebpf": Look("ebpf", "^", "▲"),
}
OTHER = Look("other", "v", "▼")
# matplotlib wants colours, so each name stands in the drawing as one that nothing else has.
INKS = ("ink", "soft", "faint", "paper", "limit", "published", *(look.name for look in LOOKS.values()), OTHER.name)
STAND_INS: Mapping[str, str] = {name: f"#fe{number:02x}01" for number, name in enumerate(INKS, 1)}
# (matplotlib's dash in strokes, SVG's in pixels): one for each series of a panel, over again after the last.
DASHES: tuple[tuple[object, str], ...] = (
    ("-", ""),
    ((0, (5, 2)), "9 3.6"),
    ((0, (1.5, 1.5)), "2.7 2.7"),
    ((0, (6, 2, 1.5, 2)), "11 3.6 2.7 3.6"),
)
LIMIT_DASH: tuple[object, str] = ((0, (9, 4)), "9 4")


def look(mode: str) -> Look:
    return LOOKS.get(mode, OTHER)


def colour(name: str) -> str:
    """The stand-in of a colour's name, for matplotlib."""
    return STAND_INS[name]


def dash(place: int) -> tuple[object, str]:
    """Of a panel's series with that place."""
    return DASHES[place % len(DASHES)]


def painted(svg: str) -> str:
    """The drawing with style sheet variables in place of stand-ins."""
    for name, stand_in in STAND_INS.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    return svg
