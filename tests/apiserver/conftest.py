# SPDX-License-Identifier: Apache-2.0
"""The API server twice over: in-process without a socket, and as the real process on a loopback socket."""

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Any, Self

import pytest

from clusters.apiserver.api import Api
from clusters.apiserver.bootstrap import ClusterConfig, new_cluster
from clusters.apiserver.kinds import Resource
from clusters.apiserver.status import ApiError

ANSWER_SECONDS = 20.0
"""How long any single read may take; only a broken server comes near it."""

NODE = "node-a"
"""The node whose loopback the server's second socket stands for."""


@dataclass(frozen=True)
class Cluster:
    """An in-process API with short forms for the calls tests make over and over."""

    api: Api

    def resource(self, plural: str, group: str = "") -> Resource:
        found = self.api.registry.find(group, "v1", plural)
        assert found is not None
        return found

    def create(self, plural: str, obj: dict[str, Any], namespace: str = "default", **more: Any) -> dict[str, Any]:
        group = "discovery.k8s.io" if plural == "endpointslices" else more.pop("group", "")
        created: dict[str, Any] = json.loads(self.api.create(self.resource(plural, group), namespace, obj, **more))
        return created

    def service(self, name: str, **spec: Any) -> dict[str, Any]:
        """A Service with port 80 unless the spec says otherwise."""
        wanted = {"ports": [{"port": 80}]} | spec
        return self.create("services", {"metadata": {"name": name}, "spec": wanted})

    def get(self, name: str) -> dict[str, Any]:
        return self.api.get(self.resource("services"), "default", name).load()

    def update(self, name: str, **spec: Any) -> dict[str, Any]:
        """Replace a Service by its present self with some spec fields changed; None removes a field."""
        obj = self.get(name)
        obj["spec"] = {key: value for key, value in (obj["spec"] | spec).items() if value is not None}
        replaced: dict[str, Any] = json.loads(self.api.replace(self.resource("services"), "default", name, obj))
        return replaced

    def delete(self, name: str) -> None:
        self.api.delete(self.resource("services"), "default", name)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(new_cluster())


@pytest.fixture
def tiny_cluster() -> Cluster:
    """Six IPv4 addresses, no IPv6, four node ports."""
    return Cluster(new_cluster(ClusterConfig(service_cidrs=("10.0.0.0/29",), node_ports=(30000, 30003))))


def refusal(error: pytest.ExceptionInfo[ApiError]) -> tuple[int, str, str]:
    """Code, reason and message of a refused request."""
    return error.value.code, error.value.reason, error.value.message


class Watch:
    """An open watch: frames as they arrive."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self.response = response

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self._connection.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in self.response:
            yield json.loads(line)

    def take(self, count: int) -> list[tuple[str, str]]:
        """The next `count` events, as (type, name)."""
        frames = iter(self)
        return [(e["type"], e["object"]["metadata"].get("name", "")) for e in (next(frames) for _ in range(count))]


@dataclass(frozen=True)
class Server:
    """A running server process: its port, its token, and raw HTTP."""

    process: subprocess.Popen[bytes]
    port: int
    token: str
    open_port: int

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)

    def raw(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        with closing(self.connect()) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()

    def call(self, method: str, path: str, obj: Any = None, content: str = "application/json") -> tuple[int, Any]:
        """One request with the token; the status and the decoded answer."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content}
        status, body = self.raw(method, path, None if obj is None else json.dumps(obj).encode(), headers)
        return status, json.loads(body)

    def watch(self, path: str) -> Watch:
        """Open a watch; the path's query is completed with watch=true."""
        connection = self.connect()
        path += ("&" if "?" in path else "?") + "watch=true"
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        return Watch(connection, connection.getresponse())


def start_server(*arguments: str, log: IO[bytes] | None = None) -> Server:
    """Start a server on two loopback sockets, the second without a token, and wait until it says it is ready.

    What it prints goes to `log`, or where this process prints.
    """
    ready, ready_writer = os.pipe()
    token = secrets.token_hex(16)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as unguarded:
        fds = (listener.fileno(), unguarded.fileno(), ready_writer)
        command = [sys.executable, "-m", "clusters.apiserver", f"--listen-fd={fds[0]}", f"--open-fd={fds[1]}:{NODE}"]
        command += [f"--ready-fd={ready_writer}", *arguments]
        environment = os.environ | {"PLUMBLINE_API_TOKEN": token}
        process = subprocess.Popen(command, pass_fds=fds, env=environment, stdout=log, stderr=log)
        os.close(ready_writer)
        with os.fdopen(ready, "rb") as pipe:
            line = pipe.readline()
        port, open_port = listener.getsockname()[1], unguarded.getsockname()[1]
    assert line == b"ready\n", "the server did not become ready"
    return Server(process, port, token, open_port)


def stop_server(server: Server) -> int:
    server.process.terminate()
    try:
        return server.process.wait(ANSWER_SECONDS)
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One process for all tests; each works in a namespace of its own."""
    running = start_server()
    yield running
    stop_server(running)


@pytest.fixture
def namespace(server: Server) -> str:
    """The name of a namespace nobody else uses."""
    status, created = server.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "test-"}})
    assert status == 201
    name: str = created["metadata"]["name"]
    return name
