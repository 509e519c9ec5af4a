# SPDX-License-Identifier: Apache-2.0
"""A server of load on this machine's loopback, at an address of its own, for the tests."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusters.measure.served import HTTP_PORT

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0
NAME = "pod-1"
# Any address of 127.0.0.0/8 is this machine's; with its process's number in it no two tests share one.
_numbers = itertools.count(2)


@dataclass(frozen=True, slots=True)
class Served:
    """The process, and where it listens."""

    process: subprocess.Popen[bytes]
    ip: str

    def connect(self, port: int) -> socket.socket:
        return socket.create_connection((self.ip, port), timeout=PATIENCE)

    def get(self, path: str) -> tuple[dict[str, str], str]:
        """Headers and body of an HTTP answer, over a connection of its own."""
        with self.connect(HTTP_PORT) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
            return http_answer(sock)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/state")[1])
        return found

    def drain(self) -> None:
        self.process.send_signal(signal.SIGUSR1)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)


def http_answer(sock: socket.socket) -> tuple[dict[str, str], str]:
    """One answer: its headers by names in lower case, its status as `status`, and its body."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        data = sock.recv(4096)
        assert data, f"the connection was closed after {seen!r}"
        seen += data
    head, _, body = seen.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in fields)}
    while len(body) < int(headers["content-length"]):
        body += sock.recv(4096)
    return {**headers, "status": status.split()[1]}, body.decode()


def telling(descriptor: int, command: Sequence[str]) -> list[str]:
    """A command with a descriptor in the place where it tells what it has to tell; it dies when this process does."""
    become = (
        "import os, sys; from clusters.lab.namespaces import die_with_parent; die_with_parent(9); "
        "os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"
    )
    return [sys.executable, "-S", "-c", become, str(descriptor), *command]


@contextmanager
def served() -> Iterator[Served]:
    """Inside, a server is ready; afterwards it is gone."""
    number, pid = next(_numbers), os.getpid()
    ip = f"127.{64 + number % 64}.{pid >> 8 & 255}.{pid & 255 or 1}"
    told, tell = os.pipe()
    command = [sys.executable, "-S", "-m", "clusters.measure.served", f"--name={NAME}", f"--ip={ip}"]
    process = subprocess.Popen(telling(tell, command), cwd=ROOT, pass_fds=[tell])
    os.close(tell)
    try:
        with os.fdopen(told) as pipe:
            assert pipe.readline() == "ready\n"
        yield Served(process, ip)
    finally:
        process.kill()
        process.wait()
