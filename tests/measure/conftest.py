# SPDX-License-Identifier: Apache-2.0
"""The C program, and servers on loopback that know exactly what they have seen."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from clusters.errors import PlumblineError
from clusters.measure.build import compiled

WARM_UP = 200
"""Rounds of the client that do not count (traffic.c)."""


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    try:
        return str(compiled(tmp_path_factory.mktemp("traffic")))
    except PlumblineError as error:
        pytest.skip(f"unfit: {error}")


@dataclass(slots=True)
class Told:
    """A server that counts connections and requests, and answers after a delay."""

    port: int = 0
    connections: int = 0
    requests: int = 0
    delay: float = 0.0  # of each answer that counts
    stall_at: int = -1  # the connection, counted from 0 and without the warm-up, after which nobody is accepted …
    stall: float = 0.0  # … for so long
    is_silent: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def converse(self, one: socket.socket) -> None:
        with one, suppress(OSError):
            while one.recv(64):
                with self.lock:
                    self.requests += 1
                    counted = self.requests > WARM_UP
                if self.is_silent:
                    continue
                if counted and self.delay:
                    time.sleep(self.delay)
                one.sendall(b"x")

    def accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                one, _ = listener.accept()
                self.connections += 1
                if self.connections - WARM_UP - 1 == self.stall_at:
                    time.sleep(self.stall)
                threading.Thread(target=self.converse, args=[one], daemon=True).start()


@contextmanager
def serving(told: Told, family: socket.AddressFamily = socket.AF_INET) -> Iterator[Told]:
    """On loopback, for as long as the block lasts."""
    with socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family) as listener:
        told.port = listener.getsockname()[1]
        thread = threading.Thread(target=told.accept, args=[listener], daemon=True)
        thread.start()
        yield told
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
