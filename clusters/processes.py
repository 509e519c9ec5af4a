# SPDX-License-Identifier: Apache-2.0
"""Which processes a process has started, as /proc tells it."""

from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def children(pid: int, proc: Path = PROC) -> list[int]:
    """Those that are there now; none of a process that has ended.

    Kernels without CONFIG_PROC_CHILDREN, such as some that run as guests, are asked about every process.
    """
    try:
        files = [task / "children" for task in (proc / str(pid) / "task").iterdir()]
        return [int(each) for file in files for each in file.read_text(encoding="ascii").split()]
    except OSError:
        return [int(one.name) for one in proc.iterdir() if one.name.isdecimal() and _parent(one) == pid]


def _parent(process: Path) -> int | None:
    with suppress(OSError):
        # The name in parentheses may hold anything.
        text = (process / "stat").read_text(encoding="ascii", errors="replace")
        return int(text.rpartition(")")[2].split()[1])
    return None
