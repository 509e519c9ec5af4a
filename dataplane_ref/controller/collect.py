# SPDX-License-Identifier: Apache-2.0
"""Forgets flows and affinities that are past their time: the datapath only passes them over.

Flows are removed by the datapath's own program `plumbline_collect`, which also counts down what their endpoints have.
"""

import struct
import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from dataplane_ref.controller import clock
from dataplane_ref.controller.clock import CollectProgram
from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.mirror import MapLike

SECONDS = 3.0
SHARE = 20
"""A round may take one part in so many of the time: the pause after a long one is longer."""
AT_ONCE = 64  # MOST_COLLECTED in datapath.c
FULL = ("DROPPED_FLOWS_FULL", "AFFINITY_FULL")


class CounterMap(Protocol):
    """What is used of the map `counters`."""

    def per_cpu(self, key: bytes) -> list[bytes]: ...


class Collector(threading.Thread):
    """Looks for expired entries every few seconds, and at once when a table is full."""

    def __init__(
        self,
        flows: MapLike,
        affinities: MapLike,
        counters: CounterMap,
        program: CollectProgram,
        codec: Codec,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(name="collect", daemon=True)
        self._flows, self._affinities, self._counters, self._program = flows, affinities, counters, program
        self._flow_expires = codec.layouts["flow"].struct("expires")
        self._affinity_expires = codec.layouts["affinity"].struct("expires")
        self._indices = [codec.counter[name] for name in FULL]
        self._stopping = threading.Event()
        self._say = say

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()

    def run(self) -> None:
        refused = self._refused()
        was_full = False
        pause, since = SECONDS, monotonic()
        while not self._stopping.wait(0.25):
            now = self._refused()
            is_full, refused = now != refused, now
            if is_full and not was_full:
                self._say("a table of flows or affinities is full: expired ones are looked for at once")
            was_full = is_full
            if monotonic() - since < (0 if is_full else pause):
                continue
            since = monotonic()
            try:
                self.collect(clock.now(self._program))
            except OSError as error:
                self._say(f"expired flows could not be looked for: {error.strerror}")
            pause = max(SECONDS, (monotonic() - since) * SHARE)
            since = monotonic()

    def collect(self, now: int) -> tuple[int, int]:
        """Forget what expired by `now` (by the datapath's clock); how many flows were handed on, and affinities."""
        flows = expired(self._flows, self._flow_expires, now)
        for start in range(0, len(flows), AT_ONCE):
            some = flows[start : start + AT_ONCE]
            self._program.run(clock.HEAD.pack(len(some), 0) + b"".join(some), out=False)
        affinities = expired(self._affinities, self._affinity_expires, now)
        if affinities:
            self._affinities.delete_many(b"".join(affinities), len(affinities))
        return len(flows), len(affinities)

    def _refused(self) -> int:
        return sum(
            int.from_bytes(value, "little")
            for index in self._indices
            for value in self._counters.per_cpu(index.to_bytes(4, "little"))
        )


def expired(table: MapLike, expires: struct.Struct, now: int) -> list[bytes]:
    """Keys of entries whose time is over."""
    size = table.key_size
    found = []
    for keys, values, _ in table.batches():
        for place, (until,) in enumerate(expires.iter_unpack(values)):
            if until <= now:
                found.append(keys[place * size : place * size + size])
    return found
