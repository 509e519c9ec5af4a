# SPDX-License-Identifier: Apache-2.0
"""-m scale as a whole: nothing measured without root, a small real run, what a budget leaves out, and Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from clusters.bpf import refused
from plugins.scale.cells import Scale, load
from tests.lab.ordinary import CANNOT, ordinary_user
from tests.plugin.runs import ROOT

SECONDS = 300.0
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="unfit: needs root")
needs_bpf = pytest.mark.skipif(refused(os.geteuid()) is not None, reason=f"unfit: {refused(os.geteuid())}")


def command(report: Path, *arguments: str) -> Sequence[str]:
    pytest_ = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    return [*pytest_, f"--report={report}", "-m", "scale", "conformance/scale", *arguments]


def run(report: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(report, *arguments), cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS
    )


def written(report: Path) -> Scale:
    return load((report / "scale.json").read_bytes())


@needs_root
@needs_bpf
def test_a_small_run(tmp_path: Path) -> None:
    done = run(tmp_path, "--proxy-mode=ebpf", "--services=1,50", "--duration=200ms", "-k", "first_packet or limit")
    assert "Traceback" not in done.stdout + done.stderr
    assert "first-packet, uniform, 50 Services: " in done.stdout, done.stdout
    scale = written(tmp_path)
    assert (scale.mode, scale.hermetic, scale.duration) == ("ebpf", False, 0.2)
    assert [cell.services for cell in scale.cells] == [1, 1, 1, 50, 50, 50]
    for cell in scale.cells:
        if cell.is_measured:
            assert 1e-6 < cell.median < 1e-2
            assert len(cell.limits) == len(cell.values) >= 3
            assert cell.percentiles["p01"] <= cell.percentiles["p50"] <= cell.percentiles["worst"]
            assert cell.failures == 0
    assert 0 < scale.harness["share of a direct connect"] < 0.05
    assert (tmp_path / "scale.csv").read_text().count("\n") == 7


@needs_root
def test_what_there_is_no_time_for_is_said(tmp_path: Path) -> None:
    """Nothing is started for it: the fake dataplane has no lab."""
    done = run(tmp_path, "-p", "tests.plugin.fake", "--proxy-command=sh", "--k8s-release=1.37", "--budget=10ms")
    assert "Traceback" not in done.stdout + done.stderr
    scale = written(tmp_path)
    assert {cell.outcome for cell in scale.cells} == {"left out"}
    assert {cell.services for cell in scale.cells if cell.services} == {1, 1_000, 5_000, 10_000}
    assert f"cells: {len(scale.cells)} left out" in done.stdout
    assert "--budget=0.01s has no time for it" in done.stdout


@needs_root
@needs_bpf
def test_after_ctrl_c_what_was_measured_is_kept(tmp_path: Path) -> None:
    arguments = ("--proxy-mode=ebpf", "--services=1,50", "--duration=10s", "-k", "first_packet")
    with subprocess.Popen(command(tmp_path, *arguments), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "first-packet, last Service, 1 Service" in line:
                    time.sleep(0.5)
                    process.send_signal(signal.SIGINT)
                    break
            rest = process.stdout.read()
            assert process.wait(60) == 2, rest
        finally:
            process.kill()
    assert [cell.series for cell in written(tmp_path).cells] == ["last Service"]


def test_an_ordinary_user_is_told() -> None:
    with ordinary_user() as user:
        done = user.pytest("-m", "scale", "--proxy-mode=iptables")
    if done.returncode == CANNOT:
        pytest.skip(f"unfit: nobody else can be let into this clone: {done.stderr.strip()}")
    assert done.returncode == 4
    assert "scale is measured with real traffic from the lab's namespaces, which needs root: use sudo" in done.stderr
