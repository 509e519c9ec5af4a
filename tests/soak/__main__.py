# SPDX-License-Identifier: Apache-2.0
"""`make soak N=20`: the core level again and again on an unmodified kube-proxy, which must give no surprise.

`--modes` may name the reference (ebpf) too, `--level` another level. Prints one line per run, a table, and every
unexpected result with how often it came (on stderr its reason; the run's report is kept below report/soak/); exit
status 1 if there was one.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic

ROOT = Path(__file__).resolve().parents[2]
MODES = ("iptables", "nftables")
PHASES = ("cluster", "proxy", "settle", "tests")
# A SHOULD that is not met warns in every run, and a routed lab is unfit for what needs a bridge.
EXPECTED = frozenset({"pass", "deviates", "recorded", "warned", "known-failure", "unsupported", "unfit"})
# Of kube-proxy: bugs that it has, each of which has to show every time. In ipvs mode it has others.
KNOWN = Path(__file__).with_name("known-failures.txt")
KNOWN_IN = {"iptables": KNOWN, "nftables": KNOWN, "ipvs": KNOWN.with_name("known-failures-ipvs.txt")}
KEPT = ROOT / "report" / "soak"
LEVELS = ("core", "extended", "all")


@dataclass(frozen=True)
class Result:
    """One run: its exit status, its outcomes, the tests that surprised and how, and seconds per phase and in all."""

    status: int
    outcomes: Counter[str]
    surprises: tuple[str, ...]
    phases: dict[str, float]
    seconds: float = 0.0


def main() -> int:
    """Run the modes in turn, so that a slow moment of the machine meets all of them."""
    options = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    options.add_argument("--runs", type=int, default=20, help="runs of each mode (default 20)")
    options.add_argument("--modes", nargs="+", default=list(MODES), help="proxy modes (default: iptables nftables)")
    options.add_argument("--level", choices=LEVELS, default="core", help="requirement levels (default core)")
    options.add_argument("-n", type=int, default=1, metavar="N", help="labs at a time (default 1)")
    given = options.parse_args()
    results: dict[str, list[Result]] = {mode: [] for mode in given.modes}
    for number in range(1, given.runs + 1):
        for mode in given.modes:
            result = run(mode, given.level, given.n, KEPT / f"{mode}-{number}")
            results[mode].append(result)
            counts = ", ".join(f"{count} {word}" for word, count in sorted(result.outcomes.items()))
            ended = f"exit {result.status} after {result.seconds:.0f} s"
            print(f"{mode} run {number}: {ended}, {counts} {' '.join(result.surprises)}".rstrip(), flush=True)
    print(table(results))
    return int(any(result.status or result.surprises for runs in results.values() for result in runs))


def run(mode: str, level: str, workers: int, kept: Path) -> Result:
    """One run of a level, whose report is `kept` if it surprises."""
    started = monotonic()
    with tempfile.TemporaryDirectory(prefix="plumbline-soak-") as report:
        command = [sys.executable, "-m", "pytest", f"--proxy-mode={mode}", f"--level={level}", f"--report={report}"]
        command += ["-n", str(workers)] if workers > 1 else []
        command += [f"--known-failures={KNOWN_IN[mode]}"] if mode in KNOWN_IN and level != "core" else []
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider"], cwd=ROOT, check=False, capture_output=True, text=True
        )
        file = Path(report) / "requirements.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        records = [json.loads(line) for line in lines]
        unexpected = [one for one in records if one["outcome"] not in EXPECTED]
        if unexpected or done.returncode:
            shutil.copytree(report, kept, dirs_exist_ok=True)
    for one in unexpected:
        print(f"{mode}: {one['test']}: {one['outcome']}: {one['reason']}", file=sys.stderr, flush=True)
    surprises = tuple(f"{one['test']}={one['outcome']}" for one in unexpected)
    if done.returncode and not surprises:
        print(done.stdout[-3000:], done.stderr[-1000:], file=sys.stderr)
    phases = {name: float(value) for name, value in re.findall(r"(\w+) (\d+\.\d) s[,\n]", done.stdout)}
    outcomes = Counter(record["outcome"] for record in records)
    return Result(done.returncode, outcomes, surprises, phases, monotonic() - started)


def table(results: dict[str, list[Result]]) -> str:
    """Runs, tests, surprises and the median seconds of each phase, per mode; then each surprise and how often."""
    phases = "  ".join(f"{one:>8}" for one in (*PHASES, "in all"))
    lines = [f"{'mode':<10} {'runs':>5} {'tests':>6} {'unexpected':>10}  {phases}"]
    for mode, runs in results.items():
        tests = sum(result.outcomes.total() for result in runs)
        unexpected = sum(max(len(result.surprises), int(result.status != 0)) for result in runs)
        medians = [median(result.phases.get(phase, float("nan")) for result in runs) for phase in PHASES]
        medians.append(median(result.seconds for result in runs))
        lines.append(
            f"{mode:<10} {len(runs):>5} {tests:>6} {unexpected:>10}  "
            + "  ".join(f"{seconds:>6.1f} s" for seconds in medians)
        )
    for mode, runs in results.items():
        seen = Counter(surprise for result in runs for surprise in result.surprises)
        lines += [f"{mode}: {count} × {surprise}" for surprise, count in seen.most_common()]
        silent = sum(bool(result.status and not result.surprises) for result in runs)
        lines += [f"{mode}: {silent} × exit status without an unexpected result"] if silent else []
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
