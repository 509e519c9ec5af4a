# SPDX-License-Identifier: Apache-2.0
"""Services as tests write them: selectorless Services with hand-written EndpointSlices that point at the pool."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusters.api import Backend, Node
from clusters.kube import ENDPOINT_SLICES, SERVICES, KubeClient, Object
from clusters.observation import Family, Protocol

# The probability with which a uniform chooser may leave some endpoint unseen by chance, per look.
MISS = 1e-9


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A backend in an EndpointSlice, with its conditions (None: absent from the slice)."""

    backend: Backend
    ready: bool | None = True
    serving: bool | None = None
    terminating: bool | None = None

    def in_slice(self, family: Family) -> Object:
        conditions = {"ready": self.ready, "serving": self.serving, "terminating": self.terminating}
        return {
            "addresses": [self.backend.addresses[family]],
            "conditions": {name: value for name, value in conditions.items() if value is not None},
            "nodeName": self.backend.node,
        }


@dataclass(frozen=True, slots=True)
class Port:
    """A Service port: its number, where it leads, and its protocol."""

    port: int
    target: int
    protocol: Protocol

    @property
    def name(self) -> str:
        return f"{self.protocol.lower()}-{self.port}"


@dataclass(frozen=True, slots=True)
class Frontend:
    """An address and port at which a Service can be reached, and what kind it is (`ClusterIP`, `NodePort`)."""

    service: str
    kind: str
    ip: str
    port: int
    family: Family
    endpoints: int

    def __str__(self) -> str:
        host = f"[{self.ip}]" if self.family == "IPv6" else self.ip
        return f"{self.kind} {host}:{self.port}"


Target = tuple[Frontend, Protocol]


@dataclass(slots=True)
class Mirror:
    """The API objects tests have written, as the server answered them: what the model judges by.

    `deleted` are the Services deleted since the last settle, whose frontends must fall silent.
    """

    services: dict[str, Object] = field(default_factory=dict)
    slices: dict[str, Object] = field(default_factory=dict)
    deleted: list[Object] = field(default_factory=list)
    version: int = 0


@dataclass(slots=True)
class Service:
    """One Service and its EndpointSlices, one per family. Changes are written at once; waiting is the world's."""

    name: str
    kube: KubeClient
    mirror: Mirror
    ports: tuple[Port, ...]
    spec: Object
    labels: Mapping[str, str]
    families: tuple[Family, ...]
    endpoints: tuple[Endpoint, ...] = ()

    def create(self) -> None:
        """POST the Service, then its slices."""
        body = {"metadata": {"name": self.name, "labels": dict(self.labels)}, "spec": self.spec}
        self.mirror.services[self.name] = self.kube.create(SERVICES, body)
        for family in self.families:
            written = self.kube.create(ENDPOINT_SLICES, self._slice(family))
            self.mirror.slices[written["metadata"]["name"]] = written
        self.mirror.version += 1

    def set_endpoints(self, endpoints: Iterable[Endpoint | Backend]) -> None:
        """Replace all endpoints."""
        self.endpoints = as_endpoints(endpoints)
        for family in self.families:
            written = self.kube.replace(ENDPOINT_SLICES, self._slice(family))
            self.mirror.slices[written["metadata"]["name"]] = written
        self.mirror.version += 1

    def delete(self) -> None:
        """DELETE the Service, then its slices; nothing if it is already deleted."""
        last = self.mirror.services.pop(self.name, None)
        if last is None:
            return
        self.mirror.deleted.append(last)
        self.kube.delete(SERVICES, self.name)
        for family in self.families:
            name = self._slice(family)["metadata"]["name"]
            if self.mirror.slices.pop(name, None) is not None:
                self.kube.delete(ENDPOINT_SLICES, name)
        self.mirror.version += 1

    def create_again(self, endpoints: Iterable[Endpoint | Backend], *, same_addresses: bool) -> None:
        """After `delete`: create it under its old name, at its old ClusterIPs if asked, with other endpoints."""
        if same_addresses:
            addresses = self.mirror.deleted[-1]["spec"]["clusterIPs"]
            self.spec = {**self.spec, "clusterIP": addresses[0], "clusterIPs": addresses}
        self.endpoints = as_endpoints(endpoints)
        self.create()

    @property
    def live(self) -> Object:
        """The Service object as the server last answered it."""
        return self.mirror.services[self.name]

    def cluster_ip(self, family: Family, port: int | None = None) -> Frontend:
        """The ClusterIP of a family, at a port of the Service (default: its first)."""
        address = next(ip for ip in self.live["spec"]["clusterIPs"] if (":" in ip) == (family == "IPv6"))
        return Frontend(self.name, "ClusterIP", address, port or self.ports[0].port, family, len(self.endpoints))

    def node_port(self, node: Node, family: Family, protocol: Protocol, *, second: bool = False) -> Frontend:
        """The node port for a protocol, at a node's address, or at its second one."""
        address = (node.second_addresses if second else node.addresses)[family]
        return self._node_port_at(address, family, protocol)

    def loopback_node_port(self, family: Family, protocol: Protocol) -> Frontend:
        """The node port for a protocol, at the loopback address of whoever dials it."""
        return self._node_port_at({"IPv4": "127.0.0.1", "IPv6": "::1"}[family], family, protocol)

    def _node_port_at(self, address: str, family: Family, protocol: Protocol) -> Frontend:
        number = next(port["nodePort"] for port in self.live["spec"]["ports"] if port["protocol"] == protocol)
        return Frontend(self.name, "NodePort", address, number, family, len(self.endpoints))

    def every_cluster_ip(self, protocol: Protocol | None = None) -> list[Target]:
        """All ClusterIPs at all ports (of one protocol, if named), each with its protocol."""
        return [
            (self.cluster_ip(family, port.port), port.protocol)
            for family in self.families
            for port in self.ports
            if protocol in (None, port.protocol)
        ]

    def every_node_port(self, node: Node) -> list[Target]:
        """All node ports at one node's addresses, each with its protocol."""
        return [
            (self.node_port(node, family, port.protocol), port.protocol)
            for family in self.families
            for port in self.ports
        ]

    @property
    def ready_backends(self) -> frozenset[str]:
        """Names of the backends whose endpoints are ready."""
        return frozenset(endpoint.backend.name for endpoint in self.endpoints if endpoint.ready is not False)

    def enough_to_see_every_endpoint(self) -> int:
        """How many fresh connections a uniform chooser needs to leave no endpoint unseen, but for chance `MISS`.

        One endpoint more than declared is counted, so that a stray one would be seen as well. Coupon collector's
        bound: n trials miss one of k endpoints with probability at most k·(1-1/k)^n.
        """
        count = len(self.ready_backends) + 1
        if count == 1:
            return 4
        return math.ceil(math.log(count / MISS) / -math.log1p(-1 / count))

    def _slice(self, family: Family) -> Object:
        return {
            "metadata": {
                "name": f"{self.name}-{family.lower()}",
                "labels": {
                    "kubernetes.io/service-name": self.name,
                    "endpointslice.kubernetes.io/managed-by": "plumbline",
                    **self.labels,
                },
            },
            "addressType": family,
            "ports": [{"name": port.name, "protocol": port.protocol, "port": port.target} for port in self.ports],
            "endpoints": [endpoint.in_slice(family) for endpoint in self.endpoints],
        }


def as_endpoints(given: Iterable[Endpoint | Backend]) -> tuple[Endpoint, ...]:
    """Backends become ready endpoints."""
    return tuple(one if isinstance(one, Endpoint) else Endpoint(one) for one in given)


def service_spec(kind: str, ports: Sequence[Port], families: Sequence[Family], extra: Mapping[str, Any]) -> Object:
    """The spec of a selectorless Service."""
    return {
        "type": kind,
        "ipFamilyPolicy": "RequireDualStack" if len(families) > 1 else "SingleStack",
        "ipFamilies": list(families),
        "ports": [
            {"name": port.name, "port": port.port, "protocol": port.protocol, "targetPort": port.target}
            for port in ports
        ],
        **extra,
    }
