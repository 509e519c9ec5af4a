# SPDX-License-Identifier: Apache-2.0
"""What measuring itself costs: the client doing nothing, beside what it does over a wire."""

from collections.abc import Mapping

from plugins.scale.bench import Bench

SECONDS = 0.1
# What counts of a kind, and which part of a round of the client lies within it: the clock alone, or the whole round.
CLOCK, ROUND = "clock (s)", "round (s)"
PARTS = {"connect": CLOCK, "request": CLOCK, "rate": ROUND}


def cost(bench: Bench) -> Mapping[str, float]:
    """Seconds for reading the clock twice and for an empty round, and the share of both in what is measured directly.

    A latency has the clock in it, a rate the whole round; the direct veth pair is the quickest that is ever measured.
    """
    empty = bench.stage.traffic.measure(bench.client, "empty", [], SECONDS)
    # Its CPU time: what others took of the CPU meanwhile is not its own.
    found = {CLOCK: empty.p50, ROUND: empty.cpu / empty.count}
    for kind in ("connect", "request", "rate"):
        sample = bench.stage.direct(kind, SECONDS)
        whole = 1 / sample.rate if kind == "rate" else sample.p50
        found[f"share of a direct {kind}"] = found[PARTS[kind]] / whole
    return found
