# SPDX-License-Identifier: Apache-2.0
"""What load balancers are told over HTTP."""

import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from queue import SimpleQueue

import pytest

from dataplane_ref.controller.health import Answer, HealthServer
from dataplane_ref.controller.state import HealthPorts

PATIENCE = 5.0
WEB = ("default", "web")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Served:
    """A health server at work."""

    def __init__(self) -> None:
        self.port, self.is_healthy = free_port(), True
        self.said: SimpleQueue[str] = SimpleQueue()
        self.server = HealthServer(self.port, self._own, lambda: self.is_healthy, self.said.put)
        self.server.start()

    def _own(self, path: str) -> Answer | None:
        return Answer(200, "fine", {}) if path == "/healthz" else None

    def ask(self, port: int, path: str = "/", method: str = "GET", host: str = "127.0.0.1") -> HTTPResponse | None:
        """The answer; None when nobody listens."""
        connection = HTTPConnection(host, port, timeout=PATIENCE)
        try:
            connection.request(method, path)
            return connection.getresponse()
        except (ConnectionRefusedError, ConnectionResetError):  # the latter from a port as it closes
            return None

    def status(self, port: int, wanted: int | None) -> bool:
        """Whether the status (None: nobody listens) becomes the one wanted; the server has a thread of its own."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = self.ask(port)
            if (answer.status if answer else None) == wanted:
                return True
        return False

    def update(self, ports: HealthPorts) -> None:
        self.server.update(ports)


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.server.stop()
    found.server.join(PATIENCE)
    assert not found.server.is_alive()


def test_a_service_with_endpoints_here_is_healthy(served: Served) -> None:
    port = free_port()
    served.update({WEB: (port, {4: 2})})
    assert served.status(port, 200)
    answer = served.ask(port, "/anything")
    assert answer is not None
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Load-Balancing-Endpoint-Weight"] == "2"
    assert json.loads(answer.read()) == {
        "service": {"namespace": "default", "name": "web"},
        "localEndpoints": 2,
        "serviceProxyHealthy": True,
    }


def test_without_endpoints_or_health_it_is_not(served: Served) -> None:
    port = free_port()
    served.update({WEB: (port, {4: 0})})
    assert served.status(port, 503)
    served.update({WEB: (port, {4: 1})})
    assert served.status(port, 200)
    served.is_healthy = False
    assert served.status(port, 503)


def test_a_port_closes_with_its_service(served: Served) -> None:
    port = free_port()
    served.update({WEB: (port, {4: 1})})
    assert served.status(port, 200)
    served.update({})
    assert served.status(port, None)


def test_a_port_that_is_taken_is_said_once_and_tried_again(served: Served) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        served.update({WEB: (port, {4: 1})})
        said = served.said.get(timeout=PATIENCE)
        assert said == f"port {port} (IPv4) for health checks cannot be opened yet: Address already in use"
    assert served.status(port, 200)


def test_the_families_have_their_own_counts(served: Served) -> None:
    port = free_port()
    served.update({WEB: (port, {4: 1, 6: 0})})
    assert served.status(port, 200)
    answer = served.ask(port, host="::1")
    assert answer is not None
    assert answer.status == 503


def test_its_own_port_answers_what_it_knows(served: Served) -> None:
    assert served.status(served.port, 404)
    answer = served.ask(served.port, "/healthz?verbose")
    assert answer is not None
    assert (answer.status, answer.read()) == (200, b"fine")


@pytest.mark.parametrize(
    "sent", [b"", b"\0" * 20000, b"GET", b"GET\r\n\r\n", b"\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n"]
)
def test_bad_requests_disturb_nobody(served: Served, sent: bytes) -> None:
    assert served.status(served.port, 404)
    with socket.create_connection(("127.0.0.1", served.port)) as rude:
        rude.sendall(sent)
        answer = served.ask(served.port, "/healthz")
        assert answer is not None
        assert answer.status == 200
