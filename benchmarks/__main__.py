# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks [NAME…]`: measure, and print a Markdown table. Other work on the machine shows in it."""

import argparse
import os
import platform
import sys
from collections.abc import Sequence

from benchmarks import agent, apiserver, lab, page
from benchmarks.reference import table
from benchmarks.rows import Benchmark
from clusters.errors import PlumblineError

BENCHMARKS: dict[str, Benchmark] = {
    "lab": lab.small_labs,
    "lab-100": lab.large_lab,
    "core": lab.core_level,
    "agent": agent.new_connections,
    "apiserver-list": apiserver.listing,
    "apiserver-watch": apiserver.watching,
    "apiserver-write": apiserver.writing,
    "reference": table.rows,
}
# Whose results docs/benchmarks.md has, and under which title.
KEPT = {"reference": "The reference beside its limits"}


def main() -> int:
    """0 whether or not the numbers are reached: a busy machine is no defect."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(BENCHMARKS)} (default: all)")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]!r}; choose from {', '.join(BENCHMARKS)}")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{os.cpu_count()} CPUs, kernel {platform.release()}, Python {platform.python_version()}, load {load}\n")
    header: Sequence[str] = ()
    for name in given.names or BENCHMARKS:
        try:
            header = _rows(name, header)
        except PlumblineError as error:
            print(f"{name} could not be measured: {error}", file=sys.stderr)
            return 3
    return 0


def _rows(name: str, header: Sequence[str]) -> Sequence[str]:
    """Print a benchmark's rows, under their header where it is not the one above; that header."""
    lines = []
    for row in BENCHMARKS[name]():
        if header != row.HEADER:
            header = row.HEADER
            print(*header, sep="\n")
        lines.append(row.as_markdown())
        print(lines[-1], flush=True)
    if name in KEPT:
        page.write(KEPT[name], f"make bench ARGS={name}", page.machine(), [*header, *lines])
    return header


if __name__ == "__main__":
    sys.exit(main())
