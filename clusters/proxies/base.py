# SPDX-License-Identifier: Apache-2.0
"""What all proxies that run as one process per lab node have in common: start, watch, stop, and honest last words."""

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from clusters.errors import PlumblineError, ProxyError
from clusters.lab.supervised import Exit, Supervisor
from clusters.proxies.configuration import DEFAULT, ProxyConfiguration

STOP_DEADLINE = 5.0
POLL_INTERVAL, LONGEST_PAUSE = 0.01, 0.5
LAST_LINES, SAVED_LINES = 5, 200


@dataclass(frozen=True, slots=True)
class Place:
    """A lab node as a proxy sees it."""

    name: str
    ipv4: str
    ipv6: str
    pod_cidrs: tuple[str, ...]


class Host(Protocol):
    """What a proxy needs of the lab."""

    @property
    def supervisor(self) -> Supervisor: ...
    @property
    def places(self) -> Sequence[Place]: ...
    @property
    def cluster_cidrs(self) -> tuple[str, ...]: ...
    @property
    def service_cidrs(self) -> tuple[str, ...]: ...
    @property
    def log_directory(self) -> Path: ...

    def kubeconfig(self, place: Place) -> str:
        """A kubeconfig that works inside the node."""

    def write_file(self, place: Place, name: str, text: str) -> str:
        """Write a file only that node can see; returns its path there."""

    def outputs(self, node: str, commands: Sequence[Sequence[str]]) -> dict[str, str]:
        """What commands print on a node; for one that cannot be run, why."""

    def forget(self) -> None:
        """Put back, on every node, what outlives a proxy besides its rules: connections, and the sysctls it sets."""

    def exits(self) -> list[Exit]:
        """Processes that have ended since the last call."""

    def http_get(self, node: str, port: int, path: str) -> tuple[int, str]:
        """GET from a node's own loopback: status and body. Raises PlumblineError when nobody answers."""


class NodeProcesses(ABC):
    """One process of the system under test per node, started and stopped on all nodes at once."""

    name: str
    version: str
    mode: str
    settle: Literal["ordered", "converge"]
    features: frozenset[str] = frozenset()

    def __init__(self, host: Host, ready_deadline: float) -> None:
        self.host = host
        self.ready_deadline = ready_deadline
        self.configured = DEFAULT
        self.pids: dict[str, int] = {}
        self._logs: dict[str, Path] = {}
        self._dead: str | None = None

    @abstractmethod
    def argv(self, place: Place) -> Sequence[str]:
        """The command for a node; whatever files it needs are written by then."""

    def environment(self) -> Mapping[str, str]:
        """What its environment has besides the lab's own."""
        return {}

    def is_up(self, _node: str) -> bool:
        """Whether the process on this node says that it works; the sentinel has the last word."""
        return True

    def is_healthy(self, node: str, port: int) -> bool:
        """Whether the process answers 200 at /healthz, on its node's loopback."""
        try:
            status, _ = self.host.http_get(node, port, "/healthz")
        except PlumblineError:
            return False
        return status == 200

    def refuses(self, configuration: ProxyConfiguration) -> str | None:  # noqa: ARG002
        """Why it cannot be given this configuration, in a phrase; a proxy we do not know has no way to be told."""
        return "the proxy's configuration cannot be set from here"

    def configure(self, configuration: ProxyConfiguration) -> None:
        """Start again on every node, with this configuration. Raises ProxyError.

        Rules stay as the proxy leaves them: that it replaces its own is its business, and under test. What no proxy
        takes back is put back between its two lives, so that one configuration cannot be seen through another's
        leavings: kube-proxy never unsets the sysctls `route_localnet` and `nf_conntrack_tcp_be_liberal`, goes by
        the second when it starts, and leaves the connections it has translated as they are.
        """
        self.stop()
        self.host.forget()
        self.configured = configuration
        self.start()

    def rules(self, _node: str) -> Mapping[str, str]:
        """The rules on a node, command → output; a proxy we do not know has none we could name."""
        return {}

    def start(self) -> None:
        """Start on every node, and wait until each is up. Raises ProxyError with the last log lines."""
        for place in self.host.places:
            self._start_on(place)
        started = time.monotonic()
        end = started + self.ready_deadline
        waiting = set(self.pids)
        while waiting:
            self.check()
            waiting -= {node for node in waiting if self.is_up(node)}
            if waiting and time.monotonic() > end:
                raise self.never_ready(sorted(waiting))
            if waiting:
                # Who asks takes time from the proxy where there is one slow CPU.
                time.sleep(max(POLL_INTERVAL, min((time.monotonic() - started) / 10, LONGEST_PAUSE)))

    def _start_on(self, place: Place) -> None:
        log = self.host.log_directory / f"{place.name}.{self.name}.log"
        fresh = 0 if place.name in self._logs else os.O_TRUNC
        self._logs[place.name] = log
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | fresh, 0o644)
        try:
            # Where the user typed the command, so that relative paths in it mean what they say.
            pid = self.host.supervisor.spawn(
                self.name,
                self.argv(place),
                log=descriptor,
                node=place.name,
                env=self.environment(),
                directory=str(Path.cwd()),
            )
        except PlumblineError as error:
            raise ProxyError(f"{self.name} could not be started on {place.name}: {error}") from None
        finally:
            os.close(descriptor)
        self.pids[place.name] = pid

    def check(self) -> None:
        """Raise ProxyError if a node's proxy has ended by itself; once it has, always."""
        for ended in self.host.exits():
            for node, pid in list(self.pids.items()):
                if pid == ended.pid and self._dead is None:
                    del self.pids[node]
                    self._dead = f"{self.name} on {node} {_ending(ended)}; its log ends:{self._tail(node)}"
        if self._dead is not None:
            raise ProxyError(self._dead)

    def never_ready(self, nodes: Sequence[str]) -> ProxyError:
        """The error for nodes whose proxy runs, but never came to work."""
        return ProxyError(
            f"{self.name} was not ready on {', '.join(nodes)} within {self.ready_deadline:g} s (--proxy-ready); "
            f"the log on {nodes[0]} ends:{self._tail(nodes[0])}"
        )

    def stop(self) -> None:
        """SIGTERM everywhere, then SIGKILL for those still there after 5 s."""
        supervisor = self.host.supervisor
        pids, self.pids = self.pids, {}
        for pid in pids.values():
            supervisor.signal(pid, signal.SIGTERM)
            supervisor.signal(pid, signal.SIGCONT)  # a process that somebody has stopped hears nothing
        end = time.monotonic() + STOP_DEADLINE
        for pid in pids.values():
            if supervisor.await_exit(pid, max(end - time.monotonic(), 0.01)) is None:
                supervisor.signal(pid, signal.SIGKILL)
                supervisor.await_exit(pid, STOP_DEADLINE)

    def _tail(self, node: str) -> str:
        try:
            lines = self._logs[node].read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            return f" (unreadable: {error})"
        return "".join(f"\n    {line}" for line in lines[-LAST_LINES:]) or " (nothing was written)"

    def log_tail(self, node: str) -> str:
        """The last lines of the process's output on a node."""
        lines = self._logs[node].read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-SAVED_LINES:])


def _ending(ended: Exit) -> str:
    if ended.status < 0:
        return f"was killed by {signal.Signals(-ended.status).name}"
    return f"ended with status {ended.status}"
