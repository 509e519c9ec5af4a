# SPDX-License-Identifier: Apache-2.0
"""locust and its users, for real, against a server on this machine's loopback; and that pytest never imports it."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clusters.measure.served import HTTP_PORT, LINE_PORT, QUEUE_PORT
from plugins.load.messages import account
from plugins.load.order import CONNECTIONS, QUEUE, QUEUE_MESSAGE, REQUESTS, UDP_DATAGRAM, VARIABLE, Order
from plugins.load.results import Load, read
from plugins.load.traffic import STARTED_WITHIN, arguments
from tests.load.served import PATIENCE, ROOT, Served, served, telling

USERS = dict.fromkeys(REQUESTS, 2)


@dataclass(slots=True)
class Locust:
    """A running locust, and what it has told."""

    process: subprocess.Popen[bytes]
    pipe: int
    directory: Path
    told: bytes = b""

    def await_requests(self, count: int) -> None:
        """Until it has told of so many."""
        end = time.monotonic() + STARTED_WITHIN
        while (self.last("requests") or 0) < count:
            assert select.select([self.pipe], [], [], max(end - time.monotonic(), 0.0))[0], self.told
            data = os.read(self.pipe, 4096)
            assert data, "locust has ended by itself"
            self.told += data

    def last(self, name: str) -> Any:
        """The latest that it has told under a name."""
        lines = [json.loads(line) for line in self.told.split(b"\n")[:-1]]
        return next((line[name] for line in reversed(lines) if name in line), None)

    def end(self) -> Load:
        self.process.send_signal(signal.SIGUSR1)
        while data := os.read(self.pipe, 4096):
            self.told += data
        self.process.wait(PATIENCE)
        return Load(read((self.directory / "result.json").read_text(encoding="utf-8"), self.last("errors")))


@contextmanager
def locust(server: Served, users: Mapping[str, int], directory: Path, **more: Any) -> Iterator[Locust]:
    """Inside, these users are at work."""
    order = Order(
        ip=server.ip,
        users=users,
        http_port=HTTP_PORT,
        line_port=LINE_PORT,
        queue_port=QUEUE_PORT,
        receipts=str(directory / "receipts"),
        **more,
    )
    pipe, tell = os.pipe()
    # In the lab each master has a network namespace to itself; here it must not meet another's.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        VARIABLE: order.dumps(),
        "HOME": str(directory),
        **dict.fromkeys(("LOCUST_MASTER_NODE_PORT", "LOCUST_MASTER_BIND_PORT"), port),
    }
    command = telling(tell, [sys.executable, *arguments(order, directory)])
    process = subprocess.Popen(command, cwd="/", env=environ, pass_fds=[tell], start_new_session=True)
    os.close(tell)
    running = Locust(process, pipe, directory)
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(pipe)


@pytest.fixture
def server() -> Iterator[Served]:
    with served() as running:
        yield running


def test_every_kind_of_user_is_answered_and_all_is_counted(server: Served, tmp_path: Path) -> None:
    with locust(server, USERS, tmp_path, pace=50.0) as running:
        running.await_requests(200)
        load = running.end()
    assert load.failed == 0
    assert {one.kind for one in load.only(REQUESTS).kinds} == set(REQUESTS)
    # Eight users at fifty requests a second each, at most.
    assert all(one.rate < 110 for one in load.kinds)
    assert all(0 < one.worst < PATIENCE for one in load.kinds)
    answered = server.state()["answered"]
    http = sum(one.requests for one in load.kinds if one.kind.startswith("HTTP"))
    assert (http, load.of("TCP line").requests, load.of(UDP_DATAGRAM).requests) == tuple(answered.values())


def test_a_crash_shows_and_is_named(server: Served, tmp_path: Path) -> None:
    with locust(server, USERS, tmp_path, datagram_deadline=0.3) as running:
        running.await_requests(100)
        server.process.kill()
        running.await_requests(running.last("requests") + 50)
        load = running.end()
    for kind in REQUESTS:
        found = load.of(kind)
        assert found.failed > 0
        assert found.failed == sum(failure.count for failure in found.failures)
    assert {failure.text for kind in CONNECTIONS for failure in load.of(kind).failures} >= {"connection refused"}


def test_a_silent_server_shows_as_no_answer(server: Served, tmp_path: Path) -> None:
    with locust(server, USERS, tmp_path, deadline=0.3, datagram_deadline=0.3) as running:
        running.await_requests(100)
        server.process.send_signal(signal.SIGSTOP)
        running.await_requests(running.last("requests") + 20)
        load = running.end()
    assert {failure.text for failure in load.of(UDP_DATAGRAM).failures} == {"no answer in time"}


def test_a_drain_fails_no_request(server: Served, tmp_path: Path) -> None:
    with locust(server, dict.fromkeys(CONNECTIONS, 2), tmp_path, pace=50.0) as running:
        running.await_requests(100)
        server.drain()
        running.await_requests(running.last("requests") + 100)
        load = running.end()
    assert load.failed == 0


def test_every_message_arrives_once(server: Served, tmp_path: Path) -> None:
    with locust(server, dict.fromkeys(QUEUE, 10), tmp_path) as running:
        running.await_requests(1000)
        load = running.end()
    assert load.failed == 0
    found = account((tmp_path / "receipts").read_text().splitlines(), server.state()["queue"]["left"])
    found.must_be_whole()
    assert found.got == load.of(QUEUE_MESSAGE).requests


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_master(server: Served, tmp_path: Path, number: int) -> None:
    """The pipe is held by all of them, so that its end is the end of the last."""
    with locust(server, USERS, tmp_path) as running:
        running.await_requests(100)
        running.process.send_signal(number)
        end = time.monotonic() + PATIENCE
        while os.read(running.pipe, 4096):
            assert time.monotonic() < end


def test_pytest_never_imports_locust() -> None:
    """It brings a plugin of its own for pytest, and makes every socket one of gevent's."""
    code = (
        "import pytest, sys; pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider', '--proxy=none', "
        "'-m', 'load', 'conformance/load']); print(sorted({'gevent', 'locust'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "test_graceful_drain_fails_no_request" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
