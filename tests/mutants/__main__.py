# SPDX-License-Identifier: Apache-2.0
"""`make mutants`: every mutant of the reference datapath judged by the requirements, as a table in docs/mutants.md.

Exit status 1 if a mutant survives, that is if no requirement fails on it, if one cannot be made any more, or if
something fails on the reference as it is.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.mutants.matrix import KEPT, SHOWN, Matrix, Row, row_of, table
from tests.mutants.mutant import ROOT, Mutant, MutantError, mutants, named

TABLE = ROOT / "docs" / "mutants.md"
# With --quick: failures that show well enough that a mutant is noticed.
ENOUGH = 4
ALL_LEVELS = ("--level=all", "--proxy-mode=ebpf")


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge them, keep what came of it, and say who survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="these mutants")
    parser.add_argument("--missing", action="store_true", help="those not judged yet as they stand")
    parser.add_argument("--quick", action="store_true", help="end each after a few failures; nothing is kept")
    parser.add_argument("--apart", action="store_true", help="judge nothing; show what is not told apart")
    parser.add_argument("-n", type=int, default=3, metavar="N", help="mutants at a time, a lab for each (default 3)")
    options = parser.parse_args(arguments)
    matrix = Matrix.read()
    try:
        chosen = [] if options.apart else named(options.only)
        every = mutants()
    except MutantError as error:
        print(f"plumbline: {error}", file=sys.stderr)
        return 4
    if options.missing:
        chosen = [mutant for mutant in chosen if not matrix.is_current(mutant)]
    problems = [problem for mutant in chosen if (problem := mutant.problem())]
    for problem in problems:
        print(f"plumbline: {problem}", file=sys.stderr)
    survivors = []
    try:
        if chosen and not (options.only or options.missing) and not _judged(None, quick=False).is_clean:
            print(
                "plumbline: requirements fail on the reference itself, so that no kill means anything",
                file=sys.stderr,
            )
            return 1
        # Those that few judge come first: they are done soon.
        able = sorted((one for one in chosen if not one.problem()), key=lambda one: not one.among)
        for mutant, row in _all_judged(able, options.n, quick=options.quick):
            survivors += [] if row.is_killed else [mutant.id]
            if not options.quick:
                matrix.rows[mutant.id] = row
                matrix.restricted_to(every).write(KEPT)  # at once: all of them take hours
    except MutantError as error:
        print(f"plumbline: {error}", file=sys.stderr)
        return 4
    if not options.quick:
        text = table(matrix.restricted_to(every), every, _requirements())
        TABLE.write_text(text, encoding="utf-8")
        if not options.only:
            print(text[text.find("## ") :] if "## " in text else "all told apart")
    return int(bool(problems or survivors))


def _requirements() -> list[str]:
    """The ids of all requirements that can fail."""
    command = [sys.executable, "-m", "pytest", *ALL_LEVELS, "--requirements", "-p", "no:cacheprovider"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split("\t")[0] for line in listed if line.split("\t")[1] != "record"]


def _all_judged(chosen: Sequence[Mutant], at_once: int, *, quick: bool) -> Iterator[tuple[Mutant, Row]]:
    """Each mutant with its row, in the order in which they are done."""
    with ThreadPoolExecutor(at_once) as pool:
        runs = {pool.submit(_judged, mutant, quick=quick): mutant for mutant in chosen}
        try:
            for run in as_completed(runs):
                yield runs[run], run.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _judged(mutant: Mutant | None, *, quick: bool) -> Row:
    """One run of the requirements on a mutant, or on the reference as it is."""
    with tempfile.TemporaryDirectory(prefix="plumbline-mutants-") as report:
        command = [sys.executable, "-m", "pytest"]
        command += ["-p", "tests.mutants.plugin", f"--mutant={mutant.id}"] if mutant else []
        command += [*ALL_LEVELS, "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
        command += [f"--report={report}"]
        command += [f"--maxfail={ENOUGH}"] if quick else []
        command += [f"conformance/{topic}" for topic in (mutant.among if mutant else ())]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        said = f"{done.stdout}\n{done.stderr}".strip()
        if done.returncode == 4:
            raise MutantError(said.removeprefix("ERROR: ").splitlines()[-1])
        lines = (Path(report) / "requirements.jsonl").read_text(encoding="utf-8").splitlines()
    row = row_of(mutant, [json.loads(line) for line in lines], done.returncode, said)
    killers = sorted(row.killers)
    some = ", ".join(killers[: None if mutant and mutant.among else SHOWN])
    end = f"killed by {len(killers)}: {some}" if row.is_killed else row.broken or "survives"
    print(f"mutant {mutant.id} {end}" if mutant else f"the reference as it is {end}", file=sys.stderr, flush=True)
    return row


if __name__ == "__main__":
    sys.exit(main())
