# SPDX-License-Identifier: Apache-2.0
"""Network programming latency as users have it: the proxy's default sync, adds and removals at a fixed rate.

An added endpoint counts from the API write to the first connection that it answers, a removed one until the last one
that it does. Every change is of a Service of its own, so that none is overtaken by the next.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clusters.measure import services as named
from clusters.measure.whom import Awaited, Came, watching
from plugins.scale.bench import Bench
from plugins.scale.more import added, endpoints
from plugins.scale.updates import events
from plugins.scale.waits import Waits, waits

ADDED, REMOVED = "endpoint added", "endpoint removed"
CHANGES, RATE = 60, 10
DEADLINE = 15.0
"""Seconds, before --deadline-scale: several of kube-proxy's periods, and what a sync of many Services takes."""
# Of two endpoints at random one is not met so many times in a row once in a thousand thousand million.
CALM = 40


@dataclass(frozen=True, slots=True)
class Programmed:
    """One kind of change: what clients saw, and when one who watches the API was told.

    Nothing is seen sooner than in `resolution` seconds: so often each Service was dialled.
    """

    seen: Waits
    told: Waits
    failures: int
    resolution: float


def programming(bench: Bench) -> Mapping[str, Programmed]:
    """As many changes of each kind, in turns, at a fixed rate."""
    deadline = DEADLINE * bench.settings.deadline_scale
    own, other = endpoints(bench, 0, CHANGES), endpoints(bench, CHANGES, CHANGES)
    # In turns: one endpoint, which gets a second, and two, of which one goes.
    first = [[own[place]] if place % 2 == 0 else [own[place], other[place]] for place in range(CHANGES)]
    with added(bench, first) as numbers, events(bench, _all_of(numbers)) as told:
        bench.serve("tell")
        bench.lab.forget_flows()
        with watching(bench.stage.traffic, bench.client) as watcher:
            sent = []
            began = time.monotonic()
            for place, number in enumerate(numbers):
                time.sleep(max(0.0, began + place / RATE - time.monotonic()))
                is_added = place % 2 == 0
                watched = other[place] if is_added else own[place]
                after = [own[place], other[place]] if is_added else [other[place]]
                path = f"{named.SLICES}/{named.slice_name(number)}"
                watcher.expect(
                    Awaited(bench.service(number), "+" if is_added else "-", watched, watched, deadline, CALM)
                )
                sent.append(time.monotonic())
                bench.api.send(bench.api.patch(path, named.new_endpoints(after)))
                bench.api.answered()
            came = watcher.came()
            events_at = [told.await_event(place + 1) for place in range(CHANGES)]
    resolution = dialled_every([came[place] for place in range(0, CHANGES, 2)], sent[::2])
    return {
        kind: programmed(
            [came[place] for place in places],
            [sent[place] for place in places],
            [events_at[place] for place in places],
            deadline,
            resolution,
        )
        for kind, places in ((ADDED, range(0, CHANGES, 2)), (REMOVED, range(1, CHANGES, 2)))
    }


def dialled_every(came: Sequence[Came], sent: Sequence[float]) -> float:
    """Seconds between two connections to a Service whose new endpoint was waited for: half of them could meet it."""
    waited = [
        (one.at - at) / (one.answers + one.failures)
        for one, at in zip(came, sent, strict=True)
        if one.in_time and one.at > at
    ]
    return statistics.median(waited) if waited else 0.0


def programmed(
    came: Sequence[Came], sent: Sequence[float], told: Sequence[float], deadline: float, resolution: float
) -> Programmed:
    """Of what came and of the writes' own events, at times of one clock, how long after the writes."""
    seen = [max(resolution, one.at - at) if one.in_time else None for one, at in zip(came, sent, strict=True)]
    events_after = [max(0.0, event - at) for event, at in zip(told, sent, strict=True)]
    failures = sum(one.failures for one in came)
    return Programmed(waits(seen, deadline), waits(events_after, deadline), failures, resolution)


def _all_of(numbers: range) -> str:
    """The slices of these Services, for a watch."""
    names = "%2C".join(map(named.name, numbers))
    return f"labelSelector=kubernetes.io%2Fservice-name%20in%20%28{names}%29"
