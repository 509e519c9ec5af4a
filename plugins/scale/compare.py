# SPDX-License-Identifier: Apache-2.0
"""`make compare MODES='iptables nftables ebpf'`: one plan for each mode, drawn together.

Each mode is a run of pytest of its own, whose report is in `REPORT/compare/MODE/`; the page of all is
`REPORT/scale.html`. What is left of the command line goes to each run. Ctrl-C ends the run that is on, as it ends
any; what has been measured is drawn all the same.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from clusters.errors import PlumblineError, UsageError
from plugins.options import MODES
from plugins.outcomes import Status
from plugins.scale import page
from plugins.scale import quantities as say
from plugins.scale.catalogue import ordered
from plugins.scale.cells import Cell, Scale, load
from plugins.scale.panels import Group, groups

ROOT = Path(__file__).resolve().parents[2]
USUAL = ("iptables", "nftables", "ebpf")
# The worst of several first. That not everything was judged (6) is less than that something was judged and is bad.
WORST = (Status.INTERRUPTED, Status.USAGE, Status.PLUMBLINE_ERROR, Status.FAILED, Status.NOTHING_SELECTED)
HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Ran:
    """A mode's run: pytest's exit status, what it took in seconds, and what it has measured, if anything."""

    mode: str
    status: int
    seconds: float
    scale: Scale | None

    @property
    def trouble(self) -> str:
        """One sentence for a run that did not end well; empty for one that did."""
        if self.status in (Status.JUDGED, Status.INCOMPLETE):
            return ""
        drawn = "what it has measured is here all the same" if self.scale else "it has measured nothing"
        return f"Mode {self.mode} ended with exit status {self.status}; {drawn}."


def main(arguments: Sequence[str]) -> int:
    """Run all modes, then draw; pytest's worst exit status."""
    options = argparse.ArgumentParser(prog="python -m plugins.scale.compare", description=__doc__)
    options.add_argument("--modes", nargs="+", default=list(USUAL), choices=MODES, metavar="MODE")
    options.add_argument("--report", type=Path, default=Path("report"), metavar="DIR")
    given, more = options.parse_known_args(arguments)
    report = given.report.absolute()
    return draw(run(list(dict.fromkeys(given.modes)), report, more), report)


def draw(ran: Sequence[Ran], report: Path) -> int:
    """Write the page and print the table of what was measured; pytest's worst exit status."""
    scales = [one.scale for one in ran if one.scale is not None]
    if not scales:
        print("compare: nothing was measured, so there is nothing to draw", file=sys.stderr)
        return worst(ran) or Status.PLUMBLINE_ERROR
    path = report / "scale.html"
    try:
        page.write(scales, path, [sentence for one in ran if (sentence := one.trouble)])
    except (OSError, PlumblineError) as error:
        print(f"compare: {path} cannot be written: {error}", file=sys.stderr)
        return Status.PLUMBLINE_ERROR
    console = Console()
    for table in tables(scales):
        console.print(table)
    for one in ran:
        if one.trouble:
            print(one.trouble)
    print(f"written: {path}")
    return worst(ran)


def pytest_of(mode: str, report: Path, more: Sequence[str]) -> list[str]:
    """The command line of one mode's run."""
    return [sys.executable, "-m", "pytest", f"--proxy-mode={mode}", "-m", "scale", f"--report={report}", *more]


def run(
    modes: Sequence[str],
    report: Path,
    more: Sequence[str],
    command: Callable[[str, Path, Sequence[str]], Sequence[str]] = pytest_of,
) -> list[Ran]:
    """One run after the other; after Ctrl-C those that there were."""
    began = time.monotonic()
    ran: list[Ran] = []
    for mode in modes:
        print(f"\ncompare: {progress(modes, ran, time.monotonic() - began)}", flush=True)
        directory = report / "compare" / mode
        ran.append(_run(mode, directory, command(mode, directory, more)))
        # Other modes would have nothing to say either, if the command line is wrong.
        if ran[-1].status in (Status.INTERRUPTED, Status.USAGE):
            break
    print(f"\ncompare: {progress(modes, ran, time.monotonic() - began)}", flush=True)
    return ran


def progress(modes: Sequence[str], ran: Sequence[Ran], passed: float) -> str:
    """What is done, what is next, and how long the rest takes if each mode takes as long as those before."""
    if len(ran) == len(modes) or (ran and ran[-1].status in (Status.INTERRUPTED, Status.USAGE)):
        return f"{len(ran)} of {len(modes)} modes in {_clock(passed)}"
    upcoming = modes[len(ran)]
    if not ran:
        return f"1 of {len(modes)} modes: {upcoming}"
    rest = passed / len(ran) * (len(modes) - len(ran))
    return f"{len(ran) + 1} of {len(modes)} modes: {upcoming}; {_clock(passed)} so far, about {_clock(rest)} left"


def worst(ran: Sequence[Ran]) -> int:
    """The exit status of all."""
    statuses = {one.status for one in ran}
    return next((one for one in WORST if one in statuses), max(statuses, default=0))


def tables(scales: Sequence[Scale]) -> list[Table]:
    """Modes side by side, at the fewest and at the most Services; of each group of runs that can be compared."""
    return [_table(group) for group in groups(scales)]


def _table(group: Group) -> Table:
    kind = "hermetic kernel" if group.hermetic else "kernel"
    title = f"{kind} {group.runs[0].kernel}: medians, and × the limit of the same run"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("what")
    table.add_column("Services", justify="right")
    for scale in group.runs:
        table.add_column(scale.mode, justify="right")
    for chart in ordered(group.charts):
        for name, services, cells in _rows(group, chart.id):
            texts = [_text(cells.get(run)) for run in range(len(group.runs))]
            table.add_row(f"{chart.id}{f': {name}' if name else ''}", f"{services:,}", *texts)
    return table


def _rows(group: Group, chart: str) -> list[tuple[str, int, Mapping[int, Cell]]]:
    """Series, number of Services, and each run's cell there: the fewest and the most that any run has."""
    by: dict[tuple[str, str], dict[int, dict[int, Cell]]] = {}
    for run_number, cell in group.cells(chart):
        by.setdefault((cell.series, cell.unit), {}).setdefault(cell.services, {})[run_number] = cell
    return [
        (series, services, at[services]) for (series, _), at in by.items() for services in sorted({min(at), max(at)})
    ]


def _text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if not cell.is_measured:
        return cell.outcome
    ratio = f" ({say.number(cell.ratio)} ×)" if cell.ratio is not None else ""
    failed = f", {cell.failures:,} failed" if cell.failures else ""
    return f"{say.quantity(cell.median, cell.unit)}{ratio}{failed}"


def _run(mode: str, report: Path, command: Sequence[str]) -> Ran:
    """pytest, whose output is ours. In a process group of its own, so that one Ctrl-C is one SIGINT for it."""
    began = time.monotonic()
    # What an earlier run left there would be drawn if this one came to nothing.
    (report / "scale.json").unlink(missing_ok=True)
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, process_group=0)
    return Ran(mode, _wait(process), time.monotonic() - began, _measured(report))


def _wait(process: "subprocess.Popen[bytes]") -> int:
    """Its exit status. Whatever would end us is handed on as Ctrl-C is: it writes down what it has, then ends."""

    def hand_on(_number: int, _frame: object) -> None:
        process.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, hand_on) for number in HANDED_ON}
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    # Ended by a signal: as good as interrupted.
    return status if status >= 0 else Status.INTERRUPTED


def _measured(report: Path) -> Scale | None:
    path = report / "scale.json"
    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, PlumblineError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
