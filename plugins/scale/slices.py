# SPDX-License-Identifier: Apache-2.0
"""One Service with thousands of endpoints, in slices of a hundred, of which one is replaced at a time.

That is why there are slices: a change costs what one of them holds, not what the Service has.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from clusters.errors import PlumblineError
from clusters.measure import services as named
from clusters.measure.whom import Awaited, dial, watching
from plugins.scale import quantities as say
from plugins.scale.bench import Bench
from plugins.scale.cells import Cell, Unit
from plugins.scale.more import endpoints, remove
from plugins.scale.usage import await_quiet, proxy_seconds

A_SLICE = 100
"""Endpoints that a slice holds at most, unless the control plane is told otherwise."""
MOST_REPLACED, SECONDS = 3, 4.0
"""So many slices are replaced, fewer the longer that takes, and one at least."""
DEADLINE = 120.0
# Of so many connections that others answered, a hundredth of all endpoints would have had none once in 10^13.
CALM_SHARE = 30


@dataclass(frozen=True, slots=True)
class Replacement:
    """One slice's endpoints replaced: bytes written, seconds until the first new one answers and after which no old
    one does (None: not before the deadline), and the proxy's CPU seconds.

    `resolution` is in how many seconds one connection to any of them is to be expected: nothing is seen earlier.
    """

    bytes: int
    added: float | None
    removed: float | None
    cpu: float
    resolution: float

    @property
    def seconds(self) -> float:
        """Until it was in force."""
        return max(DEADLINE if one is None else one for one in (self.added, self.removed))


@dataclass(slots=True)
class Sliced:
    """A Service with so many endpoints."""

    bench: Bench
    number: int
    count: int
    next_endpoint: int

    def replaced(self) -> list[Replacement]:
        """Some slices, one after the other."""
        found: list[Replacement] = []
        while len(found) < MOST_REPLACED and sum(one.seconds for one in found) < SECONDS:
            found.append(self.replace(len(found)))
        return found

    def replace(self, place: int) -> Replacement:
        """Give one slice other endpoints: those of a rolling update, a hundred at a time. Raises PlumblineError."""
        bench, old = self.bench, slice_endpoints(self.bench, place)
        new = endpoints(bench, self.next_endpoint, A_SLICE)
        self.next_endpoint += A_SLICE
        body = slice_body(bench, self.number, place, new)
        request = bench.api.request("PUT", f"{named.SLICES}/{slice_name(self.number, place)}", body)
        deadline = DEADLINE * bench.settings.deadline_scale
        target, calm = bench.service(self.number), CALM_SHARE * self.count // A_SLICE
        await_quiet(bench)
        with watching(bench.stage.traffic, bench.client) as watcher:
            watcher.expect(Awaited(target, "+", new[0], new[-1], deadline))
            watcher.expect(Awaited(target, "-", old[0], old[-1], deadline, calm))
            before = proxy_seconds(bench)
            sent = time.monotonic()
            bench.api.send(request)
            bench.api.answered()
            came = watcher.came()
            each = (time.monotonic() - sent) / sum(one.answers + one.failures for one in came.values())
        await_quiet(bench)
        resolution = each * self.count / A_SLICE
        added, removed = (max(resolution, one.at - sent) if one.in_time else None for one in (came[0], came[1]))
        return Replacement(len(body), added, removed, proxy_seconds(bench) - before, resolution)


@contextmanager
def sliced(bench: Bench, count: int) -> Iterator[Sliced]:
    """A Service with so many endpoints, in force; it is deleted after the block. Raises PlumblineError."""
    number, places = bench.services, range(count // A_SLICE)
    api = bench.api
    try:
        api.write_all([api.request("POST", named.SERVICES, bench.shape.service(number))])
        api.write_all(
            api.request("POST", named.SLICES, slice_body(bench, number, place, slice_endpoints(bench, place)))
            for place in places
        )
        bench.settle()
        bench.serve("tell")
        answers = dial(bench.stage.traffic, bench.client, [(bench.service(number), 0)] * A_SLICE)
        if None in answers:
            raise PlumblineError(f"a Service with {count:,} endpoints is not in force")
        yield Sliced(bench, number, count, count)
    finally:
        paths = [f"{named.SLICES}/{slice_name(number, place)}" for place in places]
        remove(bench, [f"{named.SERVICES}/{named.name(number)}", *paths])
        bench.settle()


def slice_endpoints(bench: Bench, place: int) -> Sequence[str]:
    """Those that a slice has at first."""
    return endpoints(bench, place * A_SLICE, A_SLICE)


def slice_name(number: int, place: int) -> str:
    return f"{named.name(number)}-{place}"


def slice_body(bench: Bench, number: int, place: int, addresses: Sequence[str]) -> bytes:
    """A slice as it is written whole."""
    body = json.loads(bench.shape.slice(number, addresses))
    body["metadata"]["name"] = slice_name(number, place)
    return json.dumps(body, separators=(",", ":")).encode()


def keep(bench: Bench, count: int, found: Sequence[Replacement]) -> None:
    """Cells of what replacing a slice takes, of a Service with so many endpoints."""
    resolution = max(one.resolution for one in found)
    seen = f"a connection to one of the {A_SLICE} is expected each {say.quantity(resolution, 's')}"
    told: Sequence[tuple[str, Unit, Sequence[float | None], str]] = (
        ("bytes written", "B", [float(one.bytes) for one in found], ""),
        ("CPU of the proxy", "s", [one.cpu for one in found], ""),
        ("first new endpoint", "s", [one.added for one in found], seen),
        ("last old endpoint", "s", [one.removed for one in found], seen),
    )
    for series, unit, values, note in told:
        known = tuple(one for one in values if one is not None)
        late = len(values) - len(known)
        bench.add(
            Cell(
                chart="slices",
                series=series,
                services=bench.services,
                endpoints=count,
                unit=unit,
                better="less",
                values=() if late else known,
                censored=late,
                outcome="unfit" if late else "measured",
                reason=f"{late} of {len(values)} replacements were not in force after {DEADLINE:g} s" if late else "",
                note=note,
            )
        )
