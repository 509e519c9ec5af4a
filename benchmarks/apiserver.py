# SPDX-License-Identifier: Apache-2.0
"""The embedded API server: one list of many Services, and one write told to many watchers."""

import json
import os
import secrets
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rows import Row
from clusters.errors import PlumblineError
from clusters.kube import KubeClient
from clusters.measure.api import Api
from clusters.measure.services import NAMESPACE, Shape

ROOT = Path(__file__).resolve().parents[1]
SERVICES = 100_000
WATCHERS, EVENTS = 100, 2_000
WRITTEN = 10_000
PIPELINE = 200
PATH = "/api/v1/namespaces/default/services"
CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Server:
    """A server process on loopback."""

    port: int
    token: str

    def connect(self, request: bytes) -> socket.socket:
        """A connection on which this has been sent."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.sendall(request)
        return connection

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """A request as it goes over the wire."""
        head = f"{method} {path} HTTP/1.1\r\nHost: plumbline\r\nAuthorization: Bearer {self.token}\r\n"
        return head.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@contextmanager
def server() -> Iterator[Server]:
    """A new, empty server, whose Service CIDRs have room."""
    ready, ready_writer = os.pipe()
    token = secrets.token_hex(16)
    with socket.create_server(("127.0.0.1", 0), backlog=WATCHERS) as listener, os.fdopen(ready, "rb") as pipe:
        command = [sys.executable, "-m", "clusters.apiserver", f"--listen-fd={listener.fileno()}"]
        command += [f"--ready-fd={ready_writer}", "--service-cidrs=10.0.0.0/8,fd00:10::/108"]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PLUMBLINE_API_TOKEN": token},
            pass_fds=(listener.fileno(), ready_writer),
        )
        os.close(ready_writer)
        try:
            if pipe.readline() != b"ready\n":
                raise PlumblineError("the API server did not start")
            yield Server(listener.getsockname()[1], token)
        finally:
            process.terminate()
            process.wait()


def service(number: int) -> bytes:
    """A Service as tests write them."""
    spec = {"selector": {"app": f"app-{number}"}, "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]}
    return json.dumps(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s-{number}"}, "spec": spec}
    ).encode()


def create(running: Server, first: int, count: int) -> None:
    """Create Services, pipelined on one connection. Raises PlumblineError if one is refused."""
    with running.connect(b"") as connection:
        for start in range(first, first + count, PIPELINE):
            numbers = range(start, min(start + PIPELINE, first + count))
            connection.sendall(b"".join(running.request("POST", PATH, service(number)) for number in numbers))
            answers, wanted = b"", len(numbers)
            while (created := answers.count(b"HTTP/1.1 201")) < wanted or not answers.endswith(b"}"):
                data = connection.recv(CHUNK)
                answers += data
                if not data or answers.count(b"HTTP/1.1") > created + answers.count(b"HTTP/1.1 201"):
                    raise PlumblineError(f"a Service was not created: {answers[-400:].decode()}")


def listing() -> Sequence[Row]:
    """Time from the request for all Services to the last byte of the answer."""
    samples, size = [], 0
    with server() as running:
        create(running, 0, SERVICES)
        for _ in range(5):
            started = time.perf_counter()
            with running.connect(running.request("GET", "/api/v1/services?resourceVersion=0")) as connection:
                size = _read_answer(connection)
            samples.append(time.perf_counter() - started)
    note = f"{size / 1e6:,.0f} MB of JSON"
    return [Row(f"API server: list of {SERVICES:,} Services", "s", samples, 0.6, note=note)]


def _read_answer(connection: socket.socket) -> int:
    """Read one answer with a Content-Length or in chunks to its end; its size."""
    received, head, size = b"", b"", 0
    while b"\r\n\r\n" not in received:
        received += connection.recv(CHUNK)
    head, _, rest = received.partition(b"\r\n\r\n")
    if b" 200 " not in head.splitlines()[0]:
        raise PlumblineError(f"the list was refused: {head.decode()}")
    lengths = [line for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    size, tail = len(rest), rest[-8:]
    while (size < int(lengths[0].split()[1])) if lengths else not tail.endswith(b"0\r\n\r\n"):
        data = connection.recv(CHUNK)
        size += len(data)
        tail = (tail + data)[-8:]
    return size


def watching() -> Sequence[Row]:
    """Events told to a hundred watchers a second, from the first write until the last of them has heard the last."""
    samples = []
    with server() as running, ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        request = running.request("GET", "/api/v1/services?watch=true&resourceVersion=0")
        for _ in range(WATCHERS):
            connection = stack.enter_context(running.connect(request))
            selector.register(connection, selectors.EVENT_READ)
        for run in range(3):
            writer = threading.Thread(target=create, args=(running, run * EVENTS, EVENTS))
            started = time.perf_counter()
            writer.start()
            _hear(selector, WATCHERS * EVENTS)
            samples.append(WATCHERS * EVENTS / (time.perf_counter() - started))
            writer.join()
    note = "one process writes and hears, on the same cores"
    return [Row(f"API server: watch deliveries, {WATCHERS} watchers", "/s", samples, 300_000, "more", note)]


def writing() -> Sequence[Row]:
    """Services with an EndpointSlice each, as -m scale writes them: until the last of them has been answered."""
    samples = []
    shape = Shape([f"10.128.{number // 250}.{number % 250 + 1}" for number in range(2 * WRITTEN)], 2)
    for _ in range(3):
        with server() as running, closing(Api(KubeClient(f"http://127.0.0.1:{running.port}", running.token))) as api:
            namespace = json.dumps({"metadata": {"name": NAMESPACE}}).encode()
            api.write_all([api.request("POST", "/api/v1/namespaces", namespace)])
            started = time.perf_counter()
            api.write_all(api.request("POST", *each) for each in shape.lists(0, WRITTEN))
            samples.append(time.perf_counter() - started)
    return [Row(f"API server: {WRITTEN:,} Services and their slices written", "s", samples, 1.0)]


def _hear(selector: selectors.BaseSelector, events: int) -> None:
    """Read until so many events have arrived, summed over all watchers."""
    heard = 0
    while heard < events:
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(CHUNK)
            if not data:
                raise PlumblineError("the server ended a watch")
            heard += data.count(b'"type":"ADDED"')
