# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks [NAME…]`: measure, and print a Markdown table. Other work on the machine shows in it."""

import argparse
import os
import platform
import sys
from collections.abc import Sequence

from benchmarks import agent, apiserver, lab, page
from benchmarks.reference import compare, table
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
# Takes minutes, and so is not measured unless it is named.
COMPARE = "compare"
# Whose results docs/benchmarks.md has, and under which title.
KEPT = {"reference": "The reference beside its limits", COMPARE: "The reference beside kube-proxy"}


def main() -> int:
    """0 whether or not the numbers are reached: a busy machine is no defect."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = (*BENCHMARKS, COMPARE)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"some of {', '.join(known)} (default: all but the last)"
    )
    parser.add_argument(
        "--services",
        type=_numbers,
        default=compare.SERVICES,
        metavar="N[,N]",
        help=f"how many Services {COMPARE} has, fewest first (default: {','.join(map(str, compare.SERVICES))})",
    )
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"there is no benchmark {unknown[0]!r}; choose from {', '.join(known)}")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{os.cpu_count()} CPUs, kernel {platform.release()}, Python {platform.python_version()}, load {load}\n")
    header: Sequence[str] = ()
    for name in given.names or BENCHMARKS:
        try:
            header = _comparison(given.services) if name == COMPARE else _rows(name, header)
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


def _comparison(services: Sequence[int]) -> Sequence[str]:
    """Print the side by side; no header is valid after it."""
    lines, versions = compare.run(services, lambda text: print(text, file=sys.stderr, flush=True))
    print(*lines, sep="\n")
    argument = f'"{COMPARE} --services {",".join(map(str, services))}"' if services != compare.SERVICES else COMPARE
    page.write(KEPT[COMPARE], f"make bench ARGS={argument}", page.machine(versions), lines)
    return ()


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(sorted({int(each) for each in text.split(",")}))
    if not 0 < numbers[0] <= numbers[-1] <= compare.MOST_SERVICES:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to {compare.MOST_SERVICES:,}, with commas between")
    return numbers


if __name__ == "__main__":
    sys.exit(main())
