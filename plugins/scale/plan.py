# SPDX-License-Identifier: Apache-2.0
"""What a run measures in which order, how long it will take, and what a `--budget` leaves out.

Services are only ever added, so what is measured at the fewest comes first. What is worth most is what the budget is
spent on: a chart's own worth, and of its points first the ends of the line, then what lies between.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

TYPICAL = 10.0
TELLING = 10.0
"""Seconds that a run must have been expected to take until now, before it tells how slow the machine is."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A chart's worth (more is better), and what one point of it takes, in seconds.

    `measurements`: so many times the length of one measurement with its limits; `fixed`: whatever else; `syncs`: so
    many times what the proxy needs to start with all Services.
    """

    worth: int
    measurements: float = 0.0
    fixed: float = 1.0
    syncs: float = 0.0


# One entry for each chart; tests of a chart share its points.
CHARTS: Mapping[str, Cost] = {
    "first-packet": Cost(100, measurements=3),
    "update": Cost(95, fixed=2.5, syncs=0.15),
    "rate": Cost(90, measurements=2, fixed=2.0),
    "cold": Cost(85, fixed=4.5, syncs=0.6),
    "programming": Cost(80, fixed=11.0, syncs=0.08),
    "keepalive": Cost(75, measurements=3, fixed=1.5),
    "jitter": Cost(70, measurements=4, fixed=12.0, syncs=0.05),
    "cpu": Cost(65, measurements=2, fixed=3.0),
    "correctness": Cost(60, syncs=0.1),
    "hop": Cost(55, measurements=12, fixed=11.0),
    "memory": Cost(50, fixed=0.1),
    "throughput": Cost(45, measurements=3, fixed=3.0),
    "slices": Cost(40, fixed=9.0),
    "conntrack": Cost(35, measurements=3, fixed=3.5),
    "fairness": Cost(30, fixed=3.0, syncs=0.06),
    "maglev": Cost(25, fixed=5.0),
    # Judged from what others have measured.
    "control": Cost(110, fixed=0.1),
    "reference": Cost(110, fixed=0.1),
}
UNKNOWN = Cost(50, fixed=TYPICAL)
# A measurement of a second takes so long with the limits between its repeats, and the starts of the client.
WITH_LIMITS = 2.6
# Seconds that a proxy needs until all Services are in force: for 1,000, and how it grows (a power of their number).
# Orders of magnitude, of kube-proxy 1.37 with iptables 1.8.9 (nf_tables) and nft 1.0.6, are what a budget needs: at
# 10,000 Services mode iptables was seen to need 73 s, and 198 s.
SYNC: Mapping[str, tuple[float, float]] = {
    "iptables": (0.6, 2.2),
    "nftables": (0.7, 2.0),
    "ipvs": (5.0, 1.0),
    "ebpf": (0.6, 0.2),
}
# Writing a Service to the API server; and some Services at a time are in force sooner than all of them at a start.
LOAD, GROWING = 1.5e-4, 0.2


@dataclass(frozen=True, slots=True)
class Point:
    """One test at one number of Services: `number` is its place in the order of the run."""

    test: str
    chart: str
    services: int


def chart_of(requirement: str) -> str:
    """The chart that a requirement measures: the second word of its id, as in `scale.first-packet.latency`."""
    return requirement.split(".")[1]


def sync_seconds(mode: str, services: int) -> float:
    """About how long a proxy needs to put so many Services into force from nothing."""
    at_thousand, power = SYNC.get(mode, SYNC["nftables"])
    return float(max(0.3, at_thousand * (services / 1000) ** power))


def seconds(point: Point, mode: str, duration: float) -> float:
    """About how long a point takes, without the loading of Services."""
    cost = CHARTS.get(point.chart, UNKNOWN)
    return cost.fixed + cost.measurements * duration * WITH_LIMITS + cost.syncs * sync_seconds(mode, point.services)


def loading(services: int, mode: str) -> float:
    """About how long it takes until so many Services are there and in force."""
    return services * LOAD + GROWING * sync_seconds(mode, services)


def worth(point: Point, ladder: Sequence[int]) -> tuple[int, int]:
    """What comes first when there is not time for everything."""
    place = ladder.index(point.services) if point.services in ladder else 0
    is_end = place in (0, len(ladder) - 1)
    return int(is_end), CHARTS.get(point.chart, UNKNOWN).worth


def chosen(
    points: Sequence[Point], mode: str, duration: float, ladder: Sequence[int], budget: float | None
) -> frozenset[Point]:
    """The points that there is time for, the worthiest first; all where there is no budget."""
    if budget is None:
        return frozenset(points)
    kept: set[Point] = set()
    loaded: set[int] = set()
    left = budget
    for point in sorted(points, key=lambda one: worth(one, ladder), reverse=True):
        cost = seconds(point, mode, duration)
        if point.services not in loaded:
            cost += loading(point.services, mode)
        if cost <= left:
            kept.add(point)
            loaded.add(point.services)
            left -= cost
    return frozenset(kept)


@dataclass(slots=True)
class Plan:
    """What a run measures, and until when."""

    points: Mapping[str, Point]  # by test, in the order of the run
    chosen: frozenset[Point]
    expected: Mapping[str, float]  # seconds, by test
    ladder: Sequence[int]
    budget: float | None
    began: float = field(default_factory=time.monotonic)
    _begun: float = 0.0  # seconds, expected of what has been begun

    @classmethod
    def of(
        cls, points: Mapping[str, Point], mode: str, duration: float, ladder: Sequence[int], budget: float | None
    ) -> Self:
        """A plan of points by their tests, in the order of the run."""
        those = chosen(list(points.values()), mode, duration, ladder, budget)
        expected: dict[str, float] = {}
        seen: set[int] = set()
        for test, point in points.items():
            is_first = point in those and point.services not in seen
            seen |= {point.services} if is_first else set()
            expected[test] = seconds(point, mode, duration) + (loading(point.services, mode) if is_first else 0)
        return cls(points, those, expected, ladder, budget)

    def why_left_out(self, test: str, now: float | None = None) -> str:
        """One phrase; empty for what is measured, and about to be.

        A run that is slower than was expected has to leave out more, and leaves out what is worth least: nothing is
        begun that would take the time of something worthier that comes after it. `now`: seconds since the beginning.
        """
        if self.budget is None:
            return ""
        cost = self.expected[test]
        if self.points[test] not in self.chosen:
            return f"--budget={self.budget:g}s has no time for it (about {cost:.0f} s)"
        passed = time.monotonic() - self.began if now is None else now
        slower = max(1.0, passed / self._begun) if self._begun > TELLING else 1.0
        if slower * (cost + self._worthier_after(test)) > self.budget - passed:
            return f"--budget={self.budget:g}s is all but used up (it takes about {slower * cost:.0f} s)"
        self._begun += cost
        return ""

    def _worthier_after(self, test: str) -> float:
        """Seconds of all that comes after a test and is worth more."""
        tests = list(self.points)
        worth_it = worth(self.points[test], self.ladder)
        later = [one for one in tests[tests.index(test) + 1 :] if self.points[one] in self.chosen]
        return sum(self.expected[one] for one in later if worth(self.points[one], self.ladder) > worth_it)
