# SPDX-License-Identifier: Apache-2.0
"""What locust counted, read from its JSON: requests, times and failures of each kind, in SI units."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from clusters.errors import PlumblineError
from plugins.scale.cells import Cell, Unit
from plugins.world import UnfitError

MILLISECONDS = 0.001
RATES, TIMES = "load", "load-latency"
LIMITED_BY = "locust at the endpoint's own address"
SHARES = ("p50", "p90", "p99", "worst")
# Between two looks at the limit: by more than that, and what was measured between them says nothing.
MAY_MOVE = 0.1
# Texts of failures that are shown; all of them are counted.
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """A way in which requests failed, and how many did."""

    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Requests:
    """All requests of one kind.

    `requests` counts those that failed too, `seconds` is from the first user's start to the last answer. Times are in
    seconds and of all requests; the percentiles are of times that locust has rounded to two digits, `worst` is exact.
    """

    kind: str
    requests: int
    failed: int
    seconds: float
    p50: float
    p90: float
    p99: float
    worst: float
    failures: tuple[Failure, ...] = ()

    @property
    def rate(self) -> float:
        """Requests answered per second."""
        return (self.requests - self.failed) / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """What came of one run of locust: each kind of request, and what else is to be known of it."""

    kinds: tuple[Requests, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        return sum(one.requests for one in self.kinds)

    @property
    def failed(self) -> int:
        return sum(one.failed for one in self.kinds)

    def of(self, kind: str) -> Requests:
        """The requests of a kind. Raises UnfitError where there were none: then nothing was shown."""
        found = next((one for one in self.kinds if one.kind == kind), None)
        if found is None or not found.requests:
            raise UnfitError(
                f"locust has made no request of the kind {kind!r}: this machine was too busy with others"
            )
        return found

    def only(self, kinds: Iterable[str]) -> "Load":
        """These kinds alone. Raises UnfitError where there was no request of one of them."""
        return Load(tuple(self.of(kind) for kind in kinds), self.notes)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the rates."""
        kinds = [{**asdict(one), "rate": round(one.rate, 1)} for one in self.kinds]
        return {"requests": self.requests, "failed": self.failed, "kinds": kinds, **self.notes}


def read(text: str, errors: Sequence[Mapping[str, Any]]) -> tuple[Requests, ...]:
    """locust's JSON (`--json-file`), and the texts of its failures, as users.py tells them.

    Raises PlumblineError for what is no such JSON.
    """
    try:
        entries = msgspec.json.decode(text, type=list[dict[str, Any]])
        return tuple(_requests(entry, errors) for entry in entries)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlumblineError(f"locust has written no JSON that can be understood: {error!r}") from None


def _requests(entry: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> Requests:
    times = {float(time): int(count) for time, count in entry["response_times"].items()}
    mine = [Failure(str(one["error"]), int(one["count"])) for one in errors if one["name"] == entry["name"]]
    p50, p90, p99 = (percentile(times, share) * MILLISECONDS for share in (0.5, 0.9, 0.99))
    return Requests(
        kind=str(entry["name"]),
        requests=int(entry["num_requests"]),
        failed=int(entry["num_failures"]),
        seconds=max(float(entry["last_request_timestamp"] or 0) - float(entry["start_time"]), 0.0),
        p50=p50,
        p90=p90,
        p99=p99,
        worst=float(entry["max_response_time"]) * MILLISECONDS,
        failures=tuple(sorted(mine, key=lambda one: -one.count)),
    )


def percentile(times: Mapping[float, int], share: float) -> float:
    """The time within which this share of requests was answered (nearest rank); 0 where there was none."""
    left = share * sum(times.values())
    for time in sorted(times):
        left -= times[time]
        if left <= 0:
            return time
    return max(times, default=0.0)


def in_words(load: Load) -> str:
    """One line: all kinds, and the first failures by name."""
    kinds = ", ".join(
        f"{one.kind} {one.requests} ({one.rate:.0f}/s, p50 {one.p50 * 1000:g} ms, p99 {one.p99 * 1000:g} ms)"
        for one in load.kinds
    )
    return f"{load.failed} of {load.requests} requests failed{failures_in_words(load)}: {kinds}"


def failures_in_words(load: Load) -> str:
    """The first texts of what failed, each with its number; empty where nothing did."""
    every = [(one.kind, failure) for one in load.kinds for failure in one.failures]
    every.sort(key=lambda pair: -pair[1].count)
    shown = [f"{failure.count} × {kind}: {failure.text}" for kind, failure in every[:SHOWN]]
    more = sum(failure.count for _, failure in every[SHOWN:])
    return f" [{'; '.join([*shown, *([f'{more} others'] if more else [])])}]" if shown else ""


def must_have_answered(load: Load, what: str) -> None:
    """Every request was answered. Raises AssertionError that names what failed."""
    __tracebackhide__ = True
    assert load.failed == 0, f"{load.failed} of {load.requests} requests failed {what}{failures_in_words(load)}"


def entry_in_words(entry: Mapping[str, Any]) -> str:
    """A line for one entry of load.json."""
    rates = ", ".join(
        f"{kind['kind']} {kind['rate']:.0f}/s (p50 {kind['p50'] * 1000:g} ms)" for kind in entry["kinds"]
    )
    limit = entry.get("limit")
    beside = f"; without the Service {limit['rate']:.0f}/s" if limit else ""
    return f"{entry['scenario']}: {entry['failed']} of {entry['requests']} requests failed: {rates}{beside}"


def load_cells(entries: Iterable[Mapping[str, Any]]) -> tuple[Cell, ...]:
    """The scenarios of load.json as cells of two charts: requests per second of each kind, and how long they took.

    Where locust's own limit was measured before and after, and had moved by more than a tenth, they are unfit. Each
    was looked at once and has no spread, so that a later run can be compared with it by its failures alone.
    """
    return tuple(cell for entry in entries for kind in entry["kinds"] for cell in _cells(entry, kind))


def _cells(entry: Mapping[str, Any], kind: Mapping[str, Any]) -> Iterator[Cell]:
    limit: Mapping[str, float] = entry.get("limit") or {}
    moved = limit.get("moved", 0.0)
    is_fit = moved <= MAY_MOVE
    charts: tuple[tuple[str, Unit, str], ...] = ((RATES, "1/s", "rate"), (TIMES, "s", "p50"))
    for chart, unit, value in charts:
        beside = limit.get("rate" if chart == RATES else "p50", 0.0)
        yield Cell(
            chart=chart,
            series=f"{entry['requirement'].removeprefix('load.')}: {kind['kind']}",
            services=1,
            endpoints=int(entry["endpoints"]),
            unit=unit,
            better="none",
            values=(float(kind[value]),) if is_fit else (),
            limits=(float(beside),) if beside > 0 and is_fit else (),
            limited_by=LIMITED_BY if limit else "",
            percentiles={name: float(kind[name]) for name in SHARES} if is_fit and chart == TIMES else {},
            failures=int(kind["failed"]),
            outcome="measured" if is_fit else "unfit",
            reason="" if is_fit else f"{LIMITED_BY} moved by {moved:.0%} meanwhile",
        )
