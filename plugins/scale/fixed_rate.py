# SPDX-License-Identifier: Apache-2.0
"""A fixed rate of connections, or of changes, and what it takes of the CPUs.

A veth pair hands a packet on within the system call that sends it, so that all that nodes do with it is CPU time of
the sender: what client and server have had between them is what a connection costs, whatever else the machine does.
(Kernels that count interrupts apart, CONFIG_IRQ_TIME_ACCOUNTING, hide a part of that.)
"""

import time
from collections.abc import Sequence

from clusters.measure import services as named
from clusters.measure.stage import DIRECT
from clusters.measure.traffic import SERVERS, Pace, Target
from plugins.scale.bench import Bench
from plugins.scale.usage import await_quiet, run_time, used

CONNECTIONS, CHANGES = 1_000, 10
SECONDS = 0.3
CHANGING = 16
"""Changes of one measurement: half of them give a Service another one's endpoints, the others take that back."""


def cores_of_connections(bench: Bench, targets: Target | Sequence[Target] | None) -> float:
    """CPUs that so many connections a second take, both ends and all in between; None: over the direct pair."""
    server = SERVERS["rate"]
    if targets is None:
        namespace, several = bench.stage.namespace(DIRECT[0]), [bench.stage.direct_target("rate")]
        pid = bench.stage.direct_servers[server]
    else:
        bench.serve(server)
        namespace, pid = bench.client, bench.server_pid
        several = [targets] if isinstance(targets, tuple) else list(targets)
    with bench.stage.traffic.measuring(namespace, "rate", several, SECONDS, Pace(rate=CONNECTIONS)) as client:
        client.began()
        before = run_time(pid)
        sample = client.ended()
    return (sample.cpu + run_time(pid) - before) / sample.seconds


def beside_changes(bench: Bench) -> float:
    """CPUs that the proxy takes while Services get other endpoints at a fixed rate, one after the other."""
    numbers = range(0, bench.services, max(1, bench.services // 100))
    await_quiet(bench)
    with used(bench) as usage:
        began = time.monotonic()
        for turn in range(CHANGING):
            time.sleep(max(0.0, began + turn / CHANGES - time.monotonic()))
            number = numbers[turn // 2 % len(numbers)]
            addresses = bench.shape.endpoints(number + 1 - turn % 2)
            path = f"{named.SLICES}/{named.slice_name(number)}"
            bench.api.send(bench.api.patch(path, named.new_endpoints(addresses)))
            bench.api.answered()
        # What it has put off belongs to it, and the time for that too.
        await_quiet(bench)
    return usage.cores * usage.seconds * CHANGES / CHANGING
