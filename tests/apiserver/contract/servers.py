# SPDX-License-Identifier: Apache-2.0
"""The two servers, each on a port of this machine's loopback, and raw HTTP to either."""

import base64
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPMessage, HTTPSConnection
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from clusters.lab.control_plane import Real
from clusters.lab.provider import Lab
from tests.apiserver.conftest import ANSWER_SECONDS, Watch, start_server, stop_server

JSON = "application/json"
MERGE, STRATEGIC, JSON_PATCH = (
    f"application/{kind}+json" for kind in ("merge-patch", "strategic-merge-patch", "json-patch")
)
APPLY = "application/apply-patch+yaml"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass(frozen=True)
class Answer:
    """One answer. `body` is decoded JSON, or text where it is none."""

    status: int
    body: Any
    headers: HTTPMessage

    def __getitem__(self, name: str) -> Any:
        return self.body[name]

    @property
    def metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body["metadata"]
        return found

    @property
    def names(self) -> list[str]:
        """The names of a list's items."""
        return [item["metadata"]["name"] for item in self.body["items"]]

    def must_be(self, status: int) -> "Answer":
        assert self.status == status, f"{self.status}, but should be {status}: {self.body}"
        return self

    def must_be_refused(self, status: int, reason: str) -> "Answer":
        """A Status object with this code and reason, and a sentence."""
        self.must_be(status)
        told = {name: self.body.get(name) for name in ("kind", "apiVersion", "status", "code", "reason")}
        wanted = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason}
        assert told == wanted
        assert self.body["message"]
        return self


@dataclass(frozen=True)
class Standing:
    """A running server: where it is, the token it takes, and the certificate to trust."""

    name: Literal["embedded", "real"]
    port: int
    token: str
    certificate: str

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> str:
        encoded = base64.b64encode(self.certificate.encode()).decode()
        cluster = {"server": self.url, "certificate-authority-data": encoded}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "it", "cluster": cluster}],
                "users": [{"name": "me", "user": {"token": self.token}}],
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
                "current-context": "it",
            }
        )

    def connect(self) -> HTTPSConnection:
        context = ssl.create_default_context(cadata=self.certificate)
        return HTTPSConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS, context=context)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        content: str = JSON,
        headers: Any = None,
        **query: str,
    ) -> Answer:
        """One request with the token, unless `headers` (a mapping) bring another. `continue_` is `continue`."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        words = {name.rstrip("_"): value for name, value in query.items()}
        path += f"?{urlencode(words)}" if words else ""
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": content} | dict(headers or {})
        with closing(self.connect()) as connection:
            connection.request(method, path, data, {name: value for name, value in sent.items() if value})
            response = connection.getresponse()
            text = response.read().decode()
        is_json = JSON in response.headers.get("Content-Type", "")
        return Answer(response.status, json.loads(text) if is_json else text, response.headers)

    def watch(self, path: str, headers: Any = None, **query: str) -> Watch:
        connection = self.connect()
        sent = {"Authorization": f"Bearer {self.token}"} | dict(headers or {})
        connection.request("GET", f"{path}?{urlencode({'watch': 'true'} | query)}", headers=sent)
        return Watch(connection, connection.getresponse())

    def define(self, definition: dict[str, Any]) -> str:
        """Create a definition and wait until its first version is served and discovered; the path of that version.

        A real server serves it before discovery knows of it.
        """
        self.call("POST", CRDS, definition).must_be(201)
        spec = definition["spec"]
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}"
        end = time.monotonic() + ANSWER_SECONDS
        for needed in (f"{path}/{spec['names']['plural']}", path):
            while self.call("GET", needed).status != 200:
                assert time.monotonic() < end, f"{needed} is not served"
        return path


@contextmanager
def embedded(log: Path) -> Iterator[Standing]:
    """The embedded server; at its end it must not have had to print anything."""
    with log.open("wb") as file:
        running = start_server(log=file)
    try:
        _, answer = running.call("GET", "/plumbline/certificate")
        yield Standing("embedded", running.port, running.token, answer["certificate"])
    finally:
        status = stop_server(running)
    assert (status, log.read_text()) == (0, "")


@contextmanager
def real(programs: Real, logs: Path) -> Iterator[Standing]:
    """etcd and kube-apiserver, in a lab of their own."""
    with Lab(nodes=1, pods_per_node=3, log_directory=logs, control_plane=programs) as lab:
        port = int(lab.kube.server.rpartition(":")[2])
        assert lab.kube.ca is not None
        yield Standing("real", port, lab.kube.token, lab.kube.ca)
