# SPDX-License-Identifier: Apache-2.0
"""-m load against a real kube-proxy, honest and broken: each requirement passes, and can fail."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clusters import host
from clusters.errors import UsageError
from plugins.load.order import CONNECTIONS
from tests.lab.test_leaks import Session, session

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0
REAL = ("--proxy-mode=iptables",)
SHORT = ("-m", "load", "--duration=4s")


@pytest.fixture(scope="session", autouse=True)
def _machine() -> None:
    """A machine on which a lab can run."""
    try:
        host.check("iptables")
    except UsageError as error:
        pytest.skip(f"unfit: {error}")


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has ended: its status, what it said, and what it wrote."""

    status: int
    out: str
    records: Sequence[Mapping[str, Any]]
    load: Mapping[str, Any]
    scale: Mapping[str, Any]

    def outcomes(self) -> dict[str, str]:
        return {one["id"]: one["outcome"] for one in self.records}


def run(*arguments: str) -> Ended:
    """Run pytest with these arguments to its end."""
    with tempfile.TemporaryDirectory(prefix="plumbline-load-") as report:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *SHORT, f"--report={report}"]
        command += [*(() if "--proxy-command=sh" in arguments else REAL), *arguments]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "CI": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        records = [json.loads(line) for line in (Path(report) / "requirements.jsonl").read_text().splitlines()]
        files = [Path(report) / name for name in ("load.json", "scale.json")]
        load, scale = (json.loads(one.read_text()) if one.exists() else {} for one in files)
        return Ended(done.returncode, done.stdout + done.stderr, records, load, scale)


@pytest.fixture(scope="module")
def honest() -> Ended:
    """A run against an unmodified kube-proxy."""
    return run("-k", "fails_no_request or crash_shows")


def test_an_honest_proxy_drains_without_a_failed_request(honest: Ended) -> None:
    assert honest.outcomes() == {"load.drain.graceful": "pass", "load.control.crash-shows": "pass"}, honest.out
    drained, crashed = (
        next(one for one in honest.load["scenarios"] if one["requirement"] == name)
        for name in ("load.drain.graceful", "load.control.crash-shows")
    )
    assert (drained["failed"], drained["endpoints"]) == (0, 3)
    assert drained["requests"] > 100
    assert {kind["kind"] for kind in drained["kinds"]} == set(CONNECTIONS)
    assert crashed["failed"] > 0
    assert any("refused" in failure["text"] for kind in crashed["kinds"] for failure in kind["failures"])


def test_what_came_of_it_is_on_the_page_of_charts(honest: Ended) -> None:
    drained = [one for one in honest.scale["cells"] if one["series"] == "drain.graceful: HTTP keepalive"]
    assert [(one["chart"], one["failures"]) for one in drained] == [("load", 0), ("load-latency", 0)]
    assert "scale.html" in honest.out


def test_figures_and_progress_are_shown(honest: Ended) -> None:
    assert "load.drain.graceful: 12 users, " in honest.out
    assert "load.drain.graceful: 0 of " in honest.out
    observed = next(one["observed"] for one in honest.records if one["id"] == "load.drain.graceful")
    assert observed.startswith("0 of ")
    assert "HTTP keepalive" in observed


def test_a_second_of_rejected_packets_in_the_roll_is_a_failure() -> None:
    ended = run("-p", "tests.load.sabotage", "--rejecting-after=3", "-k", "fails_no_request")
    assert ended.status == 1, ended.out
    assert ended.outcomes() == {"load.drain.graceful": "fail"}
    assert "requests failed while pods were replaced in good order [" in ended.out
    assert "connection refused" in ended.out
    assert "Traceback" not in ended.out


def test_a_proxy_that_does_not_follow_is_a_failure() -> None:
    """Stopped after the first settling, it sends new connections to pods that have gone."""
    ended = run("-p", "tests.controls.sabotage", "--control=stale", "--deadline-scale=0.2", "-k", "fails_no_request")
    assert ended.status == 1, ended.out
    assert ended.outcomes() == {"load.drain.graceful": "fail"}


def test_the_queue_is_whole() -> None:
    ended = run("-k", "each_message")
    assert ended.outcomes() == {"load.queue.each-message-once": "pass"}, ended.out
    (entry,) = ended.load["scenarios"]
    assert entry["messages"]["put"] > 100
    assert (entry["messages"]["lost"], entry["messages"]["twice"]) == (0, 0)


def test_where_there_is_no_lab_load_is_unfit() -> None:
    ended = run("-p", "tests.plugin.fake", "--proxy-command=sh", "--k8s-release=1.37", "-k", "fails_no_request")
    assert ended.outcomes() == {"load.drain.graceful": "unfit"}, ended.out
    assert ended.load == ended.scale == {}


def test_ctrl_c_ends_locust_and_its_workers(tmp_path: Path) -> None:
    with session(tmp_path, "-m", "load", "-k", "every_request", "--duration=60s") as running:
        await_locust(running, 3)
        os.kill(running.process.pid, signal.SIGINT)
        output, _ = running.process.communicate(timeout=60.0)
        assert running.process.returncode == 2, output
        assert "Traceback" not in output
        running.assert_gone()


def test_nothing_is_left_of_locust_after_a_sigkill(tmp_path: Path) -> None:
    with session(tmp_path, "-m", "load", "-k", "every_request", "--duration=60s") as running:
        await_locust(running, 3)
        os.kill(running.process.pid, signal.SIGKILL)
        running.assert_gone()


def await_locust(running: Session, count: int) -> None:
    """A master and its workers are at work."""
    while len(running.processes(r"-m locust ")) < count:
        assert running.process.poll() is None, running.process.communicate()[0]
        time.sleep(0.02)
