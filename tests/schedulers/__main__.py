# SPDX-License-Identifier: Apache-2.0
"""`make schedulers`: kube-proxy in ipvs mode with each scheduler, each held against its own null model.

Writes docs/schedulers.md, and what each run recorded below `--reports`; `--from-reports` makes the page of what is
there already. Options that are not its own go to pytest. Exit status 1 if a requirement failed or a scheduler was not
judged.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from clusters.proxies.kube_proxy import IPVS_SCHEDULERS
from tests.schedulers.table import Judged, judged, page

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "schedulers.md"
REPORTS = ROOT / "report" / "schedulers"


def main() -> int:
    """Run all schedulers, write the page, print it."""
    options = argparse.ArgumentParser(prog="tests.schedulers", description=__doc__)
    options.add_argument("--schedulers", nargs="+", default=list(IPVS_SCHEDULERS), metavar="NAME")
    options.add_argument("--reports", type=Path, default=REPORTS, help="where the runs' records are")
    options.add_argument("--from-reports", action="store_true", help="run nothing")
    options.add_argument("--note", default="", help="a sentence about the runs, for the page")
    options.add_argument("--page", type=Path, default=PAGE, help="where the page is written")
    given, more = options.parse_known_args()
    rows: list[Judged] = []
    for scheduler in given.schedulers:
        report = given.reports / scheduler
        if not given.from_reports:
            _run(scheduler, report, more)
        rows += judged(scheduler, report / "requirements.jsonl")
    text = page(rows, given.note)
    given.page.write_text(text, encoding="utf-8")
    print(text)
    return int(any(row.verdict != "pass" for row in rows))


def _run(scheduler: str, report: Path, more: Sequence[str]) -> None:
    """The topic of distribution, once, on one node with six endpoints: a scheduler is its node's own."""
    command = [sys.executable, "-m", "pytest", "conformance/distribution", "--proxy-mode=ipvs"]
    command += ["--nodes=1", "--pods-per-node=8"]
    command += [f"--ipvs-scheduler={scheduler}", f"--report={report}", "-p", "no:cacheprovider", "-q", *more]
    subprocess.run(command, cwd=ROOT, check=False)


if __name__ == "__main__":
    sys.exit(main())
