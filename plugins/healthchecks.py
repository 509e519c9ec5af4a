# SPDX-License-Identifier: Apache-2.0
"""Health check node ports: what a load balancer is told by every node, compared with what it must be told."""

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

PATH = "/healthz"


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
