# SPDX-License-Identifier: Apache-2.0
"""Where a Service can be reached: its ports, and the addresses a proxy must answer for.
 Sources: https://kubernetes.io/docs/concepts/services-networking/service/,
https://kubernetes.io/docs/reference/networking/virtual-ips/, KEP-1860 (ipMode), KEP-2447
(service-proxy-name).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from dataplane_ref.model.addresses import Family, Network, canonical, family_of, networks
from dataplane_ref.model.endpoints import HIDDEN_LABELS, JsonObject

SOURCE_RANGES_ANNOTATION = "service.beta.kubernetes.io/load-balancer-source-ranges"


class FrontendKind(StrEnum):
    """The ways in. Only `CLUSTER_IP` is internal: the others are subject to externalTrafficPolicy."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    EXTERNAL_IP = "externalIP"
    LOAD_BALANCER = "load-balancer IP"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service, with the Service's settings that rule it.

    `affinity_s` is the ClientIP affinity timeout in seconds, None without affinity. `source_ranges` limit
    who may use a load-balancer IP, and nothing else; empty means everyone.
    """

    namespace: str
    service: str
    name: str
    number: int
    protocol: str
    internal_local: bool
    external_local: bool
    source_ranges: tuple[Network, ...]
    affinity_s: int | None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service}:{self.name or self.number}"


@dataclass(frozen=True, slots=True)
class Frontend:
    """One way in to a Service port. `ignored` says why a proxy must leave it alone, else None."""

    kind: FrontendKind
    port: ServicePort
    ignored: str | None = None


@dataclass(frozen=True)
class FrontendIndex:
    """All frontends of a cluster, by what is dialled.

    Several Services may claim the same external address and port; no documentation says which one wins, so a
    look-up returns them all.
    """

    by_vip: dict[tuple[str, int, str], tuple[Frontend, ...]] = field(default_factory=dict)
    by_node_port: dict[tuple[Family, int, str], tuple[Frontend, ...]] = field(default_factory=dict)
    vips: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, services: Iterable[JsonObject]) -> "FrontendIndex":
        """Index the frontends of Services given as JSON objects."""
        index = cls()
        for service in services:
            for address, port, frontend in _virtual_ips(service):
                index.vips.add(address)
                vip = (address, port, frontend.port.protocol)
                index.by_vip[vip] = _claim(index.by_vip.get(vip, ()), frontend)
            for family, port, frontend in _node_ports(service):
                number = (family, port, frontend.port.protocol)
                index.by_node_port[number] = _claim(index.by_node_port.get(number, ()), frontend)
        return index


def _claim(claims: tuple[Frontend, ...], frontend: Frontend) -> tuple[Frontend, ...]:
    """Add a claim; ignored frontends only count where nothing else claims the same address."""
    live = tuple(claim for claim in (*claims, frontend) if claim.ignored is None)
    return live or (*claims, frontend)


def service_ports(service: JsonObject) -> Iterator[tuple[ServicePort, int | None]]:
    """The ports of a Service, each with its node port, if it has one."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    for port in spec.get("ports") or ():
        item = ServicePort(
            namespace=metadata.get("namespace") or "default",
            service=metadata["name"],
            name=port.get("name") or "",
            number=port["port"],
            protocol=port.get("protocol") or "TCP",
            internal_local=spec.get("internalTrafficPolicy") == "Local",
            external_local=spec.get("externalTrafficPolicy") == "Local",
            source_ranges=networks(_source_ranges(service)),
            affinity_s=_affinity(spec),
        )
        yield item, port.get("nodePort")


def cluster_ips(service: JsonObject) -> dict[Family, str]:
    """The Service's ClusterIPs by family; empty for a headless Service and for ExternalName.

    A family without a ClusterIP is a family in which the Service does not exist: no frontend of that family,
    node ports included, belongs to it (https://kubernetes.io/docs/concepts/services-networking/dual-stack/).
    """
    spec = service.get("spec") or {}
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return {family_of(address): canonical(address) for address in addresses if address not in (None, "", "None")}


def _ignored(service: JsonObject) -> str | None:
    """Why no proxy may answer for this Service: its type is about DNS only, or a label says so (KEP-2447).

    A headless Service has no address to ask about either, unless it lists external ones.
    """
    spec, labels = service.get("spec") or {}, service["metadata"].get("labels") or {}
    if spec.get("type") == "ExternalName":
        return "a Service of type ExternalName is never proxied"
    if spec.get("clusterIP") == "None":
        return "a headless Service is never proxied"
    for label in HIDDEN_LABELS:
        if label in labels:
            return f"the label {label} takes the Service away from this proxy"
    return None


def _virtual_ips(service: JsonObject) -> Iterator[tuple[str, int, Frontend]]:
    """Each virtual IP and port of a Service: ClusterIPs, externalIPs and load-balancer IPs.

    A load-balancer IP counts if its ipMode is absent or VIP; with ipMode Proxy the traffic is left to the
    load balancer (KEP-1860).
    """
    spec, ignored = service.get("spec") or {}, _ignored(service)
    families = cluster_ips(service)
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    claims = [(FrontendKind.CLUSTER_IP, address, ignored) for address in families.values()]
    claims += [(FrontendKind.EXTERNAL_IP, canonical(address), ignored) for address in spec.get("externalIPs") or ()]
    for item in ingress:
        if item.get("ip"):
            by_balancer = None if (item.get("ipMode") or "VIP") == "VIP" else "its ipMode is Proxy"
            claims.append((FrontendKind.LOAD_BALANCER, canonical(item["ip"]), ignored or by_balancer))
    for port, _ in service_ports(service):
        for kind, address, why in claims:
            if family_of(address) in families or why:
                yield address, port.number, Frontend(kind, port, why)


def _node_ports(service: JsonObject) -> Iterator[tuple[Family, int, Frontend]]:
    ignored = _ignored(service)
    for port, node_port in service_ports(service):
        if node_port:
            for family in cluster_ips(service):
                yield family, node_port, Frontend(FrontendKind.NODE_PORT, port, ignored)


def _source_ranges(service: JsonObject) -> list[str]:
    """`spec.loadBalancerSourceRanges`, or else the older annotation with its comma-separated list."""
    ranges = (service.get("spec") or {}).get("loadBalancerSourceRanges")
    if ranges:
        return list(ranges)
    annotation = (service["metadata"].get("annotations") or {}).get(SOURCE_RANGES_ANNOTATION) or ""
    return [item for item in annotation.split(",") if item.strip()]


def _affinity(spec: JsonObject) -> int | None:
    """The ClientIP timeout in seconds; the API's default is three hours."""
    if spec.get("sessionAffinity") != "ClientIP":
        return None
    config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return config.get("timeoutSeconds") or 10800
