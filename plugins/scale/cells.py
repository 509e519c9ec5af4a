# SPDX-License-Identifier: Apache-2.0
"""A measured point of one chart, and the file of a run: `scale.json`, with `scale.csv` for spreadsheets.

All values are in SI units: seconds, bytes, bits and events per second, CPU cores.
"""

import csv as tables
import io
import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from clusters.errors import PlumblineError

Unit = Literal["s", "1/s", "bit/s", "B", "cores", "ratio", "count"]
Better = Literal["less", "more", "none"]
Outcome = Literal["measured", "unfit", "left out"]
PERCENTILES = ("p01", "p50", "p90", "p99", "worst")
FORMAT = "plumbline scale 1"
"""What a file begins with; the number rises when an older plumbline would misread it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of one chart: all repeats, and beside each what the limit was.

    `limits` is empty where there is none. `percentiles` are of single samples, where a repeat is many of them, with
    some of the keys p01, p50, p90, p99, worst. Raises ValueError for what cannot be a cell.
    """

    chart: str
    series: str  # which line of the chart beside the system; "" where there is one
    services: int
    endpoints: int  # of each Service
    unit: Unit
    better: Better
    values: tuple[float, ...] = ()
    limits: tuple[float, ...] = ()
    limited_by: str = ""
    percentiles: Mapping[str, float] = field(default_factory=dict)
    failures: int = 0  # connections or requests
    censored: int = 0  # waits that reached their deadline, and are kept as that
    outcome: Outcome = "measured"
    reason: str = ""  # of unfit and left out
    steal: float = 0.0  # share of CPU time that was stolen meanwhile
    note: str = ""

    def __post_init__(self) -> None:
        numbers = (*self.values, *self.limits, *self.percentiles.values(), self.steal)
        problems = (
            (not self.chart, "it names no chart"),
            (self.services < 0 or self.endpoints < 0, "Services and endpoints cannot be fewer than none"),
            (not all(map(math.isfinite, numbers)), "a number of it is not finite"),
            (bool(self.limits) and len(self.limits) != len(self.values), "it has not one limit for each value"),
            (any(limit <= 0 for limit in self.limits), "a limit is not positive"),
            (bool(set(self.percentiles) - set(PERCENTILES)), f"percentiles are {', '.join(PERCENTILES)}"),
            (self.failures < 0 or self.censored < 0, "counts cannot be negative"),
            (self.is_measured and not self.values, "it was measured and has no value"),
            (not self.is_measured and not self.reason, f"it is {self.outcome} without a reason"),
        )
        for is_so, sentence in problems:
            if is_so:
                raise ValueError(f"cell {self.name!r}: {sentence}")

    @property
    def name(self) -> str:
        """Chart, series and size, for people."""
        series = f" {self.series}" if self.series else ""
        return f"{self.chart}{series} at {self.services:,} × {self.endpoints:,}"

    @property
    def key(self) -> tuple[str, str, int, int, Unit]:
        """What the same cell of another run has too."""
        return self.chart, self.series, self.services, self.endpoints, self.unit

    @property
    def is_measured(self) -> bool:
        return self.outcome == "measured"

    @property
    def median(self) -> float:
        """Of the repeats; not a number where nothing was measured."""
        return statistics.median(self.values) if self.values else math.nan

    @property
    def limit(self) -> float | None:
        """The median of the limits."""
        return statistics.median(self.limits) if self.limits else None

    @property
    def spread(self) -> float:
        """(max - min) / median of the repeats."""
        return relative_spread(self.values)

    @property
    def ratios(self) -> tuple[float, ...]:
        """Each value beside its own limit."""
        return tuple(value / limit for value, limit in zip(self.values, self.limits, strict=False))

    @property
    def ratio(self) -> float | None:
        """The median of the ratios; None where there is no limit."""
        ratios = self.ratios
        return statistics.median(ratios) if ratios else None


@dataclass(frozen=True, slots=True)
class Scale:
    """One run: the system, the machine, and all cells. `duration` is of one measurement, in seconds.

    `harness` is what measuring itself costs: seconds where a name ends in "(s)", else shares of what is measured.
    """

    system: str  # "kube-proxy 1.37.1, mode iptables"
    mode: str  # iptables, nftables, ipvs, ebpf, command …
    kernel: str
    hermetic: bool  # whether that kernel is a guest's; its numbers are never compared with a native one's
    cpus: int
    cpu: str
    date: str  # ISO 8601, UTC
    seed: int
    duration: float
    harness: Mapping[str, float] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()


def relative_spread(values: tuple[float, ...]) -> float:
    """(max - min) / median; 0 for fewer than two values, infinite around 0."""
    if len(values) < 2 or max(values) == min(values):
        return 0.0
    middle = abs(statistics.median(values))
    return (max(values) - min(values)) / middle if middle else math.inf


def dump(scale: Scale) -> bytes:
    """The file of a run."""
    whole = {"format": FORMAT, **msgspec.to_builtins(scale)}
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


def load(data: bytes) -> Scale:
    """The run of a file. Raises PlumblineError, one sentence, for what is no such file."""
    try:
        whole: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise PlumblineError("it is not JSON") from None
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise PlumblineError(f'it is no scale.json of this version of plumbline, whose format is "{FORMAT}"')
    try:
        return msgspec.convert(whole, type=Scale)
    except msgspec.ValidationError as error:
        raise PlumblineError(f"it is no whole scale.json: {error}") from None


COLUMNS = (
    *("system", "mode", "kernel", "hermetic", "date", "chart", "series", "services", "endpoints", "unit", "better"),
    *("outcome", "reason", "median", "spread", "limit", "limited_by", "ratio", "repeats", *PERCENTILES),
    *("failures", "censored", "steal", "note", "values", "limits"),
)


def csv(scale: Scale) -> str:
    """A line for each cell, under a header; what there is not is empty."""
    file = io.StringIO()
    writer = tables.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(scale))
    return file.getvalue()


def _rows(scale: Scale) -> Iterator[dict[str, object]]:
    run = {name: getattr(scale, name) for name in ("system", "mode", "kernel", "hermetic", "date")}
    plain = ("chart", "series", "services", "endpoints", "unit", "better", "outcome", "reason", "limited_by")
    for cell in scale.cells:
        yield {
            **run,
            **{name: getattr(cell, name) for name in (*plain, "failures", "censored", "steal", "note")},
            "median": cell.median if cell.values else "",
            "spread": cell.spread if math.isfinite(cell.spread) else "",
            "limit": "" if cell.limit is None else cell.limit,
            "ratio": "" if cell.ratio is None else cell.ratio,
            "repeats": len(cell.values),
            **{name: cell.percentiles.get(name, "") for name in PERCENTILES},
            "values": " ".join(map(repr, cell.values)),
            "limits": " ".join(map(repr, cell.limits)),
        }
