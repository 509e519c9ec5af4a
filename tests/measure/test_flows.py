# SPDX-License-Identifier: Apache-2.0
"""A connection table that is filled: in a namespace of its own, whose count no other one has a part in."""

import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters.measure import flows
from clusters.measure.traffic import inside

unfit = os.geteuid() != 0 or flows.maximum() is None
needs_conntrack = pytest.mark.skipif(unfit, reason="unfit: needs root, and a kernel that tracks connections")


@pytest.fixture
def namespace() -> Iterator[Path]:
    """Of a process that does nothing."""
    with subprocess.Popen(["unshare", "--net", "sleep", "60"]) as process:
        try:
            own, place = Path("/proc/self/ns/net").readlink(), Path(f"/proc/{process.pid}/ns/net")
            while place.readlink() == own:
                time.sleep(0.001)
            yield place
        finally:
            process.kill()


def count(namespace: Path) -> int:
    done = subprocess.run(
        inside(namespace, ["cat", f"/proc/sys/{flows.COUNT}"]), capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@needs_conntrack
@pytest.mark.parametrize("established", [True, False])
def test_so_many_entries_are_made(namespace: Path, established: bool) -> None:
    ours = count(Path("/proc/self/ns/net"))
    flows.fill(namespace, 5_000, established=established)
    assert count(namespace) == 5_000
    assert abs(count(Path("/proc/self/ns/net")) - ours) < 1_000, "another namespace's table was filled too"


@needs_conntrack
def test_more_entries_than_ports_are_of_several_clients(namespace: Path) -> None:
    flows.fill(namespace, flows.PORTS + 100)
    assert count(namespace) == flows.PORTS + 100


@needs_conntrack
def test_an_established_connection_is_one(namespace: Path) -> None:
    flows.fill(namespace, 1)
    done = subprocess.run(inside(namespace, ["conntrack", "-L"]), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("unfit: there is no conntrack(8)")
    assert "ESTABLISHED src=198.18.0.0 dst=203.0.113.9 sport=1024 dport=9 " in done.stdout
    assert "[ASSURED]" in done.stdout


def test_a_message_is_as_long_as_it_says() -> None:
    for established in (True, False):
        message = flows.entry(123, established=established)
        assert struct.unpack_from("=I", message)[0] == len(message)
        assert len(message) % 4 == 0


def test_each_connection_is_another_one() -> None:
    batches = b"".join(flows._batches(450, established=True))
    length = len(flows.entry(0, established=True))
    messages = [batches[at : at + length] for at in range(0, len(batches), length)]
    assert len(set(messages)) == len(messages) == 450
    assert messages[7] == flows.entry(7, established=True)
