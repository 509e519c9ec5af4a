# SPDX-License-Identifier: Apache-2.0
"""All waiting for the dataplane, with its deadlines named in one place. No test sleeps.

*Ordered* proxies are settled by two generations of a sentinel Service, one after the other, each seen from every
node in each IP family. A generation changes the sentinel's port and its endpoint, because watches of different
kinds are not ordered against each other. The second can only show after the sync that held the first has ended,
with its conntrack flushes and clean-up: after one generation most re-pointed UDP flows still went to their old
endpoint, after two none did (`tests/lab/test_settle.py` measures both). It needs no more than one event, and so
changes the port alone: each event may cost the proxy a sync.

Proxies we do not know *converge*: scouts probe what was arranged until nothing disallowed was seen for a while.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from clusters.agent.client import ProbeRequest
from clusters.api import Backend, Cluster, Node, Proxy, Vantage
from clusters.kube import ENDPOINT_SLICES, NAMESPACES, SERVICES
from clusters.observation import Address, Family, FlowOutcome, Observation

NAMESPACE = "plumbline"
GENERATIONS = 2
FIRST_PORT = 20000
SUFFIX: dict[Family, str] = {"IPv4": "ipv4", "IPv6": "ipv6"}
# How soon an unsettled node is asked again: well below a fast proxy's generation (about 0.1 s), and later the longer
# it has taken, up to a limit, since asking costs what the proxy needs to be done.
POLL_INTERVAL, POLL_SHARE, LONGEST_POLL = 0.005, 0.15, 0.05
# One settle that was missed may be the machine's hiccup; two in a row are a dataplane that does not follow.
MISSES_IN_A_ROW = 2


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Every deadline in seconds, before `--deadline-scale`.

    `settle` bounds one settle (a fast kube-proxy needs 0.2 s, one at its default 1 s sync period 2 to 4 s);
    `after_failure` replaces it once the dataplane has stopped following, so that a dead proxy costs little;
    `quiet` is how long scouts must see nothing disallowed; `probe` is when a silent flow counts as a timeout;
    `poll` and `scout` are the same for the flows that only wait, which are asked again anyway; `answer` is how long
    answers are waited for on the LAN, where anybody may answer or nobody; `failover` is for an announcer: what takes
    more than about ten seconds its documentation calls a bug (https://metallb.io/concepts/layer2/#limitations).
    """

    settle: float = 10.0
    after_failure: float = 2.0
    quiet: float = 0.5
    probe: float = 2.0
    poll: float = 0.25
    scout: float = 0.5
    answer: float = 0.4
    failover: float = 10.0

    @classmethod
    def of(cls, sync: Literal["fast", "default"], factor: float, mode: str = "") -> "Deadlines":
        """For a proxy's way of syncing, times `--deadline-scale`.

        In mode ipvs kube-proxy runs a program for each entry of a set, and thirty before: in a slow kernel, minutes.
        """
        base = cls() if sync == "fast" else cls(settle=30.0, after_failure=8.0)
        if mode == "ipvs":
            base = replace(base, settle=120.0, after_failure=30.0)
        return cls(*(getattr(base, one.name) * factor for one in fields(base)))


class Clock:
    """The time that a session affinity's timeout is measured by: the dataplane's, which the lab shares with us."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def let_pass(self, seconds: float) -> None:
        """Return when so much time has passed: the one wait that is not for the dataplane to have done something.

        A Service says itself after how long it forgets a client (`timeoutSeconds`), and nothing short of being idle
        shows it. `--deadline-scale` does not apply: to be idle longer than was asked for is another question.
        """
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Settled:
    """How a settle ended: whether it did, after how many seconds, and who had not followed.

    `unsettled` names the Services that never came to be as they should; empty means that it is all or none.
    """

    done: bool
    seconds: float
    missing: tuple[str, ...] = ()
    unsettled: frozenset[str] = frozenset()

    def covers(self, services: Iterable[str]) -> bool:
        """Whether what is seen of these Services counts."""
        return self.unsettled.isdisjoint(services) if self.unsettled else self.done


Disallowed = Callable[[], Mapping[str, str]]


@dataclass(slots=True)
class Settler:
    """Waits until the dataplane has programmed all API writes made before the call."""

    cluster: Cluster
    proxy: Proxy
    deadlines: Deadlines
    families: tuple[Family, ...] = ("IPv4", "IPv6")
    clock: Clock = field(default_factory=Clock)
    total: float = 0.0
    _generation: int = 0
    _turn: int = 0
    _misses: int = 0
    _given_up: set[str] = field(default_factory=set)
    _service: dict[str, Any] = field(default_factory=dict)

    def create_sentinel(self) -> None:
        """Create the sentinel's namespace, Service and slices."""
        kube = self.cluster.kube
        kube.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        self._service = kube.create(
            SERVICES,
            {
                "metadata": {"name": "sentinel", "namespace": NAMESPACE},
                "spec": {"ipFamilyPolicy": "RequireDualStack", "ports": [self._port()]},
            },
        )
        for family in self.families:
            kube.create(ENDPOINT_SLICES, self._slice(family))

    def ready(self, deadline: float) -> Settled:
        """Wait for the proxy's first life sign: one generation, seen everywhere."""
        return self._await_generation(deadline)

    def settle(self, mode: Literal["ordered", "converge"] | None, disallowed: Disallowed) -> Settled:
        """Wait until everything written so far is in force.

        `disallowed` is what scouts see when converging: Service name → what the model forbids.
        """
        started = time.monotonic()
        if (mode or self.proxy.settle) == "ordered":
            settled = self._two_generations(started)
        else:
            settled = self._converge(disallowed)
        self.total += time.monotonic() - started
        self.proxy.check()
        return replace(settled, seconds=time.monotonic() - started)

    def _two_generations(self, started: float) -> Settled:
        hopeless = self._misses >= MISSES_IN_A_ROW
        deadline = self.deadlines.after_failure if hopeless else self.deadlines.settle
        settled = Settled(False, 0.0)
        for number in range(GENERATIONS):
            self.next_generation(whole=number == 0)
            settled = self._await_generation(deadline - (time.monotonic() - started))
            if not settled.done:
                break
        self._misses = 0 if settled.done else self._misses + 1
        return settled

    def _converge(self, disallowed: Disallowed) -> Settled:
        """Until nothing new is wrong for a while. What stays wrong is given up, and must not hold up the rest."""
        started = quiet_since = time.monotonic()
        while True:
            wrong = {service: what for service, what in disallowed().items() if service not in self._given_up}
            now = time.monotonic()
            if wrong:
                quiet_since = now
            elif now - quiet_since >= self.deadlines.quiet:
                return Settled(True, now - started, (), frozenset(self._given_up))
            if now - started > self.deadlines.settle:
                self._given_up |= wrong.keys()
                return Settled(False, now - started, tuple(wrong.values()), frozenset(self._given_up))
            time.sleep(POLL_INTERVAL)

    def next_generation(self, *, whole: bool = True) -> None:
        """Change the sentinel, `whole` or its port alone: only a proxy that is at work now can follow."""
        self._generation += 1
        self._turn += whole
        kube = self.cluster.kube
        kube.patch(SERVICES, "sentinel", {"spec": {"ports": [self._port()]}}, NAMESPACE)
        for family in self.families if whole else ():
            kube.replace(ENDPOINT_SLICES, self._slice(family))

    def _await_generation(self, deadline: float) -> Settled:
        """Poll until every node sees this generation's endpoint at this generation's port, in each family."""
        started = time.monotonic()
        waiting = [(self._scout(node), family, ip) for node in self.cluster.nodes for family, ip in self._addresses()]
        while True:
            seen = self.cluster.probe(
                [self._request(vantage, ip) for vantage, _, ip in waiting], timeout=self.deadlines.poll
            )
            waiting = [place for place, got in zip(waiting, seen, strict=True) if not self._is_current(got)]
            elapsed = time.monotonic() - started
            if not waiting:
                return Settled(True, elapsed)
            if elapsed > deadline:
                return Settled(False, elapsed, tuple(f"{place.node} {family}" for place, family, _ in waiting))
            self.proxy.check()
            time.sleep(max(POLL_INTERVAL, min(POLL_SHARE * elapsed, LONGEST_POLL)))

    def _is_current(self, observation: Observation) -> bool:
        return observation.outcome is FlowOutcome.REPLY and observation.backend == self._endpoint().name

    def _endpoint(self) -> Backend:
        return self.cluster.nodes[self._turn % len(self.cluster.nodes)].scout

    def _scout(self, node: Node) -> Vantage:
        # Not from the endpoint itself: settling must not depend on hairpin, which is itself under test.
        return node.client if node.scout is self._endpoint() else node.scout.vantage

    def _addresses(self) -> list[tuple[Family, str]]:
        both: list[str] = self._service["spec"]["clusterIPs"]
        return [(family, ip) for family in self.families for ip in both if (":" in ip) == (family == "IPv6")]

    def _request(self, vantage: Vantage, ip: str) -> ProbeRequest:
        return ProbeRequest(
            vantage=vantage.name,
            node=vantage.node,
            netns=vantage.place,
            frontend="sentinel",
            protocol="TCP",
            dst=Address(ip, FIRST_PORT + self._generation),
        )

    def _port(self) -> dict[str, Any]:
        target = self._endpoint().ports[0]
        return {"port": FIRST_PORT + self._generation, "protocol": "TCP", "targetPort": target}

    def _slice(self, family: Family) -> dict[str, Any]:
        endpoint = self._endpoint()
        return {
            "metadata": {
                "name": f"sentinel-{SUFFIX[family]}",
                "namespace": NAMESPACE,
                "labels": {
                    "kubernetes.io/service-name": "sentinel",
                    "endpointslice.kubernetes.io/managed-by": "plumbline",
                },
            },
            "addressType": family,
            "ports": [{"protocol": "TCP", "port": endpoint.ports[0]}],
            "endpoints": [
                {
                    "addresses": [endpoint.addresses[family]],
                    "conditions": {"ready": True},
                    "nodeName": endpoint.node,
                }
            ],
        }
