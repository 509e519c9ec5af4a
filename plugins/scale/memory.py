# SPDX-License-Identifier: Apache-2.0
"""What the Services take of memory: in the proxy's processes, in BPF maps, and in the kernel."""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from plugins.scale.bench import Bench
from plugins.scale.usage import processes

# Of /proc/meminfo: where rules, sets and connections are kept (slabs), tables of legacy iptables, counters per CPU.
KERNEL = ("SUnreclaim", "VmallocUsed", "Percpu")
KIB = 1024


def resident(bench: Bench) -> int:
    """Bytes that the proxy's processes have in memory (RSS)."""
    return sum(_field(Path(f"/proc/{pid}/smaps_rollup"), "Rss") for pid in processes(bench))


def proportional(bench: Bench) -> int:
    """The same, pages that are shared with others divided among them (PSS)."""
    return sum(_field(Path(f"/proc/{pid}/smaps_rollup"), "Pss") for pid in processes(bench))


def bpf_maps(bench: Bench) -> int:
    """Bytes of the BPF maps that the proxy has open, each once (fdinfo's memlock, bpf(2))."""
    return sum(_maps(processes(bench)).values())


def kernel() -> int:
    """Bytes that the kernel of this machine has in use for such things, whoever they belong to."""
    return sum(_field(Path("/proc/meminfo"), name) for name in KERNEL)


def _maps(pids: Iterable[int]) -> dict[int, int]:
    found = {}
    for pid in pids:
        with suppress(OSError):
            for file in Path(f"/proc/{pid}/fdinfo").iterdir():
                with suppress(OSError):
                    text = file.read_text(encoding="ascii", errors="replace")
                    fields = dict(re.findall(r"^(map_id|memlock):\s+(\d+)", text, flags=re.MULTILINE))
                    if len(fields) == 2:
                        found[int(fields["map_id"])] = int(fields["memlock"])
    return found


def _field(file: Path, name: str) -> int:
    """A line such as `Rss:  123 kB`, in bytes; 0 where there is none."""
    with suppress(OSError):
        text = file.read_text(encoding="ascii", errors="replace")
        if line := re.search(rf"^{name}:\s+(\d+) kB", text, flags=re.MULTILINE):
            return int(line[1]) * KIB
    return 0


SERIES: Mapping[str, Callable[[Bench], int]] = {
    "proxy (RSS)": resident,
    "proxy (PSS)": proportional,
    "BPF maps": bpf_maps,
    "kernel, more than without Services": lambda bench: max(0, kernel() - bench.kernel_before),
}
"""The chart's lines. What the kernel has cannot be told apart by whose it is: the machine must do nothing else."""
