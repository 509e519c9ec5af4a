# SPDX-License-Identifier: Apache-2.0
"""`make soak N=20`: the core level again and again on an unmodified kube-proxy, which must give no surprise.

Prints one line per run and a table; exit status 1 if any result was not a pass.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
MODES = ("iptables", "nftables")
PHASES = ("cluster", "proxy", "settle", "tests")
EXPECTED = frozenset({"pass", "deviates", "recorded"})


@dataclass(frozen=True)
class Result:
    """One run: its exit status, its outcomes, the tests that surprised, and seconds per phase."""

    status: int
    outcomes: Counter[str]
    surprises: tuple[str, ...]
    phases: dict[str, float]


def main() -> int:
    """Run the modes in turn, so that a slow moment of the machine meets all of them."""
    options = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    options.add_argument("--runs", type=int, default=20, help="runs of each mode (default 20)")
    options.add_argument("--modes", nargs="+", default=list(MODES), help="proxy modes (default: all native ones)")
    given = options.parse_args()
    results: dict[str, list[Result]] = {mode: [] for mode in given.modes}
    for number in range(1, given.runs + 1):
        for mode in given.modes:
            result = run(mode)
            results[mode].append(result)
            counts = ", ".join(f"{count} {word}" for word, count in sorted(result.outcomes.items()))
            print(f"{mode} run {number}: exit {result.status}, {counts} {' '.join(result.surprises)}", flush=True)
    print(table(results))
    return int(any(result.status or result.surprises for runs in results.values() for result in runs))


def run(mode: str) -> Result:
    """One run of the core level."""
    with tempfile.TemporaryDirectory(prefix="plumbline-soak-") as report:
        command = [sys.executable, "-m", "pytest", f"--proxy-mode={mode}", "--level=core", f"--report={report}"]
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider"], cwd=ROOT, check=False, capture_output=True, text=True
        )
        file = Path(report) / "requirements.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    records = [json.loads(line) for line in lines]
    surprises = tuple(record["test"] for record in records if record["outcome"] not in EXPECTED)
    if done.returncode and not surprises:
        print(done.stdout[-3000:], done.stderr[-1000:], file=sys.stderr)
    phases = {name: float(value) for name, value in re.findall(r"(\w+) (\d+\.\d) s[,\n]", done.stdout)}
    return Result(done.returncode, Counter(record["outcome"] for record in records), surprises, phases)


def table(results: dict[str, list[Result]]) -> str:
    """Runs, tests, surprises and the median seconds of each phase, per mode."""
    lines = [f"{'mode':<10} {'runs':>5} {'tests':>6} {'unexpected':>10}  " + "  ".join(f"{one:>8}" for one in PHASES)]
    for mode, runs in results.items():
        tests = sum(result.outcomes.total() for result in runs)
        unexpected = sum(max(len(result.surprises), int(result.status != 0)) for result in runs)
        medians = [median(result.phases.get(phase, float("nan")) for result in runs) for phase in PHASES]
        lines.append(
            f"{mode:<10} {len(runs):>5} {tests:>6} {unexpected:>10}  "
            + "  ".join(f"{seconds:>6.1f} s" for seconds in medians)
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
