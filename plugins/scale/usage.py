# SPDX-License-Identifier: Apache-2.0
"""What the proxy and the kernel use of CPUs and memory, to the nanosecond and byte that the kernel knows."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clusters.errors import PlumblineError
from clusters.processes import children
from plugins.scale.bench import Bench

NANO = 1e-9
PAGE = 4096


@dataclass(slots=True)
class Usage:
    """How many CPUs the proxy had on average in a block, and how many seconds that took."""

    cores: float = 0.0
    seconds: float = 0.0


@contextmanager
def used(bench: Bench) -> Iterator[Usage]:
    """Look at the proxy before and after the block. Raises PlumblineError."""
    found = Usage()
    before = (time.monotonic(), proxy_seconds(bench))
    try:
        yield found
    finally:
        after = (time.monotonic(), proxy_seconds(bench))
        found.seconds = after[0] - before[0]
        found.cores = (after[1] - before[1]) / found.seconds


def processes(bench: Bench) -> list[int]:
    """The proxy's process on the node and whatever it runs, as this machine numbers them. Raises PlumblineError."""
    pids = getattr(bench.run.proxy, "pids", {})
    if bench.node.name not in pids:
        raise PlumblineError("the proxy has no process of ours")
    first = _outer_pid(bench.stage.pid, pids[bench.node.name])
    if first is None:
        raise PlumblineError("the proxy's process cannot be found")
    found, waiting = [], [first]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children(pid)
    return found


def proxy_seconds(bench: Bench) -> float:
    """CPU time of the proxy so far, with that of the programs it has run to their end (proc_pid_stat(5))."""
    return sum(_whole_time(pid) for pid in processes(bench))


def _outer_pid(lab: int, inner: int) -> int | None:
    """The process that the lab's PID namespace calls `inner`: a child of its PID 1."""
    for child in children(lab):
        with suppress(OSError):
            status = Path(f"/proc/{child}/status").read_text(encoding="ascii", errors="replace")
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
            if int(numbers[-1]) == inner:
                return child
    return None


def run_time(pid: int) -> float:
    """Seconds for which a process has had a CPU, to the nanosecond (all its threads)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks) * NANO


def _whole_time(pid: int) -> float:
    """Its own, and in ticks that of the children it has waited for."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return run_time(pid) + (int(text[13]) + int(text[14])) / 100
    return 0.0


QUIET_SECONDS, QUIET_SHARE, QUIET_DEADLINE = 0.03, 0.05, 30.0


def await_quiet(bench: Bench) -> None:
    """Wait until the proxy has nothing to do: for a moment it has had less than a twentieth of a CPU.

    A proxy that is not ours gets that moment and no more; one that never rests is measured as it is, after 30 s.
    """
    try:
        before = proxy_seconds(bench)
    except PlumblineError:
        time.sleep(QUIET_SECONDS)
        return
    end = time.monotonic() + QUIET_DEADLINE
    while time.monotonic() < end:
        time.sleep(QUIET_SECONDS)
        after = proxy_seconds(bench)
        if after - before < QUIET_SHARE * QUIET_SECONDS:
            return
        before = after
