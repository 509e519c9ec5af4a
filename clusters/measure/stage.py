# SPDX-License-Identifier: Apache-2.0
"""Where it is measured: a lab nobody listens in to, and beside it the limit, a veth pair with nothing in between."""

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from clusters.api import Node
from clusters.errors import PlumblineError
from clusters.lab.provider import Lab
from clusters.lab.topology import PodNetwork
from clusters.measure.traffic import PORT, SERVERS, Kind, Pace, Sample, Server, Target, Traffic, urge
from clusters.processes import children

DIRECT = ("direct-client", "direct-server")
DIRECT_ADDRESSES = ("10.255.0.1", "10.255.0.2")
DIRECT_ADDRESSES6 = ("fd00:10:255::1", "fd00:10:255::2")
SECONDS = 0.4  # of each run of the client: some thousand connections
STEADY = 0.05  # the limit may move by so much while something is measured
ROUNDS = 5
# Each kind of server has a port of its own at the far end of the pair.
DIRECT_PORTS: Mapping[Server, int] = {"serve": PORT, "absorb": PORT + 1, "sink": PORT + 2, "gulp": PORT + 3}
# Client and server share a CPU, so TCP has nothing to learn of a path, and shall not.
CLIENT_SYSCTLS = {"net/ipv4/tcp_no_metrics_save": "1", "net/ipv4/ip_local_port_range": "1024 65535"}


@dataclass(frozen=True, slots=True)
class Stage:
    """A lab, the client program, and the direct pair, whose servers are running."""

    lab: Lab
    traffic: Traffic
    pid: int  # of the lab's PID 1, as this machine numbers it
    direct_servers: Mapping[Server, int] = field(default_factory=dict)  # their PIDs

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
            waiting += children(pid)

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

    def direct_target(self, kind: Kind, *, ipv6: bool = False) -> Target:
        """Who answers this kind of client at the far end of the direct pair."""
        return (DIRECT_ADDRESSES6 if ipv6 else DIRECT_ADDRESSES)[1], DIRECT_PORTS[SERVERS[kind]]

    def direct(self, kind: Kind, seconds: float = SECONDS, pace: Pace | None = None, *, ipv6: bool = False) -> Sample:
        """The limit."""
        target = self.direct_target(kind, ipv6=ipv6)
        return self.traffic.measure(self.namespace(DIRECT[0]), kind, [target], seconds, pace)


@contextmanager
def staged(traffic: Traffic, nodes: int = 1, pod_network: PodNetwork = "routed") -> Iterator[Stage]:
    """A new lab with its direct pair. Raises PlumblineError."""
    with (
        tempfile.TemporaryDirectory() as logs,
        Lab(nodes=nodes, pod_network=pod_network, log_directory=Path(logs)) as lab,
        on_stage(traffic, lab) as stage,
    ):
        yield stage


@contextmanager
def on_stage(traffic: Traffic, lab: Lab) -> Iterator[Stage]:
    """A lab that is there already: its packets are recorded no more, and it gets a direct pair. PlumblineError."""
    lab.unrecorded()
    stage = Stage(lab, traffic, lab.inside()[0])
    stage.urge()
    _build_direct(lab)
    for name in (DIRECT[0], *(node.client.name for node in lab.nodes)):
        for key, value in CLIENT_SYSCTLS.items():
            run(lab, "tee", f"/proc/sys/{key}", netns=name, text=value)
    pids: dict[Server, int] = {}
    with ExitStack() as stack:
        for server, port in DIRECT_PORTS.items():
            pids[server] = stack.enter_context(traffic.server(stage.namespace(DIRECT[1]), server, port=port))
        yield replace(stage, direct_servers=pids)


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
        run(lab, "ip", "netns", "add", name)
        run(lab, "ip", "-n", name, "link", "set", "lo", "up")
    run(lab, "ip", "-n", client, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", server)
    for name, ipv4, ipv6 in zip(DIRECT, DIRECT_ADDRESSES, DIRECT_ADDRESSES6, strict=True):
        run(lab, "ip", "-n", name, "address", "add", f"{ipv4}/24", "dev", "eth0")
        run(lab, "ip", "-n", name, "address", "add", f"{ipv6}/64", "dev", "eth0", "nodad")
        run(lab, "ip", "-n", name, "link", "set", "eth0", "up")


def run(lab: Lab, *command: str, node: str | None = None, netns: str | None = None, text: str = "") -> str:
    """What a command prints in the lab. Raises PlumblineError when it fails."""
    done = lab.supervisor.run(command, node=node, netns=netns, text=text)
    if done.status != 0:
        raise PlumblineError(f"{' '.join(command)} failed in the lab: {done.err.strip()}")
    return done.out
