# SPDX-License-Identifier: Apache-2.0
"""`make bench ARGS=reference`: the reference datapath's numbers of docs/benchmarks.md, in one table."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.reference import latency, paths
from benchmarks.reference.filled import ROOT, filled
from benchmarks.rows import Beside
from clusters.errors import PlumblineError
from clusters.measure.stage import Stage, staged
from clusters.measure.traffic import Traffic, inside

SERVICES, EACH, FILLS = 100_000, 10, 3
FILL_GOAL = 3.0  # seconds
PROGRAM_GOAL = 4.0


def rows() -> Iterator[Beside]:
    """Each row as it is measured; some minutes in all. Raises PlumblineError."""
    with Traffic() as traffic:
        yield from paths.overhead(traffic)
        with staged(traffic) as stage:
            yield from programs(stage)
            yield filling(stage)
        yield from paths.growth(traffic)
        yield from latency.rows(traffic)


def filling(stage: Stage) -> Beside:
    """From list bytes to full maps."""
    node = stage.lab.nodes[0]
    endpoints = [f"10.{128 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}" for number in range(62_500)]
    fills = []
    for _ in range(FILLS):
        with filled(stage, node.name, SERVICES, endpoints, EACH) as fill:
            fills.append(fill)
    cpu, rss = (statistics.median(one.cpu for one in fills), statistics.median(one.rss for one in fills))
    return Beside(
        f"{SERVICES:,} Services × {EACH} endpoints, list bytes to full maps",
        "s",
        [one.seconds for one in fills],
        [one.limit for one in fills],
        "the same entries by map updates alone",
        FILL_GOAL,
        goal_is_for="measured",
        note=f"{cpu:.1f} s of CPU; {fills[0].bytes / 1e6:,.0f} MB of lists, {fills[0].written:,} entries, "
        f"at most {rss / 1e6:,.0f} MB in the process",
    )


def programs(stage: Stage) -> Iterator[Beside]:
    """Nanoseconds per packet; see programs.py."""
    node = stage.lab.nodes[0]
    given = [node.name, ",".join(node.addresses.values()), ",".join(stage.lab.cluster_cidrs)]
    done = subprocess.run(
        inside(stage.namespace(node.name), [sys.executable, "-P", "-m", "benchmarks.reference.programs", *given]),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PlumblineError(f"the programs could not be run by themselves: {done.stderr.strip().splitlines()[-1]}")
    for name, batches in json.loads(done.stdout).items():
        hook, _, case = name.partition(": ")
        goal = PROGRAM_GOAL if hook == "tc" and "no Service" not in case else None
        measured, limit = zip(*batches, strict=True)
        yield Beside(f"{hook} program per packet, {case}", "ns", measured, limit, "a no-op program", goal)
