# SPDX-License-Identifier: Apache-2.0
"""Services as tests write them: selectorless Services with hand-written EndpointSlices that point at the pool."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusters.api import Backend, Node
from clusters.kube import ENDPOINT_SLICES, SERVICE_CIDRS, SERVICES, KubeClient, Object
from clusters.observation import Family, Protocol
from plugins.slices import Endpoint, Slice

# The probability with which a uniform chooser may leave some endpoint unseen by chance, per look.
MISS = 1e-9
# And that with which it may leave an endpoint unseen that should not be there at all.
OVERLOOKED = 1e-6
# What stands for the ClusterIP of a Service that wants none.
HEADLESS = "None"
# Nobody's class: with one, no load balancer's controller touches the Service, so that its status stays ours.
BALANCER_CLASS = "plumbline.example/by-hand"


@dataclass(frozen=True, slots=True)
class Port:
    """A Service port: its number, where it leads, and its protocol. A named target needs slices that resolve it.

    `node_port` is the number asked for (None: whichever the API server gives).
    """

    port: int
    target: int | str
    protocol: Protocol
    node_port: int | None = None

    @property
    def name(self) -> str:
        return f"{self.protocol.lower()}-{self.port}"


@dataclass(frozen=True, slots=True)
class Frontend:
    """An address and port at which a Service can be reached, and what kind it is (`ClusterIP`, `NodePort`, …)."""

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

    `former` are Services as they were before they were deleted or changed since the last settle: whatever they
    had and have no longer must fall silent.
    """

    services: dict[str, Object] = field(default_factory=dict)
    slices: dict[str, Object] = field(default_factory=dict)
    former: list[Object] = field(default_factory=list)
    version: int = 0


@dataclass(slots=True)
class Service:
    """One Service and its EndpointSlices. Changes are written at once; waiting is the world's.

    `families` are those it is judged in, as far as it has them. `cidrs` are ranges for ClusterIPs that come and go
    with it.
    """

    name: str
    kube: KubeClient
    mirror: Mirror
    ports: tuple[Port, ...]
    spec: Object
    labels: Mapping[str, str]
    families: tuple[Family, ...]
    slices: tuple[Slice, ...] = ()
    ingress: tuple[Object, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    cidrs: tuple[str, ...] = ()
    _written: dict[str, Object] = field(default_factory=dict)
    _health_check_port: int = 0
    _last: Object = field(default_factory=dict)

    # What tests write.

    def create(self) -> None:
        """POST the Service, its status where it is a load balancer's, then its slices; before it, its ServiceCIDR."""
        if self.cidrs:
            self.kube.create(SERVICE_CIDRS, {"metadata": {"name": self.name}, "spec": {"cidrs": list(self.cidrs)}})
        metadata = {"name": self.name, "labels": dict(self.labels), "annotations": dict(self.annotations)}
        body = {"metadata": metadata, "spec": self.spec}
        self.mirror.services[self.name] = self.kube.create(SERVICES, body)
        if self.ingress:
            self._set_status()
        self.set_slices(*self.slices)

    def set_endpoints(self, endpoints: Iterable[Endpoint | Backend]) -> None:
        """Replace all endpoints by those of one slice."""
        self.set_slices(Slice(endpoints))

    def set_slices(self, *slices: Slice) -> None:
        """Write the slices that are new or changed, then delete those that are no longer among them."""
        self.slices = slices
        wanted = {body["metadata"]["name"]: body for body in self._bodies()}
        for name, body in wanted.items():
            if self._written.get(name) != body:
                write = self.kube.replace if name in self._written else self.kube.create
                self.mirror.slices[name] = write(ENDPOINT_SLICES, body)
        self._delete_slices(self._written.keys() - wanted.keys())
        self._written = wanted
        self.mirror.version += 1

    def change(self, **spec: Any) -> None:
        """PATCH fields of the spec; None takes a field away. New `ports` are given as `Port`s."""
        if "ports" in spec:
            self.ports = tuple(spec["ports"])
            spec["ports"] = ports_in_spec(self.ports)
        self._patched(self.kube.patch(SERVICES, self.name, {"spec": spec}))

    def set_label(self, name: str, value: str | None) -> None:
        """PATCH a label, of the slices too; None takes it away."""
        kept = {own: its for own, its in self.labels.items() if own != name}
        self.labels = kept if value is None else {**kept, name: value}
        self._patched(self.kube.patch(SERVICES, self.name, {"metadata": {"labels": {name: value}}}))
        self.set_slices(*self.slices)

    def set_ingress(self, *ingress: Object) -> None:
        """What the load balancer says about itself: `{"ip": …}`, with an `ipMode` where it matters."""
        self.ingress = ingress
        self._set_status()

    def delete(self) -> None:
        """DELETE the Service, then its slices; nothing if it is already deleted."""
        last = self.mirror.services.pop(self.name, None)
        if last is None:
            return
        self._last = last
        self.mirror.former.append(last)
        self.kube.delete(SERVICES, self.name)
        if self.cidrs:
            self.kube.delete(SERVICE_CIDRS, self.name)
        self._delete_slices(self._written.keys())
        self._written = {}
        self.mirror.version += 1

    def create_again(self, endpoints: Iterable[Endpoint | Backend], *, same_addresses: bool) -> None:
        """After `delete`: create it under its old name, at its old ClusterIPs if asked, with other endpoints."""
        if same_addresses:
            addresses = self._last["spec"]["clusterIPs"]
            self.spec = {**self.spec, "clusterIP": addresses[0], "clusterIPs": addresses}
        self.slices = (Slice(endpoints),)
        self.create()

    # What can be dialled.

    @property
    def live(self) -> Object:
        """The Service object as the server last answered it."""
        return self.mirror.services[self.name]

    def cluster_ip(self, family: Family, port: int | None = None) -> Frontend:
        """The ClusterIP of a family, at a port of the Service (default: its first)."""
        address = next(ip for ip in self.live["spec"]["clusterIPs"] if family_of(ip) == family)
        return self._frontend("ClusterIP", address, port or self.ports[0].port)

    def node_port(self, node: Node, family: Family, protocol: Protocol, *, second: bool = False) -> Frontend:
        """The node port for a protocol, at a node's address, or at its second one."""
        address = (node.second_addresses if second else node.addresses)[family]
        return self._node_port_at(address, protocol)

    def loopback_node_port(self, family: Family, protocol: Protocol) -> Frontend:
        """The node port for a protocol, at the loopback address of whoever dials it."""
        return self._node_port_at({"IPv4": "127.0.0.1", "IPv6": "::1"}[family], protocol)

    def _node_port_at(self, address: str, protocol: Protocol) -> Frontend:
        number = next(port["nodePort"] for port in self.live["spec"]["ports"] if port["protocol"] == protocol)
        return self._frontend("NodePort", address, number)

    def health_check(self, node: Node, family: Family) -> Frontend:
        """The health check node port at a node's address, the one asked for last if the Service has none any more."""
        live = self.mirror.services.get(self.name, {"spec": {}})
        self._health_check_port = live["spec"].get("healthCheckNodePort") or self._health_check_port
        return self._frontend("HealthCheck", node.addresses[family], self._health_check_port)

    def every_cluster_ip(self, protocol: Protocol | None = None, *, family: Family | None = None) -> list[Target]:
        """All ClusterIPs at all ports (of one protocol or family, if named), each with its protocol."""
        every = self._at_every_port("ClusterIP", self.live["spec"].get("clusterIPs", ()), family)
        return [(frontend, own) for frontend, own in every if protocol in (None, own)]

    def every_node_port(self, node: Node, *, family: Family | None = None) -> list[Target]:
        """All node ports at one node's addresses (of one family, if named), each with its protocol."""
        return [
            (self.node_port(node, own, port.protocol), port.protocol)
            for own in self._own_families()
            for port in self.ports
            if family in (None, own)
        ]

    def every_load_balancer_ip(self, *, family: Family | None = None) -> list[Target]:
        """All addresses in the load balancer's status at all ports (of one family, if named)."""
        ingress = self.live["status"]["loadBalancer"].get("ingress", ())
        return self._at_every_port("LoadBalancer", [item["ip"] for item in ingress if "ip" in item], family)

    def every_external_ip(self, *, family: Family | None = None) -> list[Target]:
        """All `spec.externalIPs` at all ports (of one family, if named)."""
        return self._at_every_port("ExternalIP", self.live["spec"].get("externalIPs", ()), family)

    def at_endpoint(self, endpoint: Endpoint, family: Family) -> list[Target]:
        """An endpoint's own address at the target of each port, dialled without the Service."""
        ip = endpoint.backend.addresses[family]
        return [(self._frontend("Endpoint", ip, int(port.target)), port.protocol) for port in self.ports]

    def at(self, kind: str, ip: str) -> list[Target]:
        """The Service's ports at any address, whether or not that is one of the Service's."""
        return [(self._frontend(kind, ip, port.port), port.protocol) for port in self.ports]

    # Whom it leads to.

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints of all its slices."""
        return tuple(endpoint for one in self.slices for endpoint in one.endpoints)

    @property
    def ready_backends(self) -> frozenset[str]:
        """Names of the backends whose endpoints are ready."""
        return frozenset(endpoint.backend.name for endpoint in self.endpoints if endpoint.ready is not False)

    def enough_to_see_every_endpoint(self) -> int:
        """How many fresh connections a uniform chooser needs to leave no ready endpoint unseen."""
        return enough_to_see(len(self.ready_backends))

    def _set_status(self) -> None:
        status = {"loadBalancer": {"ingress": list(self.ingress) or None}}
        self._patched(self.kube.patch(SERVICES, self.name, {"status": status}, subresource="status"))

    def _patched(self, answer: Object) -> None:
        self.mirror.former.append(self.live)
        self.mirror.services[self.name] = answer
        self.mirror.version += 1

    def _delete_slices(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            del self.mirror.slices[name]
            self.kube.delete(ENDPOINT_SLICES, name)

    def _bodies(self) -> list[Object]:
        """Slices are named after their Service, their place (but the first) and their family."""
        ports = [{"name": port.name, "protocol": port.protocol, "port": port.target} for port in self.ports]
        return [
            one.body("-".join([self.name, *place, family.lower()]), self.name, family, ports, dict(self.labels))
            for number, one in enumerate(self.slices)
            for place in [[str(number)] if number else []]
            for family in (self.families if one.families is None else one.families)
        ]

    def _own_families(self) -> list[Family]:
        return [family for family in self.families if family in self.live["spec"].get("ipFamilies", ())]

    def _at_every_port(self, kind: str, ips: Iterable[str], family: Family | None) -> list[Target]:
        judged = [family] if family else self.families
        by_family = [ip for own in judged for ip in ips if ip != HEADLESS and family_of(ip) == own]
        return [target for ip in by_family for target in self.at(kind, ip)]

    def _frontend(self, kind: str, ip: str, port: int) -> Frontend:
        return Frontend(self.name, kind, ip, port, family_of(ip), len(self.endpoints))


def enough_to_see(endpoints: int) -> int:
    """How many fresh connections a uniform chooser needs to leave none of `endpoints` unseen, but for chance `MISS`.

    A stray endpoint beside them, whom the chooser takes for one more, is overlooked with `OVERLOOKED`. Coupon
    collector's bound: n trials miss one of k endpoints with probability at most k·(1-1/k)^n.
    """
    if not endpoints:
        return 4
    with_a_stray = math.log(OVERLOOKED) / math.log1p(-1 / (endpoints + 1))
    if endpoints == 1:
        return math.ceil(with_a_stray)
    return math.ceil(max(with_a_stray, math.log(MISS / endpoints) / math.log1p(-1 / endpoints)))


def family_of(ip: str) -> Family:
    """The family of a numeric address."""
    return "IPv6" if ":" in ip else "IPv4"


def other_family(family: Family) -> Family:
    """IPv6 for IPv4, and the other way round."""
    return "IPv4" if family == "IPv6" else "IPv6"


def ports_in_spec(ports: Iterable[Port]) -> list[Object]:
    """Ports as a Service's spec has them."""
    return [
        {
            "name": port.name,
            "port": port.port,
            "protocol": port.protocol,
            "targetPort": port.target,
            **({"nodePort": port.node_port} if port.node_port else {}),
        }
        for port in ports
    ]


def service_spec(kind: str, ports: Sequence[Port], families: Sequence[Family], extra: Mapping[str, Any]) -> Object:
    """The spec of a selectorless Service: dual-stack where several families are judged, unless `extra` says."""
    has_families = kind != "ExternalName"
    return {
        "type": kind,
        **({"ipFamilyPolicy": "RequireDualStack" if len(families) > 1 else "SingleStack"} if has_families else {}),
        **({"ipFamilies": list(families)} if has_families else {}),
        **({"loadBalancerClass": BALANCER_CLASS} if kind == "LoadBalancer" else {}),
        "ports": ports_in_spec(ports),
        **extra,
    }
