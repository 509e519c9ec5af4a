# SPDX-License-Identifier: Apache-2.0
"""Times that were waited for, of which some reached their deadline: those are kept, as longer than it.

Left out, they would make everything else look quicker than it was; taken for the deadline, they would pretend to have
ended then. So a percentile that falls among them is not a number, but "longer than".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plugins.scale import quantities as say
from plugins.scale.bench import Bench
from plugins.scale.cells import Cell

PARTS: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Waits:
    """What was seen within the deadline, in seconds, and how many waits reached it. Raises ValueError for none."""

    seen: tuple[float, ...]
    censored: int
    deadline: float

    def __post_init__(self) -> None:
        if not self.count:
            raise ValueError("nothing was waited for")

    @property
    def count(self) -> int:
        return len(self.seen) + self.censored

    def percentile(self, part: float) -> float | None:
        """None where it falls among those that reached the deadline: it is longer than that."""
        place = min(int(self.count * part), self.count - 1)
        return sorted(self.seen)[place] if place < len(self.seen) else None

    def in_words(self, part: float) -> str:
        """Such as "1.21 s", or "> 10 s"."""
        value = self.percentile(part)
        return f"> {say.quantity(self.deadline, 's')}" if value is None else say.quantity(value, "s")

    @property
    def known(self) -> Mapping[str, float]:
        """Those percentiles that are numbers."""
        found = {name: self.percentile(part) for name, part in PARTS.items()}
        return {name: value for name, value in found.items() if value is not None}


def waits(came: Sequence[float | None], deadline: float) -> Waits:
    """None is one that did not come in time."""
    seen = tuple(one for one in came if one is not None)
    return Waits(seen, len(came) - len(seen), deadline)


def keep(
    bench: Bench, chart: str, series: str, found: Waits, limit: Waits, limited_by: str, *, failures: int = 0
) -> None:
    """Cells of p50, p90 and p99, each beside the limit's; one that is no number says so."""
    whole = ", ".join(f"{name} {found.in_words(part)}" for name, part in PARTS.items())
    for name, part in PARTS.items():
        value, beside = found.percentile(part), limit.percentile(part)
        cell = Cell(
            chart=chart,
            series=f"{series}, {name}",
            services=bench.services,
            endpoints=bench.shape.each,
            unit="s",
            better="less",
            values=() if value is None else (value,),
            limits=() if value is None or not beside else (beside,),
            limited_by=limited_by if value is not None and beside else "",
            percentiles=found.known if name == "p50" else {},
            failures=failures,
            censored=found.censored,
            outcome="unfit" if value is None else "measured",
            reason=f"{name} {found.in_words(part)}: {found.censored} of {found.count} waits reached their deadline"
            if value is None
            else "",
            note=f"{found.count} waits: {whole}",
        )
        bench.add(cell)
