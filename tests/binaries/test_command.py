# SPDX-License-Identifier: Apache-2.0
"""`python -m clusters.binaries`: what it prints, its exit status, and what an interrupt leaves behind."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.binaries.conftest import RELEASE, Place
from tests.binaries.programs import write

TOP = Path(__file__).parents[2]


def command(place: Place, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "clusters.binaries", *arguments],
        cwd=TOP,
        env=place.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_path_is_all_of_stdout(place: Place, kube_proxy: bytes) -> None:
    place.mirror.publish(RELEASE, kube_proxy)
    with command(place, "kube-proxy", "--version", "1.37.1") as process:
        out, progress = process.communicate(timeout=20)
    assert process.returncode == 0
    assert [Path(line).parent for line in out.splitlines()] == [place.cache]
    assert "kube-proxy v1.37.1: downloading http://127.0.0.1:" in progress


def test_a_usage_error_is_one_line_and_status_4(place: Place) -> None:
    with command(place, "kube-proxy", "--version", "newest") as process:
        out, error = process.communicate(timeout=20)
    assert (process.returncode, out) == (4, "")
    assert error.startswith("plumbline: 'newest' is not a version of kube-proxy")
    assert error.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_download_leaves_nothing(place: Place, kube_proxy: bytes, number: signal.Signals) -> None:
    place.mirror.publish(RELEASE, kube_proxy)
    place.mirror.stuck = {RELEASE}
    with command(place, "kube-proxy") as process:
        assert place.mirror.half_sent.wait(20)
        process.send_signal(number)
        out, error = process.communicate(timeout=20)
    assert (process.returncode, out) == (128 + number, "")
    assert "Traceback" not in error
    assert place.left_in_cache() == []


def test_an_interrupted_build_ends_its_compilers_and_leaves_nothing(place: Place) -> None:
    started, never = place.root / "started", place.root / "never"
    os.mkfifo(started)
    os.mkfifo(never)
    compiler = write(place.root / "compile", f"#!/bin/sh\necho $$ >{started}; read line <>{never}\n".encode())
    place.install_go(f"{compiler} & wait")
    with command(place, "kube-proxy") as process:
        gone = os.pidfd_open(int(started.read_text()))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGINT
    assert place.left_in_cache() == []
    assert select.select([gone], [], [], 10)[0] == [gone]
    os.close(gone)
