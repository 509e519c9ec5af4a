# SPDX-License-Identifier: Apache-2.0
"""Every test here runs twice: against the embedded server, and against etcd and kube-apiserver."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from kubernetes import client

from clusters import binaries, host
from clusters.errors import UsageError
from clusters.lab.control_plane import Real
from tests.apiserver.contract import servers
from tests.apiserver.contract.servers import Standing

KUBECTL_SECONDS = 60.0
"""How long one kubectl may take; a slow one needs two."""


def program(name: str) -> Path:
    """A program from the environment or the cache; building one is no business of a test."""
    found = binaries.at_hand(name)
    if found is None:
        pytest.skip(f"unfit: there is no {name} in the cache (python -m clusters.binaries {name})")
    return found.path


@pytest.fixture(scope="session", params=["embedded", "real"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    logs = tmp_path_factory.mktemp("server")
    if request.param == "embedded":
        with servers.embedded(logs / "log") as standing:
            yield standing
        return
    programs = Real(program("etcd"), program("kube-apiserver"))
    try:
        host.check("none")
    except UsageError as error:
        pytest.skip(f"unfit: {error}")
    with servers.real(programs, logs) as standing:
        yield standing


@pytest.fixture
def namespace(server: Standing) -> str:
    """The name of a namespace nobody else uses."""
    made = server.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "test-"}})
    name: str = made.must_be(201).metadata["name"]
    return name


@dataclass(frozen=True)
class Done:
    """A kubectl that ended."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return orjson.loads(self.out)


@dataclass(frozen=True)
class Kubectl:
    """kubectl with a configuration, and a cache of discovery, of its own."""

    path: Path
    home: Path
    namespace: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it; the caller ends it."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "KUBECONFIG": str(self.home / "config")}
        argv = [str(self.path), f"--namespace={self.namespace}", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def try_(self, *arguments: str, manifest: object = None) -> Done:
        """Run it, with an object on its standard input."""
        with self.start(*arguments) as process:
            text = "" if manifest is None else orjson.dumps(manifest).decode()
            try:
                out, err = process.communicate(text, timeout=KUBECTL_SECONDS)
            finally:
                process.kill()
        return Done(process.returncode, out, err)

    def __call__(self, *arguments: str, manifest: object = None) -> Done:
        """Run it; it must succeed."""
        done = self.try_(*arguments, manifest=manifest)
        assert done.status == 0, f"kubectl {' '.join(arguments)}: {done.err}"
        return done


@pytest.fixture(scope="session")
def kubectl_home(server: Standing, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("kubectl")
    (home / "config").write_text(server.kubeconfig)
    return home


@pytest.fixture
def kubectl(kubectl_home: Path, namespace: str) -> Kubectl:
    return Kubectl(program("kubectl"), kubectl_home, namespace)


@pytest.fixture(scope="session")
def connection(server: Standing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[client.ApiClient]:
    """The Python client's connection."""
    certificate = tmp_path_factory.mktemp("client") / "ca.crt"
    certificate.write_text(server.certificate)
    configuration = client.Configuration(host=server.url)
    configuration.ssl_ca_cert = str(certificate)
    configuration.api_key["authorization"] = f"Bearer {server.token}"
    configuration.api_key["BearerToken"] = f"Bearer {server.token}"
    with client.ApiClient(configuration) as opened:
        yield opened


@pytest.fixture(scope="session")
def core(connection: client.ApiClient) -> Any:
    return client.CoreV1Api(connection)


@pytest.fixture(scope="session")
def discovery(connection: client.ApiClient) -> Any:
    return client.DiscoveryV1Api(connection)
