# SPDX-License-Identifier: Apache-2.0
"""Where it is measured: a lab nobody listens in to, and beside it the limit, a veth pair with nothing in between."""

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reference.traffic import PORT, Kind, Sample, Traffic, urge
from clusters.api import Node
from clusters.errors import PlumblineError
from clusters.lab.provider import Lab
from clusters.lab.topology import PodNetwork

DIRECT = ("direct-client", "direct-server")
DIRECT_ADDRESSES = ("10.255.0.1", "10.255.0.2")
SECONDS = 0.4  # of each run of the client: some thousand connections
STEADY = 0.05  # the limit may move by so much while something is measured
ROUNDS = 5
DIRECT_PORTS: Mapping[Kind, int] = {"connect": PORT + 1, "rate": PORT, "request": PORT}
# Client and server share a CPU, so TCP has nothing to learn of a path, and shall not.
CLIENT_SYSCTLS = {"net/ipv4/tcp_no_metrics_save": "1", "net/ipv4/ip_local_port_range": "1024 65535"}


@dataclass(frozen=True, slots=True)
class Stage:
    """A lab, the client program, and the direct pair, whose servers are running."""

    lab: Lab
    traffic: Traffic
    pid: int  # of the lab's PID 1, as this machine numbers it

    def namespace(self, name: str) -> Path:
        """A node's or pod's network namespace as this process sees it."""
        return Path("/proc", str(self.pid), "root", "run", "netns", name)

    def node(self, name: str) -> Node:
        return next(node for node in self.lab.nodes if node.name == name)

    def urge(self) -> None:
        """Let all processes of the lab go before what else the machine does."""
        waiting = [self.pid]
        while waiting:
            pid = waiting.pop()
            urge(pid)
            with suppress(OSError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
                waiting += [int(each) for each in children.split()]

    @contextmanager
    def urging(self) -> Iterator[None]:
        """The same, again and again, for processes that begin in the block."""
        done = threading.Event()

        def again() -> None:
            while not done.wait(0.02):
                self.urge()

        thread = threading.Thread(target=again)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def direct(self, kind: Kind) -> Sample:
        """The limit."""
        target = (DIRECT_ADDRESSES[1], DIRECT_PORTS[kind])
        return self.traffic.measure(self.namespace(DIRECT[0]), kind, [target], SECONDS)


@contextmanager
def staged(traffic: Traffic, nodes: int = 1, pod_network: PodNetwork = "routed") -> Iterator[Stage]:
    """A new lab with its direct pair. Raises PlumblineError."""
    with (
        tempfile.TemporaryDirectory() as logs,
        Lab(nodes=nodes, pod_network=pod_network, log_directory=Path(logs)) as lab,
    ):
        lab.unrecorded()
        stage = Stage(lab, traffic, lab.inside()[0])
        stage.urge()
        _build_direct(lab)
        for name in (DIRECT[0], *(node.client.name for node in lab.nodes)):
            for key, value in CLIENT_SYSCTLS.items():
                _run(lab, "tee", f"/proc/sys/{key}", netns=name, text=value)
        server = stage.namespace(DIRECT[1])
        with traffic.server(server, "rate"), traffic.server(server, "connect", port=DIRECT_PORTS["connect"]):
            yield stage


def beside_limit(
    measured: Callable[[], Sample],
    limit: Callable[[], Sample],
    value: Callable[[Sample], float],
    rounds: int = ROUNDS,
) -> tuple[list[float], list[float]]:
    """Limit, measured, limit again (A-B-A), `rounds` times: the values, and beside each what the limit was then.

    A round in which the limit moved is measured again, up to twice as many rounds in all; then it has to do.
    """
    values, limits, unsteady = [], [], []
    before = value(limit())
    for _ in range(2 * rounds):
        found = value(measured())
        after = value(limit())
        pair = (found, (before + after) / 2)
        if abs(after - before) <= STEADY * before:
            values.append(pair[0])
            limits.append(pair[1])
        else:
            unsteady.append(pair)
        before = after
        if len(values) == rounds:
            break
    missing = unsteady[: rounds - len(values)]
    return values + [one for one, _ in missing], limits + [one for _, one in missing]


def _build_direct(lab: Lab) -> None:
    """Two namespaces and a veth pair."""
    client, server = DIRECT
    for name in DIRECT:
        _run(lab, "ip", "netns", "add", name)
        _run(lab, "ip", "-n", name, "link", "set", "lo", "up")
    _run(lab, "ip", "-n", client, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", server)
    for name, address in zip(DIRECT, DIRECT_ADDRESSES, strict=True):
        _run(lab, "ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        _run(lab, "ip", "-n", name, "link", "set", "eth0", "up")


def _run(lab: Lab, *command: str, netns: str | None = None, text: str = "") -> None:
    done = lab.supervisor.run(command, netns=netns, text=text)
    if done.status != 0:
        raise PlumblineError(f"{' '.join(command)} failed in the lab: {done.err.strip()}")
