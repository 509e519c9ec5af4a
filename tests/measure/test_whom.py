# SPDX-License-Identifier: Apache-2.0
"""Who answers: told by the servers themselves, and watched until it changes; on loopback, all of which is ours."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clusters.measure import whom
from clusters.measure.traffic import TrafficError, running
from clusters.measure.whom import Awaited, Watcher, dial
from tests.measure.test_traffic import free_port

EVERYWHERE = ("127.0.0.0", "127.255.255.255")


class Here:
    """In place of Traffic: this process's own network."""

    def __init__(self, program: str) -> None:
        self.program, self.cpu = program, min(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def in_this_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whom, "inside", lambda _, command: command)


@pytest.fixture
def here(program: str) -> Any:
    return Here(program)


@contextmanager
def telling(here: Any, port: int) -> Iterator[None]:
    with running([here.program, "tell", str(here.cpu), str(port)]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield


def test_a_server_tells_at_which_address_it_was_reached(here: Any) -> None:
    port = free_port()
    with telling(here, port):
        dialled = [(("127.0.0.1", port), 0), (("127.3.2.1", port), 0), (("::1", port), 0)]
        assert dial(here, Path(), dialled) == ["127.0.0.1", "127.3.2.1", "::1"]


def test_a_source_port_can_be_used_again_at_once(here: Any) -> None:
    port = free_port()
    with telling(here, port):
        assert dial(here, Path(), [(("127.0.0.1", port), 33_333)] * 3) == ["127.0.0.1"] * 3


def test_nobody_is_none(here: Any) -> None:
    assert dial(here, Path(), [(("127.0.0.1", free_port()), 0)]) == [None]


def test_what_is_no_address_is_an_error(here: Any) -> None:
    with pytest.raises(TrafficError, match="the client that dials ended too early: traffic: nowhere"):
        dial(here, Path(), [(("nowhere", 80), 0)])


@contextmanager
def watching(here: Any) -> Iterator[Watcher]:
    with whom.watching(here, Path()) as watcher:
        yield watcher


def test_who_begins_to_answer_is_told_with_the_time(here: Any) -> None:
    port = free_port()
    with watching(here) as watcher:
        began = time.monotonic()
        watcher.expect(Awaited(("127.0.0.1", port), "+", *EVERYWHERE, deadline=10.0))
        time.sleep(0.1)
        with telling(here, port):
            ready = time.monotonic()
            (came,) = watcher.came().values()
    assert came.in_time
    assert began + 0.1 <= came.at
    assert came.at - ready < 0.2
    assert came.failures > 10


def test_who_ceases_to_answer_is_told_with_the_last_time(here: Any) -> None:
    port = free_port()
    with telling(here, port), watching(here) as watcher:
        # Others than the watched range answer throughout, and then nobody else does.
        watcher.expect(Awaited(("127.0.0.1", port), "-", "127.0.0.2", "127.0.0.2", deadline=10.0, calm=20))
        watcher.expect(Awaited(("127.0.0.1", port), "-", "127.0.0.1", "127.0.0.1", deadline=0.3, calm=20))
        came = watcher.came()
    assert came[0].in_time
    assert (came[0].at, came[0].answers) == (0.0, 20)
    assert not came[1].in_time, "it never ceased"
    assert came[1].at > 0


def test_failures_are_no_proof_that_somebody_ceased(here: Any) -> None:
    with watching(here) as watcher:
        watcher.expect(Awaited(("127.0.0.1", free_port()), "-", *EVERYWHERE, deadline=0.2, calm=1))
        (came,) = watcher.came().values()
    assert not came.in_time
    assert came.answers == 0
    assert came.failures > 10


def test_a_deadline_passes(here: Any) -> None:
    began = time.monotonic()
    with watching(here) as watcher:
        watcher.expect(Awaited(("127.0.0.1", free_port()), "+", *EVERYWHERE, deadline=0.1))
        (came,) = watcher.came().values()
    assert (came.in_time, came.at) == (False, 0.0)
    assert 0.1 <= time.monotonic() - began < 2.0


def test_many_are_watched_at_once(here: Any) -> None:
    port = free_port()
    with telling(here, port), watching(here) as watcher:
        for number in range(50):
            address = f"127.0.1.{number}"
            watcher.expect(Awaited((address, port), "+", address, address, deadline=5.0))
        came = watcher.came()
    assert len(came) == 50
    assert all(one.in_time for one in came.values())


def test_a_watcher_that_dies_is_an_error(here: Any) -> None:
    with running([here.program, "watch", str(here.cpu)], stdin=subprocess.PIPE) as process:
        watcher = Watcher(process)
        watcher.expect(Awaited(("127.0.0.1", 9), "+", *EVERYWHERE, deadline=60.0))
        process.kill()
        with pytest.raises(TrafficError, match="ended too early"):
            watcher.came()
