# SPDX-License-Identifier: Apache-2.0
"""The lab's control plane: the embedded API server, or a real etcd and kube-apiserver in its place.

Either is reached by the same sockets: one on this machine's loopback, and one on every node's own. So nothing else
in the lab, and no requirement, knows which of them it has.
"""

import os
import select
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Literal, Protocol

from clusters.errors import PlumblineError
from clusters.kube import SERVICES, ApiError, KubeClient
from clusters.lab.logged import Logged
from clusters.lab.supervised import ANSWER_DEADLINE

# Where the real control plane keeps its data: among the lab's own temporary files, gone with the lab.
HOME = "/run/control-plane"
# On the loopback of the lab's own network namespace, in which nothing else listens.
ETCD, ETCD_PEERS, KUBE_APISERVER = "127.0.0.1:2379", "127.0.0.1:2380", "127.0.0.1:6443"
# 2 to 3 s on two cores; the rest is for machines that are busy.
READY_DEADLINE = 60.0
POLL_INTERVAL, ANSWER_SECONDS = 0.02, 5.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What a control plane is given to start on.

    `listeners` are names of sockets that the supervisor holds: first the one on this machine's loopback, at `port`,
    then one in each node.
    """

    processes: Logged
    listeners: Sequence[str]
    port: int
    token: str
    service_cidrs: Sequence[str]


class ControlPlane(Protocol):
    """Something that serves the Kubernetes API on the lab's sockets."""

    @property
    def scheme(self) -> Literal["http", "https"]: ...
    def start(self, stage: Stage) -> Callable[[], str | None]:
        """Start it and return at once; the function that comes back waits until it serves.

        Its answer is the certificate (PEM) that clients must trust, or None for plain http. Raises PlumblineError,
        as the function does, when it does not start.
        """


@dataclass(frozen=True, slots=True)
class Embedded:
    """plumbline's own API server, `clusters.apiserver`: a single process, ready in a tenth of a second."""

    scheme: Literal["http", "https"] = "http"

    def start(self, stage: Stage) -> Callable[[], str | None]:
        ready, ready_writer = os.pipe2(os.O_CLOEXEC)
        try:
            # Descriptor 3 is the ready pipe; 4, 5, … are the listeners.
            stage.processes.python(
                "apiserver",
                ["-m", "clusters.apiserver", "--ready-fd=3", "--listen-fd=4"]
                + [f"--service-cidrs={','.join(stage.service_cidrs)}"]
                + [f"--open-fd={number}:{node}" for number, node in enumerate(stage.listeners[1:], 5)],
                descriptors=[ready_writer],
                listeners=stage.listeners,
                environment={"PLUMBLINE_API_TOKEN": stage.token},
            )
        finally:
            os.close(ready_writer)

        def wait() -> None:
            with os.fdopen(ready, "rb") as pipe:
                told, _, _ = select.select([pipe], [], [], ANSWER_DEADLINE)
                if not told or pipe.readline() != b"ready\n":
                    words = stage.processes.last_words("apiserver")
                    raise PlumblineError(f"the lab's API server did not start; its log ends:{words}")

        return wait


@dataclass(frozen=True, slots=True)
class Real:
    """etcd and kube-apiserver: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/

    There are no controllers and no scheduler: what they would write, the lab and the tests write themselves.
    """

    etcd: Path
    kube_apiserver: Path
    scheme: Literal["http", "https"] = "https"

    def start(self, stage: Stage) -> Callable[[], str | None]:
        identity = f'{stage.token},plumbline,plumbline,"system:masters"\n'
        stage.processes.supervisor.call("write", path=f"{HOME}/tokens.csv", text=identity)
        # kube-apiserver tries until etcd answers, which it does before kube-apiserver first asks.
        stage.processes.program("etcd", self._etcd_command())
        stage.processes.program("kube-apiserver", self._kube_apiserver_command(stage.service_cidrs))
        stage.processes.python(
            "relay",
            ["-S", "-m", "clusters.lab.relay", f"--to={KUBE_APISERVER}"]
            + [f"--listen-fd={number}" for number in range(3, 3 + len(stage.listeners))],
            listeners=stage.listeners,
        )
        return lambda: _await_ready(stage)

    def _etcd_command(self) -> list[str]:
        return [
            str(self.etcd),
            f"--data-dir={HOME}/etcd",
            f"--listen-client-urls=http://{ETCD}",
            f"--advertise-client-urls=http://{ETCD}",
            f"--listen-peer-urls=http://{ETCD_PEERS}",
            f"--initial-advertise-peer-urls=http://{ETCD_PEERS}",
            f"--initial-cluster=default=http://{ETCD_PEERS}",
            # It elects itself, and need not wait a second for rivals.
            "--heartbeat-interval=10",
            "--election-timeout=100",
            # Nothing here outlives the process.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _kube_apiserver_command(self, service_cidrs: Sequence[str]) -> list[str]:
        ip, _, port = KUBE_APISERVER.rpartition(":")
        return [
            str(self.kube_apiserver),
            f"--etcd-servers=http://{ETCD}",
            f"--bind-address={ip}",
            f"--secure-port={port}",
            f"--advertise-address={ip}",
            f"--cert-dir={HOME}",  # where it writes a certificate for its address, signed by itself
            f"--token-auth-file={HOME}/tokens.csv",
            "--authorization-mode=AlwaysAllow",
            "--anonymous-auth=false",
            f"--service-cluster-ip-range={','.join(service_cidrs)}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={HOME}/apiserver.key",
            f"--service-account-key-file={HOME}/apiserver.key",
            # Pods need no account: no controller would make it.
            "--disable-admission-plugins=ServiceAccount",
            # The Service `kubernetes` stays without endpoints: no node could reach this address.
            "--endpoint-reconciler-type=none",
            "--allow-privileged",
            "--v=1",
        ]


def _await_ready(stage: Stage) -> str:
    """Wait until kube-apiserver is ready; its certificate. Raises PlumblineError with the last log lines."""
    end = time.monotonic() + READY_DEADLINE
    while True:
        certificate = _certificate(stage)
        if certificate and _is_ready(stage, certificate):
            return certificate
        stage.processes.exits()
        if time.monotonic() > end:
            words = stage.processes.last_words("kube-apiserver")
            raise PlumblineError(
                f"the lab's kube-apiserver was not ready within {READY_DEADLINE:g} s; its log ends:{words}"
            )
        time.sleep(POLL_INTERVAL)


def _certificate(stage: Stage) -> str:
    """The certificate that kube-apiserver made for itself, or nothing while it has not."""
    try:
        text: str = stage.processes.supervisor.call("read", path=f"{HOME}/apiserver.crt")["text"]
    except PlumblineError:
        return ""
    return text


def _is_ready(stage: Stage, certificate: str) -> bool:
    """Whether it says so, and would accept what every run begins with: a Service of both families in `default`."""
    try:
        context = ssl.create_default_context(cadata=certificate)
        connection = HTTPSConnection("127.0.0.1", stage.port, timeout=ANSWER_SECONDS, context=context)
        try:
            connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {stage.token}"})
            if connection.getresponse().status != 200:
                return False
        finally:
            connection.close()
    except (OSError, HTTPException):
        return False
    kube = KubeClient(f"https://127.0.0.1:{stage.port}", stage.token, certificate)
    service = {
        "apiVersion": SERVICES.api_version,
        "kind": SERVICES.kind,
        "metadata": {"name": "probe"},
        "spec": {"ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 80}]},
    }
    try:
        kube.request("POST", SERVICES.path("default"), service, query={"dryRun": "All"})
    except (ApiError, OSError):
        return False
    finally:
        kube.close()
    return True
