# SPDX-License-Identifier: Apache-2.0
"""What tests of load work with: pods behind a Service, traffic on it, and what came of that, kept for the report."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clusters.api import Backend, Vantage
from clusters.lab.provider import Lab
from clusters.measure.served import HTTP_PORT, LINE_PORT, QUEUE_PORT
from plugins.load.churn import Churn, churn
from plugins.load.messages import Account, account
from plugins.load.order import QUEUE_MESSAGE, QUEUE_PUT, REQUESTS, Order
from plugins.load.pods import SERVICE_PORTS, Pods
from plugins.load.progress import Shown
from plugins.load.results import Load, in_words
from plugins.load.servers import Servers
from plugins.load.traffic import RECEIPTS, Traffic, traffic
from plugins.world import World

DURATION = 10.0
"""Seconds of a scenario, where `--duration` says nothing."""
DEADLINE, DATAGRAM_DEADLINE = 5.0, 1.0
"""What a connection and a datagram may take, in seconds. TCP sends a lost packet again after 0.2 to 1 s."""
# While something changes the machine has other things to do too: each user asks so many times a second at most.
PACE = 25.0
USERS: Mapping[str, int] = dict.fromkeys(REQUESTS, 4)
QUEUE_USERS: Mapping[str, int] = {QUEUE_PUT: 10, QUEUE_MESSAGE: 10}
# Of one kind, for how much there can be of it.
MANY = 10


@dataclass(slots=True)
class Bench:
    """Use as a context manager: leaving it ends all servers. `seconds` is how long a scenario takes."""

    world: World
    lab: Lab
    scenario: str
    seconds: float
    deadline_scale: float
    shown: Shown
    entries: list[dict[str, Any]] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def client(self) -> Vantage:
        """The pod in which locust is: the first node's, which is never an endpoint."""
        return self.world.node_at("first").client

    def pods(self, count: int) -> Pods:
        """So many pods behind a new Service, in force. Raises UnfitError where there is no place for so many."""
        servers = self._stack.enter_context(Servers(self.lab, self.world.families, self._logs))
        return Pods.start(self.world, servers, count)

    def on(
        self, pods: Pods, users: Mapping[str, int] = USERS, *, pace: float = PACE, seconds: float | None = None
    ) -> AbstractContextManager[Traffic]:
        """Load on the Service's ClusterIP, until its seconds are over, or those of the scenario."""
        ip = pods.service.cluster_ip(self.world.families[0]).ip
        return self._kept(pods, pace, self._traffic(f"ClusterIP {ip}", ip, SERVICE_PORTS, users, pace, seconds))

    def churn(self, per_second: int) -> AbstractContextManager[Churn]:
        """Other Services that come and go."""
        return churn(self.lab.kube, self.world.backends(1)[0], per_second)

    def steady(self, pods: Pods, kind: str) -> Load:
        """As many requests of a kind as there can be, and beside them (before and after) without the Service.

        What is not the dataplane's, but locust's own, is the same at the endpoint's address.
        """
        users, part = {kind: MANY}, self.seconds / 3
        before = self._run(self._directly(pods.ready[0], users, part)).of(kind)
        with self.on(pods, users, pace=0, seconds=part) as running:
            pass
        after = self._run(self._directly(pods.ready[0], users, part)).of(kind)
        limit = (before.rate + after.rate) / 2
        moved = abs(before.rate - after.rate) / limit if limit else 1.0
        self.note(limit={"rate": round(limit, 1), "p50": (before.p50 + after.p50) / 2, "moved": round(moved, 3)})
        return running.result

    def expect(self, what: str) -> None:
        """What a failure will say was expected, where that is something else than answers."""
        self.world.record.expected = what

    def note(self, **notes: Any) -> None:
        """Something more that the report says of the latest traffic."""
        self.entries[-1].update(notes)

    def account(self, running: Traffic, pods: Pods) -> Account:
        """What became of each message that was put into the only pod's queue."""
        (broker,) = pods.ready
        return account(running.receipts, pods.servers.state(broker)["queue"]["left"])

    def _directly(self, pod: Backend, users: Mapping[str, int], seconds: float) -> AbstractContextManager[Traffic]:
        ip = pod.addresses[self.world.families[0]]
        ports = {port: port for port in SERVICE_PORTS}
        return self._traffic(f"{pod.name} {ip}", ip, ports, users, 0.0, seconds)

    def _run(self, running: AbstractContextManager[Traffic]) -> Load:
        with running as done:
            pass
        return done.result

    @contextmanager
    def _kept(self, pods: Pods, pace: float, running: AbstractContextManager[Traffic]) -> Iterator[Traffic]:
        """Traffic of which the report will tell."""
        with running as one:
            yield one
        found = {
            "scenario": self.scenario,
            "requirement": self.world.record.id,
            "duration": self.seconds,
            "endpoints": len(pods.ready),
            "pace": pace,
        }
        self.entries.append({**found, **one.result.as_dict()})
        self.world.record.observed = in_words(one.result)

    @contextmanager
    def _traffic(
        self,
        to: str,
        ip: str,
        ports: Mapping[int, int],
        users: Mapping[str, int],
        pace: float,
        seconds: float | None,
    ) -> Iterator[Traffic]:
        number = next(self._numbers)
        order = Order(
            ip=ip,
            users=users,
            http_port=ports[HTTP_PORT],
            line_port=ports[LINE_PORT],
            queue_port=ports[QUEUE_PORT],
            receipts=f"/run/tmp/{self.scenario}-{number}/{RECEIPTS}",
            pace=pace,
            deadline=DEADLINE * self.deadline_scale,
            datagram_deadline=DATAGRAM_DEADLINE * self.deadline_scale,
        )
        client = self.client
        self.world.record.expected = "every request is answered"
        self.world.record.where = f"{client.name} (pod on {client.node}) to {to}"
        with traffic(
            self.lab,
            order,
            netns=client.name,
            seconds=self.seconds if seconds is None else seconds,
            what=self.scenario,
            shown=self.shown,
            log=self._logs / f"{self.scenario}.locust.log",
            number=number,
        ) as running:
            yield running

    @property
    def _logs(self) -> Path:
        return self.lab.log_directory / "load"
