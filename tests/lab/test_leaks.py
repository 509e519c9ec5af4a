# SPDX-License-Identifier: Apache-2.0
"""Whoever is killed, nothing stays behind: no process, no interface, no mount, no file."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.test_lab import host_state

ROOT = Path(__file__).resolve().parents[2]
# What the issue of leaving something behind is measured against: everything is gone within this time.
GONE_WITHIN = 2.0
STARTED_WITHIN = 60.0
MARK = "PLUMBLINE_TEST_MARK"


@dataclass(frozen=True)
class Session:
    """A pytest run in a process of its own, whose descendants all carry a mark in their environment."""

    process: subprocess.Popen[str]
    mark: str
    temporary: Path

    def processes(self, pattern: str = "") -> dict[int, str]:
        """PID → command line of every process with the mark (zombies have neither)."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    environment = (entry / "environ").read_bytes()
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
                if f"{MARK}={self.mark}".encode() in environment and re.search(pattern, command):
                    found[int(entry.name)] = command
        return found

    def await_proxies(self, count: int) -> dict[int, str]:
        """Wait until every node's kube-proxy runs."""
        end = time.monotonic() + STARTED_WITHIN
        while len(found := self.processes(r"^\S*kube-proxy\S* --config")) < count:
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < end, self.processes()
            time.sleep(0.02)
        return found

    def assert_gone(self) -> None:
        """Nothing with the mark is left in time, and no temporary file."""
        end = time.monotonic() + GONE_WITHIN
        while left := self.processes():
            assert time.monotonic() < end, left
            time.sleep(0.02)
        assert list(self.temporary.iterdir()) == []


@contextmanager
def session(tmp_path: Path, *arguments: str) -> Iterator[Session]:
    mark = uuid.uuid4().hex
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "pytest", f"--report={tmp_path / 'report'}", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [*command, "--proxy-mode=iptables", *arguments],
        cwd=ROOT,
        # Where CI is set, pytest's summary repeats the whole of every error.
        env={**os.environ, "CI": "", MARK: mark, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    running = Session(process, mark, temporary)
    try:
        yield running
    finally:
        for pid in running.processes():
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()


def only(processes: dict[int, str]) -> int:
    assert len(processes) == 1, processes
    return next(iter(processes))


def pytest_itself(running: Session) -> int:
    return running.process.pid


def supervisor(running: Session) -> int:
    """PID 1 of the lab: the child of the watchdog, which runs the same command."""
    return max(running.processes(r"clusters\.lab\.supervisor"))


def watchdog(running: Session) -> int:
    return min(running.processes(r"clusters\.lab\.supervisor"))


@pytest.mark.parametrize("victim", [pytest_itself, supervisor, watchdog])
def test_nothing_is_left_after_a_sigkill(victim: Callable[[Session], int], tmp_path: Path) -> None:
    before = host_state()
    with session(tmp_path) as running:
        running.await_proxies(3)
        os.kill(victim(running), signal.SIGKILL)
        if victim is not pytest_itself:
            output, _ = running.process.communicate(timeout=30.0)
            assert running.process.returncode == 3
            assert "the lab and everything in it is gone" in output
            assert "Traceback" not in output
        running.assert_gone()
    assert host_state() == before


def test_nothing_is_left_after_the_controller_was_killed(tmp_path: Path) -> None:
    """xdist's workers live on for many seconds; their labs must not."""
    before = host_state()
    with session(tmp_path, "-n", "2") as running:
        running.await_proxies(6)
        os.kill(running.process.pid, signal.SIGKILL)
        end = time.monotonic() + GONE_WITHIN
        while left := running.processes(r"kube-proxy|clusters\."):
            assert time.monotonic() < end, left
            time.sleep(0.02)
    assert host_state() == before


def test_ctrl_c_ends_in_order(tmp_path: Path) -> None:
    with session(tmp_path) as running:
        running.await_proxies(3)
        os.kill(running.process.pid, signal.SIGINT)
        output, _ = running.process.communicate(timeout=30.0)
        assert running.process.returncode == 2, output
        running.assert_gone()


def test_a_killed_proxy_is_one_clear_error(tmp_path: Path) -> None:
    with session(tmp_path) as running:
        os.kill(min(running.await_proxies(3)), signal.SIGKILL)
        output, _ = running.process.communicate(timeout=60.0)
        assert running.process.returncode == 3, output
        assert len(re.findall(r"kube-proxy on node-\w was killed by SIGKILL; its log ends:", output)) == 1, output
        assert "Traceback" not in output
        running.assert_gone()
