# SPDX-License-Identifier: Apache-2.0
"""From a Service and its slices to what the datapath shall do for it on this node; no numbers are given out here.

Sources: https://kubernetes.io/docs/concepts/services-networking/service/,
https://kubernetes.io/docs/reference/networking/virtual-ips/, KEP-1860 (ipMode).
"""

from collections.abc import Iterable
from functools import cached_property

from msgspec import Struct

from dataplane_ref.controller import schedule
from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.objects import Annotations, Service, ServicePort
from dataplane_ref.controller.packed import NO_ADDRESS, PROTOCOLS, address, family_of, network
from dataplane_ref.controller.packed import port as packed_port
from dataplane_ref.controller.select import Selection, ready_here, select
from dataplane_ref.controller.slices import CompactSlice

AFFINITY_SECONDS = 10800
"""The API's own default of sessionAffinityConfig.clientIP.timeoutSeconds."""
EXTERNALLY_ACCESSIBLE = ("NodePort", "LoadBalancer")
NOBODY: frozenset[int] = frozenset()
Ranges = tuple[tuple[bytes, int], ...]
PortName = tuple[str, int, int]
"""A Service port in one family: its name, protocol and 4 or 6."""


class Viewpoint(Struct, frozen=True):
    """What a plan depends on beside the Service itself."""

    node: str
    zone: str | None = None
    host_addresses: frozenset[bytes] = frozenset()
    scheduler: str = "random"


class Frontend(Struct, gc=False):
    """What is dialled: the key in `frontends`, `enum frontend_kind`, and whether source ranges restrict it."""

    key: bytes
    kind: int
    restricted: bool


class PortPlan(Struct, gc=False):
    """One Service port in one family. `weights` is None where every endpoint has 1; `flags` are of the frontends."""

    frontends: list[Frontend]
    selection: Selection
    flags: int
    affinity_seconds: int
    scheduler: str
    weights: list[int] | None
    on_host: frozenset[int]


class Plan(Struct, gc=False):
    """One Service. `ranges` are its load balancer's source ranges by family, `complaints` ends of sentences.

    `health` is the port that says how many ready endpoints are here, and how many are, by family.
    """

    ports: dict[PortName, PortPlan]
    cluster_ips: tuple[bytes, ...]
    ranges: dict[int, Ranges]
    health: tuple[int, dict[int, int]] | None
    complaints: list[str]


class Planner:
    """Plans Services from one viewpoint."""

    def __init__(self, codec: Codec, viewpoint: Viewpoint) -> None:
        self.viewpoint = viewpoint
        self._codec = codec

    @cached_property
    def _flags(self) -> tuple[int, int, int, int]:
        names = self._codec.frontend_flag
        return names["INTERNAL_LOCAL"], names["EXTERNAL_LOCAL"], names["CLIENT_AFFINITY"], names["RESTRICTED"]

    def plan(self, service: Service, slices: Iterable[CompactSlice]) -> Plan | None:
        """What to do for a Service; None if it is not proxied: headless, a name elsewhere, or another proxy's."""
        spec, labels = service.spec, service.metadata.labels
        if spec.type == "ExternalName" or (labels is not None and labels.hides):
            return None
        given = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
        if not given or given[0] == "None":
            return None
        slices = tuple(slices)
        complaints: list[str] = []
        cluster_ips = _addresses(given, complaints)
        # Most Services have none of these; with a hundred thousand of them it counts not to look further.
        external = self._external(service, complaints) if spec.type == "LoadBalancer" or spec.external_ips else []
        ranges = _source_ranges(service, complaints) if spec.load_balancer_source_ranges else {}
        flags, seconds = self._policies(service)
        scheduler, weights = self.viewpoint.scheduler, None
        if service.metadata.annotations is not None:
            scheduler, weights = self._scheduling(service.metadata.annotations, complaints)
        ports: dict[PortName, PortPlan] = {}
        families = {family_of(each): each for each in reversed(cluster_ips)}
        for family, cluster_ip in families.items():
            outside = [(kind, each) for kind, each in external if family_of(each) == family]
            for port in spec.ports or ():
                name = port.name or ""
                protocol = PROTOCOLS.get(port.protocol or "TCP")
                if protocol is None:
                    complaints.append(f"has a port of the unknown protocol {port.protocol}")
                    continue
                selection = select(slices, name, protocol, family, self.viewpoint.node, self.viewpoint.zone)
                ports[name, protocol, family] = PortPlan(
                    frontends=self._frontends(port, protocol, family, cluster_ip, outside, family in ranges),
                    selection=selection,
                    flags=flags,
                    affinity_seconds=seconds,
                    scheduler=scheduler,
                    weights=_weights(selection, weights) if weights else None,
                    on_host=self._on_host(selection),
                )
        health = _health(service, slices, families) if spec.health_check_node_port else None
        return Plan(ports, tuple(cluster_ips), ranges, health, complaints)

    def _frontends(
        self,
        port: ServicePort,
        protocol: int,
        family: int,
        cluster_ip: bytes,
        outside: list[tuple[int, bytes]],
        is_restricted: bool,
    ) -> list[Frontend]:
        kinds, pack = self._codec.kind, self._codec.frontend_key.pack
        number = packed_port(port.port)
        found = [Frontend(pack(cluster_ip, number, protocol, family), kinds["CLUSTER_IP"], False)]
        if port.node_port:
            key = pack(NO_ADDRESS, packed_port(port.node_port), protocol, family)
            found.append(Frontend(key, kinds["NODE_PORT"], False))
        balancer = kinds["LOAD_BALANCER"]
        for kind, each in outside:
            key = pack(each, number, protocol, family)
            # As externalIP and by a load balancer an address may stand twice: the first, which is restricted, counts.
            if all(key != other.key for other in found):
                found.append(Frontend(key, kind, is_restricted and kind == balancer))
        return found

    def _external(self, service: Service, complaints: list[str]) -> list[tuple[int, bytes]]:
        """Addresses of load balancers, then externalIPs, with their kinds."""
        kinds, status = self._codec.kind, service.status
        balanced: list[str] = []
        if service.spec.type == "LoadBalancer" and status is not None and status.load_balancer is not None:
            ingress = status.load_balancer.ingress or ()
            # Proxy: the balancer wants to be asked itself, also from inside the cluster.
            balanced = [each.ip for each in ingress if each.ip and (each.ip_mode or "VIP") == "VIP"]
        return [(kinds["LOAD_BALANCER"], each) for each in _addresses(balanced, complaints)] + [
            (kinds["EXTERNAL_IP"], each) for each in _addresses(service.spec.external_ips or (), complaints)
        ]

    def _policies(self, service: Service) -> tuple[int, int]:
        """Flags of all frontends of the Service, and the length of affinity in seconds."""
        spec = service.spec
        internal_local, external_local, client_affinity, _ = self._flags
        flags = internal_local if spec.internal_traffic_policy == "Local" else 0
        is_accessible = spec.type in EXTERNALLY_ACCESSIBLE or spec.external_ips
        if spec.external_traffic_policy == "Local" and is_accessible:
            flags |= external_local
        if spec.session_affinity != "ClientIP":
            return flags, 0
        config = spec.session_affinity_config
        seconds = config.client_ip.timeout_seconds if config and config.client_ip else None
        return flags | client_affinity, seconds or AFFINITY_SECONDS

    def _scheduling(self, annotations: Annotations, complaints: list[str]) -> tuple[str, dict[bytes, int]]:
        scheduler, weights = self.viewpoint.scheduler, dict[bytes, int]()
        if annotations.scheduler is not None:
            if annotations.scheduler in schedule.SCHEDULERS:
                scheduler = annotations.scheduler
            else:
                known = ", ".join(schedule.SCHEDULERS)
                complaints.append(f"asks for the scheduler {annotations.scheduler!r}, and there are {known}")
        if annotations.weights:
            try:
                given = schedule.parse_weights(annotations.weights)
                weights = {address(each): weight for each, weight in given.items()}
            except ValueError as error:
                complaints.append(f"has weights that cannot be read: {error}")
        return scheduler, weights

    def _on_host(self, selection: Selection) -> frozenset[int]:
        host = self.viewpoint.host_addresses
        if not any([each in selection.packed for each in host]):  # noqa: C419 - most often none is
            return NOBODY
        return frozenset([place for place, key in enumerate(selection.keys) if key[:16] in host])


def _weights(selection: Selection, given: dict[bytes, int]) -> list[int] | None:
    weights = [given.get(key[:16], 1) for key in selection.keys]
    return weights if any(weight != 1 for weight in weights) else None


def _addresses(given: Iterable[str], complaints: list[str]) -> list[bytes]:
    found = []
    for each in given:
        try:
            found.append(address(each))
        except ValueError as error:
            complaints.append(f"has an address that cannot be: {error}")
    return found


def _source_ranges(service: Service, complaints: list[str]) -> dict[int, Ranges]:
    """Who may use the load balancer's addresses, by family; a family that no range is of is not restricted."""
    if service.spec.type != "LoadBalancer" or not service.spec.load_balancer_source_ranges:
        return {}
    by_family: dict[int, set[tuple[bytes, int]]] = {}
    for each in service.spec.load_balancer_source_ranges:
        try:
            found = network(each.strip())
        except ValueError as error:
            complaints.append(f"has a source range that cannot be: {error}")
        else:
            by_family.setdefault(6 if ":" in each else 4, set()).add(found)
    return {family: tuple(sorted(found)) for family, found in by_family.items()}


def _health(
    service: Service, slices: tuple[CompactSlice, ...], families: Iterable[int]
) -> tuple[int, dict[int, int]] | None:
    spec = service.spec
    if spec.type != "LoadBalancer" or spec.external_traffic_policy != "Local" or not spec.health_check_node_port:
        return None
    return spec.health_check_node_port, {family: ready_here(slices, family) for family in families}
