# SPDX-License-Identifier: Apache-2.0
"""EndpointSlices as tests write them by hand: endpoints of the pool, with whatever a case needs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from clusters.api import Backend
from clusters.kube import Object
from clusters.observation import Family

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = {"endpointslice.kubernetes.io/managed-by": "plumbline"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A backend in an EndpointSlice, with its conditions (None: absent from the slice) and topology hints.

    Where it is not `placed`, the slice does not say which node it is on. `pod` is the name of the pod that it is said
    to be of: two pods may have had one address, one after the other.
    """

    backend: Backend
    ready: bool | None = True
    serving: bool | None = None
    terminating: bool | None = None
    for_zones: tuple[str, ...] = ()
    for_nodes: tuple[str, ...] = ()
    placed: bool = True
    pod: str | None = None

    def in_slice(self, family: Family) -> Object:
        conditions = {"ready": self.ready, "serving": self.serving, "terminating": self.terminating}
        named = {"forZones": self.for_zones, "forNodes": self.for_nodes}
        hints = {name: [{"name": one} for one in each] for name, each in named.items() if each}
        of_pod = {"kind": "Pod", "namespace": "default", "name": self.pod, "uid": self.pod}
        return {
            "addresses": [self.backend.addresses[family]],
            "conditions": {name: value for name, value in conditions.items() if value is not None},
            **({"nodeName": self.backend.node} if self.placed else {}),
            **({"hints": hints} if hints else {}),
            **({"targetRef": of_pod} if self.pod else {}),
        }


def terminating(backend: Backend, *, serving: bool = True) -> Endpoint:
    """The endpoint of a pod that is being deleted, and is still serving or no longer."""
    return Endpoint(backend, ready=False, serving=serving, terminating=True)


def not_ready(backend: Backend) -> Endpoint:
    """The endpoint of a pod that is not ready and is not being deleted either."""
    return Endpoint(backend, ready=False, serving=False, terminating=False)


@dataclass(frozen=True, slots=True, init=False)
class Slice:
    """One EndpointSlice of a Service for each IP family.

    `targets` maps names of Service ports to numbers: exactly the ports that the slice has (None: every port of the
    Service, at its target). `families` are those it is written in (None: those the Service is judged in).
    `labels` are added; a slice that is not `named` lacks the label that says whose it is, and one that is `of`
    another Service (by its name) says so. `address_type` is written in place of the family.
    """

    endpoints: tuple[Endpoint, ...]
    targets: Mapping[str, int] | None = None
    families: tuple[Family, ...] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    named: bool = True
    of: str | None = None
    address_type: str | None = None

    def __init__(
        self,
        endpoints: Iterable[Endpoint | Backend],
        *,
        targets: Mapping[str, int] | None = None,
        families: Iterable[Family] | None = None,
        labels: Mapping[str, str] | None = None,
        named: bool = True,
        of: str | None = None,
        address_type: str | None = None,
    ) -> None:
        object.__setattr__(self, "endpoints", as_endpoints(endpoints))
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "families", None if families is None else tuple(families))
        object.__setattr__(self, "labels", labels or {})
        object.__setattr__(self, "named", named)
        object.__setattr__(self, "of", of)
        object.__setattr__(self, "address_type", address_type)

    def body(self, name: str, service: str, family: Family, ports: Iterable[Object], labels: Object) -> Object:
        """The API object; `ports` and `labels` are the Service's."""
        numbers = self.targets
        if numbers is not None:
            ports = [{**port, "port": numbers[port["name"]]} for port in ports if port["name"] in numbers]
        owner = {SERVICE_NAME: self.of or service} if self.named else {}
        return {
            "metadata": {"name": name, "labels": {**owner, **MANAGED_BY, **labels, **self.labels}},
            "addressType": self.address_type or family,
            "ports": list(ports),
            "endpoints": [endpoint.in_slice(family) for endpoint in self.endpoints],
        }


def as_endpoints(given: Iterable[Endpoint | Backend]) -> tuple[Endpoint, ...]:
    """Backends become ready endpoints."""
    return tuple(one if isinstance(one, Endpoint) else Endpoint(one) for one in given)
