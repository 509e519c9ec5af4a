# SPDX-License-Identifier: Apache-2.0
"""Other Services, added and removed all the time, so that the dataplane is never at rest."""

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from clusters.api import Backend
from clusters.kube import ENDPOINT_SLICES, SERVICES, KubeClient
from clusters.measure.api import Api
from plugins.load.traffic import Traffic
from plugins.slices import MANAGED_BY, SERVICE_NAME

# How long each Service lives, and between two rounds, in seconds.
LIFE, TICK = 1.0, 0.1
PORT = 80


@dataclass(slots=True)
class Churn:
    """Adds Services and removes those that have lived for a second. Each has a ClusterIP and one endpoint."""

    api: Api
    endpoint: Backend
    per_second: int
    added: int = 0
    removed: int = 0
    seconds: float = 0.0
    _alive: deque[tuple[float, int]] = field(default_factory=deque)

    def go_on(self, traffic: Traffic) -> None:
        """Until the traffic's time is over. Raises PlumblineError when the API server refuses a write."""
        began = time.monotonic()
        while traffic.left > 0:
            begins = time.monotonic()
            due = round(self.per_second * (begins - began + TICK)) - self.added
            self._round(min(due, self.per_second))
            traffic.go_on(begins + TICK - time.monotonic())
        self.seconds = time.monotonic() - began

    @property
    def rate(self) -> float:
        """Services added per second, while it went on."""
        return self.added / self.seconds if self.seconds else 0.0

    def end(self) -> None:
        """Remove those that are left."""
        self._remove([number for _, number in self._alive])
        self._alive.clear()

    def _round(self, count: int) -> None:
        now = time.monotonic()
        old = []
        while self._alive and now - self._alive[0][0] >= LIFE:
            old.append(self._alive.popleft()[1])
        new = range(self.added, self.added + count)
        self.api.write_all(request for number in new for request in self._creation(number))
        self.added += count
        self._alive.extend((now, number) for number in new)
        self._remove(old)

    def _remove(self, numbers: list[int]) -> None:
        self.api.write_all(
            self.api.request("DELETE", resource.path("default", _name(number)))
            for number in numbers
            for resource in (SERVICES, ENDPOINT_SLICES)
        )
        self.removed += len(numbers)

    def _creation(self, number: int) -> Iterator[bytes]:
        target = self.endpoint.ports[0]
        ports = [{"name": "tcp", "protocol": "TCP", "port": PORT, "targetPort": target}]
        slices = {
            "addressType": "IPv4",
            "ports": [{"name": "tcp", "protocol": "TCP", "port": target}],
            "endpoints": [{"addresses": [self.endpoint.addresses["IPv4"]], "conditions": {"ready": True}}],
        }
        labels = {SERVICE_NAME: _name(number), **MANAGED_BY}
        for resource, metadata, body in (
            (SERVICES, {"name": _name(number)}, {"spec": {"ports": ports}}),
            (ENDPOINT_SLICES, {"name": _name(number), "labels": labels}, slices),
        ):
            whole = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **body}
            yield self.api.request("POST", resource.path("default"), json.dumps(whole).encode())


@contextmanager
def churn(kube: KubeClient, endpoint: Backend, per_second: int) -> Iterator[Churn]:
    """Inside, Services can be made to come and go; afterwards all of them have gone. Raises PlumblineError."""
    api = Api(kube)
    try:
        made = Churn(api, endpoint, per_second)
        try:
            yield made
        finally:
            made.end()
    finally:
        api.close()


def _name(number: int) -> str:
    return f"churn-{number}"
