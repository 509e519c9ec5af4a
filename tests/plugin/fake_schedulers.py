# SPDX-License-Identifier: Apache-2.0
"""How the fake chooses among endpoints: at random, or as a Service's annotations ask."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from clusters.agent.client import ProbeRequest
from clusters.observation import Address
from dataplane_ref.model import Endpoint

SCHEDULER, WEIGHTS = "plumbline.dev/scheduler", "plumbline.dev/weights"


class Schedulers:
    """Remembers whose turn it is, and how many held flows each endpoint has."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._turns: Counter[Address] = Counter()
        self.active: Counter[Address] = Counter()
        self._serving: dict[Address, list[Endpoint]] = {}

    def choose(
        self,
        services: Sequence[Mapping[str, Any]],
        endpoints: Sequence[Endpoint],
        request: ProbeRequest,
        src: Address,
    ) -> Endpoint:
        """The endpoint of a new flow; `endpoints` is not empty."""
        asked = next((one for one in services if request.dst.ip in one["spec"].get("clusterIPs", ())), {})
        annotations = asked.get("metadata", {}).get("annotations") or {}
        if SCHEDULER not in annotations:
            return self._chance.choice(endpoints)
        given = dict(one.split("=") for one in annotations.get(WEIGHTS, "").split(",") if one)
        weights = {one: int(given.get(one.address, "1")) for one in endpoints}
        match annotations[SCHEDULER]:
            case "rr" | "wrr":
                turns = [one for one in endpoints for _ in range(weights[one])]
                self._turns[request.dst] += 1
                return turns[self._turns[request.dst] % len(turns)]
            case "lc" | "wlc":
                return min(endpoints, key=lambda one: self._busy(one) / weights[one])
            case "sed":
                return min(endpoints, key=lambda one: (self._busy(one) + 1) / weights[one])
            case "nq":
                return min(endpoints, key=lambda one: (self._busy(one) > 0, (self._busy(one) + 1) / weights[one]))
            case "sh":
                return random.Random(src.ip).choice(endpoints)
            case "dh":
                return random.Random(request.dst.ip).choice(endpoints)
            case "lblc" | "lblcr" as asked:
                return self._by_locality(endpoints, request.dst, replicated=asked == "lblcr")
            case "fo":
                return endpoints[0]
            case "ovf":
                return next((one for one in endpoints if self._busy(one) <= weights[one]), endpoints[0])
            case "maglev":  # few flows move by the highest random weight, too
                return max(endpoints, key=lambda one: random.Random(f"{one}{src}{request.dst}").random())
        return self._chance.choice(endpoints)

    def _by_locality(self, endpoints: Sequence[Endpoint], dst: Address, *, replicated: bool) -> Endpoint:
        serving = [one for one in self._serving.get(dst, ()) if one in endpoints] or [endpoints[0]]
        chosen = min(serving, key=self._busy)
        idle = [one for one in endpoints if not self._busy(one)]
        if self._busy(chosen) > 1 and idle:
            chosen = idle[0]
            serving = [*serving, chosen] if replicated else [chosen]
        self._serving[dst] = serving
        return chosen

    def _busy(self, endpoint: Endpoint) -> int:
        return self.active[Address(endpoint.address, endpoint.port)]
