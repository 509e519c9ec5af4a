# SPDX-License-Identifier: Apache-2.0
"""One whole run of the requirements, as a line of a table."""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = frozenset({"pass", "deviates", "recorded", "warned", "unsupported"})


@dataclass(frozen=True)
class Cell:
    """One release in one mode: exit status, outcomes, the requirements that surprised, what it ran on, and seconds
    until the cluster was ready, and in all.
    """

    version: str
    mode: str
    status: int
    outcomes: Counter[str]
    unexpected: tuple[str, ...]
    where: str
    ready: float
    seconds: float


def run(version: str, mode: str, more: Sequence[str]) -> Cell:
    """All levels, once."""
    with tempfile.TemporaryDirectory(prefix="plumbline-versions-") as report:
        command = [sys.executable, "-m", "pytest", f"--proxy-version={version}", f"--proxy-mode={mode}"]
        # On bridges, because some requirements are about bridges and none are only about links.
        command += ["--pod-network=bridge", "--level=all", f"--report={report}", "-p", "no:cacheprovider", "--tb=no"]
        command += more
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        lines = (Path(report) / "requirements.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    if not records:
        raise SystemExit(f"{version} {mode} judged nothing:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    unexpected = {record["id"] for record in records if record["outcome"] not in EXPECTED}
    where = re.search(r"^cluster: (.*)$", done.stdout, re.MULTILINE)
    ready = re.search(r"^time: cluster (\d+\.\d+) s", done.stdout, re.MULTILINE)
    seconds = re.search(r" in (\d+\.\d+)s\b", done.stdout)
    return Cell(
        version,
        mode,
        done.returncode,
        Counter(record["outcome"] for record in records),
        tuple(sorted(unexpected)),
        # Of the kernel's name the series: the rest is this machine's.
        re.sub(r"(kernel \d+\.\d+)\S*", r"\1", where[1]) if where else "?",
        float(ready[1]) if ready else float("nan"),
        float(seconds[1]) if seconds else float("nan"),
    )


def row(cell: Cell) -> str:
    """One line of the table."""
    counts = ", ".join(f"{count} {word}" for word, count in sorted(cell.outcomes.items()))
    surprises = ", ".join(f"`{one}`" for one in cell.unexpected) or "none"
    return f"| {cell.version} | {cell.mode} | {counts} | {surprises} | {cell.status} | {cell.seconds:.0f} s |"
