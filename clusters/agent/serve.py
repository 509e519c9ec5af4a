# SPDX-License-Identifier: Apache-2.0
"""Backends: listeners in any namespace that answer who they are and whom they saw, by name.

Each backend listens by its own sockets per address or, with no address, per family on the wildcard; IPv6 sockets are
V6ONLY, so that an IPv4 client is seen as one. SCTP is served from raw sockets, one for each namespace and family.
"""

import errno
import socket
from typing import Any

from clusters.agent.control import Operation, Reply
from clusters.agent.flowspec import parse_address, parse_port
from clusters.agent.listeners import Connection, TcpListener, UdpListener
from clusters.agent.loop import Loop
from clusters.agent.netns import Namespace, Namespaces
from clusters.agent.sctp_server import Association, SctpListener, SctpStacks
from clusters.agent.sockets import explain, family_of
from clusters.agent.wire import RequestError


class Backend:
    """One named backend: its listeners and its connections."""

    def __init__(self, loop: Loop, stacks: SctpStacks, name: str) -> None:
        self._loop = loop
        self._stacks = stacks
        self._connections: set[Connection] = set()
        self._associations: set[Association] = set()
        self.name = name
        self.listeners: list[TcpListener | UdpListener | SctpListener] = []

    def listen(self, namespace: Namespace, ip: str, port: int, protocol: str) -> None:
        """Bind in a namespace, in which the agent is now. Raises OSError."""
        if protocol == "SCTP":
            self.listeners.append(self._stacks.listen(namespace, self.name, ip, port, self._associations))
            return
        family = family_of(ip)
        kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if protocol == "TCP":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((ip, port))
            if protocol == "TCP":
                self.listeners.append(TcpListener(self._loop, sock, self.name, port, self._connections))
            else:
                self.listeners.append(UdpListener(self._loop, sock, self.name, port))
        except OSError:
            sock.close()
            raise

    def counts(self) -> dict[tuple[str, int], int]:
        """Connections, datagrams and associations by protocol and port, those still queued in the kernel included."""
        totals: dict[tuple[str, int], int] = {}
        for listener in self.listeners:
            listener.take_all()
            key = (listener.protocol, listener.port)
            totals[key] = totals.get(key, 0) + listener.count
        return totals

    def strays(self) -> dict[int, int]:
        """SCTP packets that came wrong, by port."""
        totals: dict[int, int] = {}
        for listener in self.listeners:
            if isinstance(listener, SctpListener):
                listener.take_all()
                totals[listener.port] = totals.get(listener.port, 0) + listener.strays
        return totals

    def close(self, established: str) -> None:
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()
        if established != "keep":
            open_ones: tuple[Connection | Association, ...] = (*self._connections, *self._associations)
            for connection in open_ones:
                connection.close(reset=established == "reset")


class Server:
    """All backends of this agent, by name."""

    def __init__(self, loop: Loop, namespaces: Namespaces) -> None:
        self._loop = loop
        self._namespaces = namespaces
        self._stacks = SctpStacks(loop)
        self._backends: dict[str, Backend] = {}

    def operations(self) -> dict[str, Operation]:
        return {"serve": self._serve, "unserve": self._unserve, "counts": self._counts, "strays": self._strays}

    def _serve(self, request: dict[str, Any], reply: Reply) -> None:
        """{backends: [{name, netns, addresses, tcp, udp, sctp}…]} → {listening: number of sockets}; all or none."""
        made: list[Backend] = []
        try:
            for entry in request["backends"]:
                backend = self._make(entry)
                made.append(backend)
                self._backends[backend.name] = backend
        except BaseException:
            for backend in made:
                self._backends.pop(backend.name).close("close")
            raise
        reply.ok({"listening": sum(len(backend.listeners) for backend in made)})

    def _make(self, entry: dict[str, Any]) -> Backend:
        name = entry["name"]
        if not isinstance(name, str) or not name.isascii() or len(name.split()) != 1 or name != name.strip():
            raise RequestError(f"a backend's name is one ASCII word, not {name!r}")
        if name in self._backends:
            raise RequestError(f"a backend named {name!r} is already served")
        addresses = [parse_address(ip) for ip in entry.get("addresses", ())]
        ports = [("TCP", parse_port(port)) for port in entry.get("tcp", ())]
        ports += [("UDP", parse_port(port)) for port in entry.get("udp", ())]
        ports += [("SCTP", parse_port(port)) for port in entry.get("sctp", ())]
        namespace = self._namespaces.open(entry.get("netns"))
        backend = Backend(self._loop, self._stacks, name)
        try:
            with self._namespaces.inside(namespace):
                self._bind(backend, addresses, ports, namespace)
        except BaseException:
            backend.close("close")
            raise
        finally:
            namespace.close()  # the listeners hold it from here on
        return backend

    @staticmethod
    def _bind(backend: Backend, addresses: list[str], ports: list[tuple[str, int]], namespace: Namespace) -> None:
        for ip in addresses or ("0.0.0.0", "::"):
            for protocol, port in ports:
                try:
                    backend.listen(namespace, ip, port, protocol)
                except OSError as error:
                    if error.errno == errno.EAFNOSUPPORT and not addresses:
                        continue  # a kernel without IPv6 serves IPv4
                    raise RequestError(
                        f"backend {backend.name} cannot listen on {protocol} {ip} port {port} in {namespace}:"
                        f" {explain(error)}"
                    ) from None

    def _unserve(self, request: dict[str, Any], reply: Reply) -> None:
        """{names: [name…], established: close|reset|keep} → null, once nothing listens any more."""
        established = request.get("established", "close")
        if established not in ("close", "reset", "keep"):
            raise RequestError(
                f"established connections are closed by 'close', 'reset' or 'keep', not {established!r}"
            )
        names = request["names"]
        for name in names:
            self._find(name)
        for name in names:
            self._backends.pop(name).close(established)
        reply.ok()

    def _counts(self, request: dict[str, Any], reply: Reply) -> None:
        """{names: [name…] or null} → {counts: [[name, protocol, port, connections, datagrams or associations]…]}"""
        names = request.get("names")
        backends = list(self._backends.values()) if names is None else [self._find(name) for name in names]
        reply.ok(
            {
                "counts": [
                    (backend.name, protocol, port, number)
                    for backend in backends
                    for (protocol, port), number in backend.counts().items()
                ]
            }
        )

    def _strays(self, request: dict[str, Any], reply: Reply) -> None:
        """{names: [name…]} → {strays: [[name, port, SCTP packets whose checksum or tag was wrong]…]}"""
        backends = [self._find(name) for name in request["names"]]
        rows = [(backend.name, port, number) for backend in backends for port, number in backend.strays().items()]
        reply.ok({"strays": rows})

    def _find(self, name: Any) -> Backend:
        backend = self._backends.get(name)
        if backend is None:
            raise RequestError(f"no backend is named {name!r}")
        return backend
