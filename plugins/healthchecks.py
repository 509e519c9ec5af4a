# SPDX-License-Identifier: Apache-2.0
"""Health checks: what every node tells a load balancer about a Service, or its proxy of itself, and what it must."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clusters.api import HttpAnswer, Node
from clusters.observation import Address, Family, FlowOutcome, Observation
from dataplane_ref.model import Health
from plugins.flows import Prober, ViolationError
from plugins.services import Service

if TYPE_CHECKING:
    from plugins.world import World

PATH, JSON = "/healthz", "application/json"
WEIGHT = "x-load-balancing-endpoint-weight"
# Where a proxy tells of itself: https://kubernetes.io/docs/reference/networking/ports-and-protocols/.
PROXY_PORT = 10256


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One node's answer about one Service, and what it must be."""

    node: Node
    expected: Health
    answer: HttpAnswer | None

    @property
    def status(self) -> int | None:
        return self.answer.status if self.answer else None

    @property
    def kind(self) -> str | None:
        """What the answer's header says that its body is."""
        return self.answer.headers.get("content-type") if self.answer else None

    @property
    def told(self) -> Any:
        """The answer's body as JSON, None where it is none."""
        with suppress(ValueError):
            return json.loads(self.answer.body) if self.answer else None
        return None

    def __str__(self) -> str:
        return f"{self.node.name} {f'HTTP {self.status}' if self.answer else 'no answer'}"


@dataclass(frozen=True, slots=True)
class HealthChecks:
    """Every node's answers at its addresses of one family, asked from one vantage."""

    checks: tuple[HealthCheck, ...]

    def __iter__(self) -> Iterator[HealthCheck]:
        return iter(self.checks)

    def must_be_what_the_model_says(self) -> None:
        """Each node's status must be what its endpoints make it; where nothing may answer, nothing does."""
        __tracebackhide__ = True
        for check in self.checks:
            if check.status != check.expected.status:
                raise ViolationError(f"{check}, but should be {check.expected.status or 'no answer'}")

    def must_count_local_endpoints(self) -> None:
        """Each answer must say in JSON how many endpoints its node holds."""
        __tracebackhide__ = True
        for check in self.checks:
            told = check.told if isinstance(check.told, dict) else {}
            if told.get("localEndpoints") != check.expected.local_endpoints:
                said = check.answer.body[:200] if check.answer else "nothing"
                raise ViolationError(
                    f"{check.node.name} says {said!r}, but should say localEndpoints {check.expected.local_endpoints}"
                )

    def must_give_the_weight(self) -> None:
        """Each answer must have the number of endpoints that its node holds as its weight."""
        __tracebackhide__ = True
        for check in self.checks:
            weight = check.answer.headers.get(WEIGHT) if check.answer else None
            if weight != str(check.expected.local_endpoints):
                raise ViolationError(
                    f"{check.node.name} gives the weight {weight}, but should give {check.expected.local_endpoints}"
                )

    def must_name_the_service(self) -> None:
        """Each answer must be JSON, by its header too, that names the Service by its namespace and name."""
        __tracebackhide__ = True
        for check in self.checks:
            service, kind = check.expected.service, check.kind
            told = check.told if isinstance(check.told, dict) else {}
            named = dict(zip(("namespace", "name"), service.split("/"), strict=True))
            if kind != JSON or told.get("service") != named:
                raise ViolationError(
                    f"{check.node.name} says {told} of type {kind}, but should name {service} in {JSON}"
                )

    def must_be_json(self) -> None:
        """Each answer must be JSON, by its header too."""
        __tracebackhide__ = True
        for check in self.checks:
            if check.kind != JSON or not isinstance(check.told, dict):
                raise ViolationError(
                    f"{check.node.name} says {check.told} of type {check.kind}, but should say {JSON}"
                )

    def wrong(self) -> dict[str, str]:
        """Nodes whose status is not what it must be, each with a phrase that says so: for waiting."""
        return {
            f"node {check.node.name}": f"{check}, but should be {check.expected.status}"
            for check in self.checks
            if check.status != check.expected.status
        }


def ask_every_proxy(world: "World", path: str, *, leaving: Node | None = None) -> HealthChecks:
    """Ask every node's proxy how it is, from outside, and note it in the record.

    Its node is `leaving` the cluster soon, which is the end of `/healthz`, but not of `/livez` (KEP-3836).
    """
    asker, checks, seen = world.vantage("outside"), [], []
    for node in world.nodes:
        address = Address(node.addresses["IPv4"], PROXY_PORT)
        gone = node is leaving and path == PATH
        expected = Health(node.name, 503 if gone else 200, 0, f"the node {'is leaving' if gone else 'stays'}")
        answer = world.cluster.fetch(asker.vantage, address, path)
        checks.append(HealthCheck(node, expected, answer))
        outcome = FlowOutcome.REPLY if answer else FlowOutcome.TIMEOUT
        seen.append(Observation(asker.name, asker.node, f"Proxy{path}", "TCP", "IPv4", None, address, outcome))
    world.record.saw(seen, "\n".join(check.expected.explain() for check in checks), ", ".join(map(str, checks)))
    return HealthChecks(tuple(checks))


def ask_every_node(world: "World", vantage: Prober, service: Service, family: Family) -> HealthChecks:
    """Ask every node's health check node port of a Service, and note it in the record."""
    checks, seen = [], []
    for node in world.nodes:
        frontend = service.health_check(node, family)
        address = Address(frontend.ip, frontend.port)
        answer = world.cluster.fetch(vantage.vantage, address, PATH)
        checks.append(HealthCheck(node, world.health(service, node, family), answer))
        outcome = FlowOutcome.REPLY if answer else FlowOutcome.TIMEOUT
        seen.append(Observation(vantage.name, vantage.node, str(frontend), "TCP", family, None, address, outcome))
    expected = "\n".join(dict.fromkeys(check.expected.explain() for check in checks))
    world.record.saw(seen, expected, ", ".join(str(check) for check in checks))
    return HealthChecks(tuple(checks))
