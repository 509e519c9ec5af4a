# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks [NAME…]`: measure, and print a Markdown table. Other work on the machine shows in it."""

import argparse
import os
import platform
import sys

from benchmarks import agent, apiserver, lab
from benchmarks.rows import HEADER, Benchmark
from clusters.errors import PlumblineError

BENCHMARKS: dict[str, Benchmark] = {
    "lab": lab.small_labs,
    "lab-100": lab.large_lab,
    "core": lab.core_level,
    "agent": agent.new_connections,
    "apiserver-list": apiserver.listing,
    "apiserver-watch": apiserver.watching,
}


def main() -> int:
    """0 whether or not the numbers are reached: a busy machine is no defect."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(BENCHMARKS)} (default: all)")
    names = parser.parse_args().names
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]!r}; choose from {', '.join(BENCHMARKS)}")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{os.cpu_count()} CPUs, kernel {platform.release()}, Python {platform.python_version()}, load {load}\n")
    print(*HEADER, sep="\n", flush=True)
    for name in names or BENCHMARKS:
        try:
            for row in BENCHMARKS[name]():
                print(row.as_markdown(), flush=True)
        except PlumblineError as error:
            print(f"{name} could not be measured: {error}", file=sys.stderr)
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
