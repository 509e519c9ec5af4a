# SPDX-License-Identifier: Apache-2.0
"""What traffic feels of a proxy that is at work: bins of a tenth of a second, while a Service changes every second.

Where the proxy runs decides everything, so it is put there: on the traffic's own CPU, or on another one. Beside it
stands the same traffic, in the same minute, while the proxy has nothing to do.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from clusters.measure.traffic import SERVERS, Bin, Kind, Pace, Sample, Target, running
from plugins.scale.bench import Bench
from plugins.scale.cells import Better, Cell, Unit
from plugins.scale.limits import ATTEMPTS, STEADY
from plugins.scale.more import endpoints, point
from plugins.scale.settings import DURATION
from plugins.scale.usage import await_quiet, processes
from plugins.world import UnfitError

BIN = 0.1
BUSY, IDLE = 2.0, 1.0
"""Seconds with changes, and before and after them without; longer or shorter as `--duration` says."""
EVERY = 1.0
CONNECTIONS = 500
"""Begun each second, by a timetable, whatever becomes of those before."""
PATIENCE = 1.0
LOW = 0.05
SAME_CPU, OTHER_CPU, WITH_SPINNER = "proxy on the traffic's CPU", "proxy on another CPU", "a spinner beside it"
IDLE_RUN = "the same, idle"
REQUESTS_WORST, CONNECTIONS_WORST = "requests, worst", f"{CONNECTIONS} connections/s, worst"
PACES: Mapping[Kind, Pace] = {
    "request": Pace(bin=BIN),
    "rate": Pace(bin=BIN, rate=CONNECTIONS, failures=None, patience=PATIENCE),
}


@dataclass(frozen=True, slots=True)
class Felt:
    """A run in bins: what was done per second in the median bin and in a low one (p05); the worst, in seconds."""

    middle: float
    low: float
    worst: float
    failures: int


def felt(sample: Sample, seconds: float) -> Felt:
    """Of the bins that lie wholly within so many seconds; a bin in which nothing ended is as empty as it was.

    Raises ValueError for a run without a whole bin.
    """
    whole = int(seconds / BIN + 1e-9)
    bins = [*sample.bins, *[Bin(0, 0, 0.0)] * whole][:whole]
    counts = sorted(one.count for one in bins)
    if not counts:
        raise ValueError(f"{seconds:g} s hold no whole bin")
    middle, low = counts[len(counts) // 2], counts[int(len(counts) * LOW)]
    return Felt(middle / BIN, low / BIN, sample.worst, sample.failures)


@contextmanager
def pinned(bench: Bench, cpu: int) -> Iterator[None]:
    """In the block all of the proxy, and what it starts, runs on one CPU. Raises PlumblineError, UnfitError."""
    if len(bench.stage.traffic.cpus) < 2:
        raise UnfitError("there is one CPU, so that nothing can run on another one")
    before: dict[int, set[int]] = {}
    # A thread that is being made while this looks has its maker's CPU: it is found the next time.
    while new := [task for task in _tasks(bench) if task not in before]:
        for task in new:
            with suppress(OSError):
                before[task] = os.sched_getaffinity(task)
                os.sched_setaffinity(task, {cpu})
    everywhere = set.union(*before.values())
    try:
        yield
    finally:
        for task in _tasks(bench):
            with suppress(OSError):
                os.sched_setaffinity(task, before.get(task, everywhere))


@contextmanager
def spinning(bench: Bench) -> Iterator[None]:
    """In the block somebody of the usual class wants all of the traffic's CPU."""
    loop = "while :; do :; done"
    with running(["taskset", "-c", str(bench.stage.traffic.cpu), "sh", "-c", loop]):
        yield


def idle_run(bench: Bench, kind: Kind, target: Target) -> Felt:
    """Nothing changes."""
    await_quiet(bench)
    seconds = IDLE * bench.duration / DURATION
    return felt(bench.measure(kind, target, pace=PACES[kind], seconds=seconds), seconds)


def busy_run(bench: Bench, kind: Kind, target: Target) -> Felt:
    """A Service changes every second: the one with the first number."""
    seconds = BUSY * bench.duration / DURATION
    bench.serve(SERVERS[kind])
    others = (endpoints(bench, bench.shape.each, bench.shape.each), bench.shape.endpoints(0))
    measuring = bench.stage.traffic.measuring(bench.client, kind, [target], seconds, PACES[kind])
    try:
        with measuring as client:
            client.began()
            began = time.monotonic()
            for turn in range(int(seconds / EVERY)):
                time.sleep(max(0.0, began + (turn + 0.5) * EVERY - time.monotonic()))
                point(bench, {0: others[turn % 2]})
            return felt(client.ended(), seconds)
    finally:
        point(bench, {0: bench.shape.endpoints(0)})


def spun_run(bench: Bench, kind: Kind, target: Target) -> Felt:
    """Nothing changes, but the traffic's CPU is wanted by somebody else."""
    with spinning(bench):
        return idle_run(bench, kind, target)


@dataclass(frozen=True, slots=True)
class Jitter:
    """A busy run, and the mean of the idle ones before and after it; `moved` is by how much these differ."""

    busy: Felt
    idle: Felt
    moved: float


def beside_idle(idle: Callable[[], Felt], busy: Mapping[str, Callable[[], Felt]]) -> Mapping[str, Jitter]:
    """Idle, busy, idle, the next busy one, idle again: each beside the idle runs around it; once more what moved."""
    found: dict[str, Jitter] = {}
    for _ in range(ATTEMPTS):
        again = [name for name in busy if name not in found or found[name].moved > STEADY]
        before = idle() if again else None
        for name in again:
            assert before is not None
            one, after = busy[name](), idle()
            found[name] = Jitter(one, _mean(before, after), abs(after.middle - before.middle) / before.middle)
            before = after
    return found


def at_work(bench: Bench, kind: Kind) -> Mapping[str, Jitter]:
    """The last Service's traffic with the proxy at work, at either place."""
    traffic, target = bench.stage.traffic, bench.last_service()

    def busy(cpu: int) -> Felt:
        with pinned(bench, cpu):
            return busy_run(bench, kind, target)

    places = {SAME_CPU: traffic.cpu, OTHER_CPU: traffic.cpus[0]}
    return beside_idle(
        lambda: idle_run(bench, kind, target), {where: partial(busy, cpu) for where, cpu in places.items()}
    )


def beside_spinner(bench: Bench) -> Jitter:
    """The control: requests, with somebody else on their CPU."""
    target = bench.last_service()
    found = beside_idle(
        lambda: idle_run(bench, "request", target), {WITH_SPINNER: lambda: spun_run(bench, "request", target)}
    )
    return found[WITH_SPINNER]


def _mean(one: Felt, other: Felt) -> Felt:
    return Felt(
        (one.middle + other.middle) / 2,
        (one.low + other.low) / 2,
        (one.worst + other.worst) / 2,
        one.failures + other.failures,
    )


Told = tuple[str, Unit, Better, Callable[[Felt], float]]
"""What is told of a run, its unit, what is better, and the value."""
TOLD: Mapping[Kind, Sequence[Told]] = {
    "request": (
        ("requests, p05 of bins", "1/s", "more", lambda one: one.low),
        ("requests, median of bins", "1/s", "more", lambda one: one.middle),
        (REQUESTS_WORST, "s", "less", lambda one: one.worst),
    ),
    "rate": (
        (f"{CONNECTIONS} connections/s, p05 of bins", "1/s", "more", lambda one: one.low),
        (CONNECTIONS_WORST, "s", "less", lambda one: one.worst),
    ),
}


def keep(bench: Bench, kind: Kind, where: str, found: Jitter) -> None:
    """A cell for each thing that is told of this kind of traffic."""
    why = (
        f"idle runs before and after differ by {found.moved:.0%}: the machine was not quiet"
        if found.moved > STEADY
        else ""
    )
    for what, unit, better, of in TOLD[kind]:
        limit = of(found.idle)
        is_measured = not why and limit > 0
        bench.add(
            Cell(
                chart="jitter",
                series=f"{what}, {where}",
                services=bench.services,
                endpoints=bench.shape.each,
                unit=unit,
                better=better,
                values=(of(found.busy),) if is_measured else (),
                limits=(limit,) if is_measured else (),
                limited_by=IDLE_RUN if is_measured else "",
                failures=found.busy.failures,
                outcome="measured" if is_measured else "unfit",
                reason="" if is_measured else why or "nothing was done in a bin of the idle run",
            )
        )


def _tasks(bench: Bench) -> Sequence[int]:
    found = []
    for pid in processes(bench):
        with suppress(OSError):
            found += [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    return found
