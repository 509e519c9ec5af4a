# SPDX-License-Identifier: Apache-2.0
"""New connections where the table of connections is half full, or full: the kernel's, or the reference's own.

The kernel's limit cannot be set from a lab, and is not touched: the node's own table, which is counted for itself, is
filled up to it with connections that nobody has. The reference does not use that table; its map of flows is filled in
the same way.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from clusters.errors import PlumblineError
from clusters.lab.operations import NODE_BPF
from clusters.measure import flows as kernel
from clusters.measure.stage import run
from clusters.measure.traffic import Pace
from dataplane_ref.loader import BpfObject, Map, MapFullError, syscalls
from plugins.scale.bench import Bench
from plugins.scale.usage import processes
from plugins.world import UnfitError

MOST_ENTRIES = 1 << 20
"""A larger table is not filled: it would take hundreds of megabytes."""
# Very much longer than a connection takes, and short enough for thousands that fail.
PACE = Pace(failures=None, patience=0.005)
EMPTY, HALF, FULL, FULL_UNANSWERED = "empty", "half full", "full", "full of unanswered ones"
REPEATS = 3
FLOWS = "flows"


class Table(Protocol):
    """A table of connections that can be filled."""

    @property
    def capacity(self) -> int: ...
    def fill(self, count: int, *, established: bool) -> None: ...
    def count(self) -> int: ...
    def clear(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Kernels:
    """The node's connection table."""

    bench: Bench
    capacity: int

    def fill(self, count: int, *, established: bool) -> None:
        kernel.fill(self.bench.stage.namespace(self.bench.node.name), count, established=established)

    def count(self) -> int:
        """Entries that there are."""
        return int(run(self.bench.lab, "cat", f"/proc/sys/{kernel.COUNT}", netns=self.bench.node.name))

    def clear(self) -> None:
        self.bench.lab.forget_flows()


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference datapath's map of flows, which has two entries for each."""

    bench: Bench

    @property
    def capacity(self) -> int:
        with self._flows() as flows:
            return int(flows.max_entries)

    def fill(self, count: int, *, established: bool) -> None:  # noqa: ARG002 - nothing there is given up for another
        layouts = BpfObject.open().layouts
        value = layouts["flow"].pack(expires=1 << 62)
        key = layouts["tuple"].struct("source")
        with self._flows() as flows:
            keys = b"".join(key.pack(number.to_bytes(16, "big")) for number in range(count))
            try:
                flows.put_many(keys, value * count, count)
            except MapFullError:
                return

    def count(self) -> int:
        with self._flows() as flows:
            return sum(count for _, _, count in flows.batches())

    def clear(self) -> None:
        with self._flows() as flows:
            for keys, _, count in list(flows.batches()):
                flows.delete_many(keys, count)

    @contextmanager
    def _flows(self) -> Iterator[Map]:
        """The map by the name that it has on its node."""
        node = Path(f"/proc/{processes(self.bench)[0]}/root")
        descriptor = syscalls.pinned(str(node / NODE_BPF.relative_to("/") / FLOWS))
        if descriptor is None:
            raise PlumblineError("the reference datapath has pinned no map of flows")
        entries, flags = struct.unpack("=16x2I", syscalls.object_info(descriptor, 24))
        flows = Map(descriptor, BpfObject.open().definitions[FLOWS]._replace(max_entries=entries, flags=flags))
        try:
            yield flows
        finally:
            flows.close()


def table_of(bench: Bench) -> Table:
    """The one that the proxy's connections are in. Raises UnfitError where it cannot be filled."""
    if bench.run.proxy.mode == "ebpf":
        return Reference(bench)
    capacity = kernel.maximum()
    if capacity is None:
        raise UnfitError("the kernel tracks no connections")
    if capacity > MOST_ENTRIES:
        raise UnfitError(
            f"the kernel tracks up to {capacity:,} connections (net.netfilter.nf_conntrack_max), which is more than "
            f"the {MOST_ENTRIES:,} that are made here"
        )
    return Kernels(bench, capacity)


@contextmanager
def filled(table: Table, how: str) -> Iterator[int]:
    """In the block the table is as `how` says; how many entries it has."""
    fill: Mapping[str, Callable[[], None]] = {
        EMPTY: lambda: None,
        HALF: lambda: table.fill(table.capacity // 2, established=True),
        FULL: lambda: table.fill(table.capacity, established=True),
        FULL_UNANSWERED: lambda: table.fill(table.capacity, established=False),
    }
    table.clear()
    try:
        fill[how]()
        yield table.count()
    finally:
        table.clear()


def ways(bench: Bench) -> tuple[str, ...]:
    """How it is filled: the reference gives up nothing for a new connection, so that one kind of full is enough."""
    return (EMPTY, HALF, FULL) if bench.run.proxy.mode == "ebpf" else (EMPTY, HALF, FULL, FULL_UNANSWERED)
