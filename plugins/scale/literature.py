# SPDX-License-Identifier: Apache-2.0
"""What others have published (`literature.yaml`), and how it is laid over what was measured here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from clusters.errors import PlumblineError
from plugins.scale.cells import Cell, Unit

FILE = Path(__file__).with_name("literature.yaml")
INVERSE: Mapping[Unit, Unit] = {"s": "1/s", "1/s": "s"}
"""Of a client that does one thing after the other, how long one takes is how many it does a second."""


@dataclass(frozen=True, slots=True)
class Published:
    """One source's figures for one chart: `points` (Services → SI value) to draw, `says` in words, or both."""

    chart: str
    mode: str  # "": of no mode in particular
    label: str
    source: str
    url: str
    year: int
    series: str = ""  # regular expression
    unit: Unit | None = None
    points: dict[int, float] = field(default_factory=dict)
    says: str = ""

    def __post_init__(self) -> None:
        if not self.url.startswith("https://") or bool(self.points) != (self.unit is not None):
            raise ValueError(f"{self.label}: it needs an https URL, and a unit if it has points")
        if not self.points and not self.says:
            raise ValueError(f"{self.label}: it has neither points nor words")

    def is_about(self, cell: Cell, mode: str) -> bool:
        """Whether a cell, of a run in that mode, is on the line that this is held against."""
        return (
            cell.chart == self.chart
            and mode == self.mode
            and self.unit is not None
            and cell.unit in (self.unit, INVERSE.get(self.unit))
            and re.search(self.series, cell.series, re.IGNORECASE) is not None
        )

    def scaled(self, cells: Sequence[Cell]) -> dict[int, float]:
        """Its points in our cells' range, so high that it meets ours at the fewest Services that both have.

        Empty where there are no two of them, or nothing in common. Cells are those that it is about.
        """
        ours = {cell.services: cell for cell in cells if cell.is_measured and cell.median > 0}
        common = sorted(set(ours) & set(self.points))
        if not common or len(ours) < 2:
            return {}
        first = ours[common[0]]
        inverse = first.unit != self.unit
        points = {services: 1 / value if inverse else value for services, value in self.points.items()}
        factor = first.median / points[common[0]]
        inside = {n: value * factor for n, value in sorted(points.items()) if min(ours) <= n <= max(ours)}
        return inside if len(inside) > 1 else {}


def load(file: Path = FILE) -> tuple[Published, ...]:
    """All that is published. Raises PlumblineError for a file that is wrong."""
    try:
        return msgspec.yaml.decode(file.read_bytes(), type=tuple[Published, ...], strict=True)
    except (msgspec.MsgspecError, OSError, ValueError) as error:
        raise PlumblineError(f"{file.name} is wrong: {error}") from None
