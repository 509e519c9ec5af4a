# SPDX-License-Identifier: Apache-2.0
"""What load balancers and people are told over HTTP: healthCheckNodePorts, /healthz, /livez and /metrics.

The answers are kube-proxy's (pkg/proxy/healthcheck), because load balancers' controllers were written against them:
https://kubernetes.io/docs/tasks/access-application-cluster/create-external-load-balancer/. One thread serves all.
"""

import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from msgspec import Struct

from dataplane_ref.controller.program import ServiceKey
from dataplane_ref.controller.state import HealthPorts

FAMILIES = {4: (socket.AF_INET, "0.0.0.0"), 6: (socket.AF_INET6, "::")}
LONGEST_REQUEST = 16384
PATIENCE_SECONDS = 5.0
RETRY_SECONDS = 1.0
Door = tuple[int, int]
"""A family and a port."""


class Answer(Struct, frozen=True):
    """An HTTP answer."""

    status: int
    body: str
    headers: Mapping[str, str]

    def encode(self, *, with_body: bool) -> bytes:
        body = self.body.encode()
        reason = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}[self.status]
        lines = [f"HTTP/1.1 {self.status} {reason}", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + (body if with_body else b"")


def service_answer(service: ServiceKey, count: int, *, is_healthy: bool) -> Answer:
    """What a load balancer is told about a Service with so many ready endpoints here."""
    body = {
        "service": {"namespace": service[0], "name": service[1]},
        "localEndpoints": count,
        "serviceProxyHealthy": is_healthy,
    }
    return Answer(
        200 if count and is_healthy else 503,
        json.dumps(body, indent=1),
        {
            "Content-Type": "application/json",
            "X-Content-Type-Options": "nosniff",
            "X-Load-Balancing-Endpoint-Weight": str(count),
        },
    )


def proxy_answer(status: int, fields: Mapping[str, object]) -> Answer:
    """What /healthz and /livez say."""
    return Answer(
        status, json.dumps(fields), {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}
    )


class HealthServer(threading.Thread):
    """Serves `health_port` of all addresses, and the ports of Services as `update` says.

    `own` answers a path on `health_port`, or None for one that it does not know.
    """

    def __init__(
        self, health_port: int, own: Callable[[str], Answer | None], is_healthy: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        super().__init__(name="health", daemon=True)
        self._own, self._is_healthy, self._say = own, is_healthy, say
        self._lock = threading.Lock()
        self._doors: dict[Door, tuple[ServiceKey, int] | None] = dict.fromkeys(
            ((family, health_port) for family in FAMILIES) if health_port else ()
        )
        self._base = dict(self._doors)
        self._listening: dict[Door, socket.socket] = {}
        self._failed: set[Door] = set()
        self._selector = selectors.DefaultSelector()
        self._wake, woken = socket.socketpair()
        woken.setblocking(False)
        self._selector.register(woken, selectors.EVENT_READ, None)
        self._woken = woken
        self._stopping = False

    def update(self, ports: HealthPorts) -> None:
        """The Services' ports and counts, from now on."""
        doors = dict(self._base)
        for service, (port, counts) in ports.items():
            for family, count in counts.items():
                doors.setdefault((family, port), (service, count))
        with self._lock:
            if doors == self._doors:
                return
            self._doors = doors
        self._poke()

    def stop(self) -> None:
        """End, and close every port."""
        self._stopping = True
        self._poke()

    def _poke(self) -> None:
        with suppress(OSError):
            self._wake.send(b"!")

    def run(self) -> None:
        try:
            while not self._stopping:
                self._listen()
                timeout = RETRY_SECONDS if self._failed else None
                pending = [key for key in self._selector.get_map().values() if isinstance(key.data, list)]
                for key, _ in self._selector.select(PATIENCE_SECONDS if pending and timeout is None else timeout):
                    self._serve(key)
                now = time.monotonic()
                for key in pending:
                    if now - key.data[1] > PATIENCE_SECONDS:
                        self._hang_up(key.fileobj)
        finally:
            for each in self._listening.values():
                each.close()

    def _listen(self) -> None:
        """Open the doors that are wanted, close the others."""
        with self._lock:
            wanted = set(self._doors)
        for door in self._listening.keys() - wanted:
            closed = self._listening.pop(door)
            self._selector.unregister(closed)
            closed.close()
        self._failed &= wanted
        for door in sorted(wanted - self._listening.keys()):
            try:
                opened = _open(*door)
            except OSError as error:
                if error.errno != 97 and door not in self._failed:  # EAFNOSUPPORT: a kernel without that family
                    self._say(
                        f"port {door[1]} (IPv{door[0]}) for health checks cannot be opened yet: {error.strerror}"
                    )
                self._failed.add(door)
            else:
                self._failed.discard(door)
                self._listening[door] = opened
                self._selector.register(opened, selectors.EVENT_READ, door)

    def _serve(self, key: selectors.SelectorKey) -> None:
        sock = key.fileobj
        assert isinstance(sock, socket.socket)
        if key.data is None:
            with suppress(BlockingIOError):
                sock.recv(4096)
        elif isinstance(key.data, tuple):
            with suppress(OSError):
                asking, _ = sock.accept()
                asking.setblocking(False)
                self._selector.register(asking, selectors.EVENT_READ, [key.data, time.monotonic(), b""])
        else:
            self._read(sock, key.data)

    def _read(self, sock: socket.socket, data: list[object]) -> None:
        door, _, before = data
        assert isinstance(before, bytes)
        assert isinstance(door, tuple)
        try:
            received = sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        request = before + received
        data[2] = request
        if received and b"\r\n\r\n" not in request and len(request) < LONGEST_REQUEST:
            return
        if b"\r\n" in request:
            method, _, rest = request.partition(b"\r\n")[0].partition(b" ")
            answer = self._answer(door, rest.split(b" ")[0].split(b"?")[0].decode("latin-1"))
            with suppress(OSError):
                sock.send(answer.encode(with_body=method != b"HEAD"))
        self._hang_up(sock)

    def _hang_up(self, sock: object) -> None:
        assert isinstance(sock, socket.socket)
        with suppress(KeyError, ValueError):
            self._selector.unregister(sock)
        with suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        sock.close()

    def _answer(self, door: Door, path: str) -> Answer:
        with self._lock:
            found = self._doors.get(door)
        if found is not None:
            return service_answer(*found, is_healthy=self._is_healthy())
        return self._own(path) or Answer(404, "there are /healthz, /livez and /metrics\n", {})


def _open(family: int, port: int) -> socket.socket:
    kind, everywhere = FAMILIES[family]
    opened = socket.socket(kind, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == 6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setblocking(False)
        opened.bind((everywhere, port))
        opened.listen(64)
    except BaseException:
        opened.close()
        raise
    return opened
