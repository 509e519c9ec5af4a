# SPDX-License-Identifier: Apache-2.0
"""Modes side by side: each a run of its own, whose end is told, and one page of what there is."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from plugins.outcomes import Status
from plugins.scale import compare
from plugins.scale.cells import dump
from plugins.scale.compare import Ran
from tests.scale import made

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0  # seconds; only a run that hangs comes near it
# A run that writes what it is given, waits where it is told to, and ends as it is told to.
STAND_IN = """
import pathlib, shutil, signal, sys, time
file, report, status, wait = sys.argv[1:]
report = pathlib.Path(report)
report.mkdir(parents=True, exist_ok=True)
def write():
    if file:
        shutil.copy(file, report / "scale.json")
def interrupted(number, frame):
    write()
    sys.exit(2)
signal.signal(signal.SIGINT, interrupted)
(report / "started").touch()
time.sleep(float(wait))
write()
sys.exit(int(status))
"""


def stand_in(file: Path | None, report: Path, status: int = 0, wait: float = 0) -> list[str]:
    return [sys.executable, "-c", STAND_IN, str(file or ""), str(report), str(status), str(wait)]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for mode in ("iptables", "nftables", "ebpf"):
        found[mode] = tmp_path / f"{mode}.json"
        found[mode].write_bytes(dump(made.only(made.scale(mode), "rate")))
    return found


def test_each_mode_has_a_run_and_a_report_of_its_own(tmp_path: Path) -> None:
    command = compare.pytest_of("ipvs", tmp_path, ["--services=1,10"])
    assert command[1:] == [
        "-m",
        "pytest",
        "--proxy-mode=ipvs",
        "-m",
        "scale",
        f"--report={tmp_path}",
        "--services=1,10",
    ]


def test_all_are_drawn_on_one_page(files: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def command(mode: str, report: Path, _more: Sequence[str]) -> list[str]:
        return stand_in(files[mode], report)

    ran = compare.run(list(files), tmp_path, [], command)
    assert [(one.mode, one.status) for one in ran] == [("iptables", 0), ("nftables", 0), ("ebpf", 0)]
    assert compare.draw(ran, tmp_path) == 0
    page = (tmp_path / "scale.html").read_text()
    for mode in files:
        assert (tmp_path / "compare" / mode / "scale.json").exists()
        assert f"var(--{mode})" in page
    out = capfd.readouterr().out
    assert "compare: 1 of 3 modes: iptables\n" in out
    assert "compare: 2 of 3 modes: nftables; 0:0" in out
    assert "compare: 3 of 3 modes in 0:0" in out


def test_the_worst_end_is_the_end() -> None:
    def ends(*statuses: int) -> int:
        return compare.worst([Ran("x", status, 1.0, None) for status in statuses])

    assert ends(0, 0) == Status.JUDGED
    assert ends(0, 6) == Status.INCOMPLETE
    assert ends(6, 1, 0) == Status.FAILED
    assert ends(1, 3) == Status.PLUMBLINE_ERROR
    assert ends(3, 2) == Status.INTERRUPTED
    assert ends() == Status.JUDGED


def test_a_mode_that_fails_does_not_keep_others_from_being_measured(files: dict[str, Path], tmp_path: Path) -> None:
    def command(mode: str, report: Path, _more: Sequence[str]) -> list[str]:
        return stand_in(None if mode == "iptables" else files[mode], report, status=3 if mode == "iptables" else 0)

    ran = compare.run(list(files), tmp_path, [], command)
    assert [one.scale is not None for one in ran] == [False, True, True]
    assert compare.draw(ran, tmp_path) == 3
    assert "Mode iptables ended with exit status 3; it has measured nothing." in (tmp_path / "scale.html").read_text()


def test_a_wrong_command_line_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran = compare.run(["iptables", "ebpf"], tmp_path, [], lambda _mode, report, _: stand_in(None, report, status=4))
    assert [one.mode for one in ran] == ["iptables"]
    assert compare.draw(ran, tmp_path) == 4
    assert "there is nothing to draw" in capfd.readouterr().err
    assert not (tmp_path / "scale.html").exists()


def test_what_an_earlier_run_left_is_not_drawn(files: dict[str, Path], tmp_path: Path) -> None:
    old = tmp_path / "compare" / "ebpf" / "scale.json"
    old.parent.mkdir(parents=True)
    old.write_bytes(files["ebpf"].read_bytes())
    (ran,) = compare.run(["ebpf"], tmp_path, [], lambda _mode, report, _: stand_in(None, report))
    assert ran.scale is None


def test_what_is_left_is_told_by_what_was() -> None:
    modes = ["iptables", "nftables", "ebpf"]
    done = [Ran("iptables", 0, 100.0, None)]
    assert compare.progress(modes, done, 100.0) == "2 of 3 modes: nftables; 1:40 so far, about 3:20 left"
    assert compare.progress(modes, [*done, Ran("nftables", 2, 1.0, None)], 101.0) == "2 of 3 modes in 1:41"


def test_the_table_has_modes_side_by_side_at_the_fewest_and_the_most() -> None:
    runs = [made.scale("iptables", noise=0.0), made.without(made.scale("ebpf", noise=0.0), "rate", 10_000)]
    console = Console(file=io.StringIO(), width=140)
    (table,) = compare.tables(runs)
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    rows = [line.split() for line in text.splitlines() if "rate: last Service" in line]
    assert [row[3] for row in rows] == ["1", "10,000"]
    assert "14.7 k/s (0.735 ×)" in text
    assert "unfit" in text
    assert "5,000" not in text


def test_ctrl_c_ends_the_run_that_is_on_and_draws_what_there_is(files: dict[str, Path], tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from plugins.scale import compare
from tests.scale.test_compare import stand_in
file, report = Path({str(files["ebpf"])!r}), Path({str(tmp_path)!r})
ran = compare.run(["ebpf", "iptables"], report, [], lambda mode, directory, _: stand_in(file, directory, wait=600))
print([one.mode for one in ran], flush=True)
sys.exit(compare.draw(ran, report))
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environ, text=True) as process:
        started = tmp_path / "compare" / "ebpf" / "started"
        deadline = time.monotonic() + PATIENCE
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == Status.INTERRUPTED
    assert "['ebpf']" in out
    assert "var(--ebpf)" in (tmp_path / "scale.html").read_text()
