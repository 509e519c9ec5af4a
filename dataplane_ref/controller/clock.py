# SPDX-License-Identifier: Apache-2.0
"""The datapath's clock: the kernel's ticks, in nanoseconds since it began to count them."""

import struct
from time import CLOCK_MONOTONIC, clock_getres
from typing import Protocol

HEAD = struct.Struct("<IxxxxQ")
"""Of what `plumbline_collect` is given: how many keys follow; and, when it comes back, what the clock shows."""
SHORTEST_FRAME = 64
COARSE = 6  # CLOCK_MONOTONIC_COARSE, whose resolution is one tick (clock_getres(2))


class Answer(Protocol):
    """What is used of the loader's RunResult."""

    @property
    def data(self) -> bytes: ...


class CollectProgram(Protocol):
    """What is used of the loader's Program `plumbline_collect`."""

    def run(self, data: bytes = b"", *, out: bool = True) -> Answer: ...


def tick_ns() -> int:
    """How long the kernel's tick is, in nanoseconds."""
    resolution = clock_getres(COARSE) or clock_getres(CLOCK_MONOTONIC)
    return round(resolution * 1e9)


def now(program: CollectProgram) -> int:
    """What the clock shows, in nanoseconds."""
    shown: int = HEAD.unpack_from(program.run(HEAD.pack(0, 0).ljust(SHORTEST_FRAME, b"\0")).data)[1]
    return shown
