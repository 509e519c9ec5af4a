# SPDX-License-Identifier: Apache-2.0
"""A fixed rate of connections, or of changes, and what it takes of the CPUs."""

import time
from collections.abc import Sequence

from clusters.measure import services as named
from clusters.measure.stage import DIRECT
from clusters.measure.traffic import SERVERS, Pace, Target
from plugins.scale.bench import Bench
from plugins.scale.usage import await_quiet, used

CONNECTIONS, CHANGES = 1_000, 10
SECONDS, IDLE_SECONDS = 0.5, 0.2
CHANGING_SECONDS = 1.5
LATE = 0.9
"""Of a timetable's connections at least so many must have been begun, or it was no fixed rate."""


def cores_of_connections(bench: Bench, targets: Target | Sequence[Target] | None) -> float:
    """CPUs that so many connections a second take on both sides and in between; None: over the direct pair.

    Of what the traffic's CPU was used, without what it is used when nobody dials.
    """
    with used(bench) as idle:
        time.sleep(IDLE_SECONDS)
    if targets is None:
        namespace, several = bench.stage.namespace(DIRECT[0]), [bench.stage.direct_target("rate")]
    else:
        bench.serve(SERVERS["rate"])
        namespace = bench.client
        several = [targets] if isinstance(targets, tuple) else list(targets)
    with bench.stage.traffic.measuring(namespace, "rate", several, SECONDS, Pace(rate=CONNECTIONS)) as client:
        client.began()
        with used(bench) as busy:
            client.ended()
    return max(0.0, busy.cores.traffic - idle.cores.traffic)


def beside_changes(bench: Bench) -> float:
    """CPUs that the proxy takes while Services get other endpoints at a fixed rate, one after the other."""
    numbers = range(0, bench.services, max(1, bench.services // 100))
    await_quiet(bench)
    with used(bench) as usage:
        began = time.monotonic()
        for turn in range(int(CHANGING_SECONDS * CHANGES)):
            time.sleep(max(0.0, began + turn / CHANGES - time.monotonic()))
            number = numbers[turn % len(numbers)]
            addresses = bench.shape.endpoints(number + turn % 2)
            path = f"{named.SLICES}/{named.slice_name(number)}"
            bench.api.send(bench.api.patch(path, named.new_endpoints(addresses)))
            bench.api.answered()
        # What it has put off belongs to it, and the time for that too.
        await_quiet(bench)
    return usage.cores.proxy * usage.seconds / CHANGING_SECONDS
