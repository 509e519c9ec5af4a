# SPDX-License-Identifier: Apache-2.0
"""Which endpoints may answer: EndpointSlices joined, conditions, topology hints and the two candidate sets.

Sources: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/, KEP-1669 (terminating
endpoints), KEP-2086 (internalTrafficPolicy), KEP-2433 and KEP-3015 (topology hints).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dataplane_ref.model.addresses import Endpoint, Family, canonical

JsonObject = Mapping[str, Any]

SERVICE_NAME = "kubernetes.io/service-name"
HIDDEN_LABELS = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """One endpoint of one Service port, after all slices that list it have been joined.

    `nodes` holds the names of the nodes it is said to run on: one, or none where the slice does not say.
    """

    endpoint: Endpoint
    nodes: frozenset[str]
    ready: bool
    draining: bool
    node_hints: frozenset[str]
    zone_hints: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Listing:
    """One appearance of an endpoint in one slice, its conditions with their defaults filled in."""

    endpoint: Endpoint
    node: str | None
    ready: bool
    serving: bool
    terminating: bool
    node_hints: frozenset[str]
    zone_hints: frozenset[str]


@dataclass(frozen=True, slots=True)
class Selection:
    """The two candidate sets of a Service port as one node sees them, and in words how each came about.

    `cluster` is empty exactly when no endpoint anywhere is usable: a ready endpoint somewhere always leaves
    something in it, because hints never filter down to nothing.
    """

    cluster: tuple[EndpointRecord, ...]
    cluster_why: str
    local: tuple[EndpointRecord, ...]
    local_why: str


def service_of(endpoint_slice: JsonObject) -> tuple[str, str] | None:
    """Namespace and name of the Service a slice belongs to, or None where no proxy may use the slice.

    A slice names its Service by label. Slices of headless Services, and those meant for another proxy,
    carry a label (its value does not matter) and are left alone: KEP-2447 and
    https://kubernetes.io/docs/reference/labels-annotations-taints/#servicekubernetesioheadless.
    """
    metadata = endpoint_slice["metadata"]
    labels = metadata.get("labels") or {}
    if any(label in labels for label in HIDDEN_LABELS) or not labels.get(SERVICE_NAME):
        return None
    return metadata.get("namespace") or "default", labels[SERVICE_NAME]


def join(
    slices: Iterable[JsonObject], *, port_name: str, protocol: str, family: Family
) -> tuple[EndpointRecord, ...]:
    """The endpoints that a Service's slices list for one of its ports and one family, ordered by address.

    A slice's `addressType` decides the family. Slice ports belong to the Service port of the same name and
    protocol (no name and the empty name are the same); each slice may name another target port. An endpoint
    listed several times counts once; see `_merge`.
    """
    listings: defaultdict[Endpoint, list[_Listing]] = defaultdict(list)
    for endpoint_slice in slices:
        if endpoint_slice.get("addressType") != family:
            continue
        for target in _target_ports(endpoint_slice, port_name, protocol):
            for listing in _listings(endpoint_slice, target):
                listings[listing.endpoint].append(listing)
    return tuple(_merge(listings[endpoint]) for endpoint in sorted(listings))


def every_endpoint(slices: Iterable[JsonObject]) -> Iterator[Endpoint]:
    """Each address and port that any slice lists, whatever its conditions, labels and family."""
    for endpoint_slice in slices:
        if endpoint_slice.get("addressType") in ("IPv4", "IPv6"):
            for port in endpoint_slice.get("ports") or ():
                if port.get("port"):
                    for listing in _listings(endpoint_slice, port["port"]):
                        yield listing.endpoint


def select(records: Iterable[EndpointRecord], node: str, zone: str | None) -> Selection:
    """The candidate sets of one Service port, as the proxy of `node` must see them.

    Cluster policy: the ready endpoints that topology leaves; where nothing is ready anywhere, the endpoints
    that are still serving while they terminate, topology ignored. Local policy: the same two steps among
    this node's endpoints only, hints ignored. The two fall back independently of each other (KEP-1669).
    """
    records = tuple(records)
    ready = tuple(record for record in records if record.ready)
    draining = tuple(record for record in records if record.draining)
    if ready:
        cluster, cluster_why = _nearest(ready, node, zone)
    else:
        cluster, cluster_why = draining, "no endpoint is ready, so those serving while terminating"
    local = tuple(record for record in ready if node in record.nodes)
    local_why = f"the ready endpoints on {node}"
    if not local:
        local = tuple(record for record in draining if node in record.nodes)
        local_why = f"no endpoint on {node} is ready, so those serving there while terminating"
    return Selection(cluster, cluster_why, local, local_why)


def _nearest(
    ready: tuple[EndpointRecord, ...], node: str, zone: str | None
) -> tuple[tuple[EndpointRecord, ...], str]:
    """Topology: hints count only if *every* ready endpoint has one, and at least one names this node (zone).

    Node hints come before zone hints; otherwise all ready endpoints are used, never none. Since 1.34 the
    hints alone decide, without any annotation or field of the Service.
    https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-distribution, KEP-3015.
    """
    if all(record.node_hints for record in ready):
        near = tuple(record for record in ready if node in record.node_hints)
        if near:
            return near, f"the ready endpoints hinted for {node}"
    if all(record.zone_hints for record in ready):
        near = tuple(record for record in ready if zone in record.zone_hints)
        if near:
            return near, f"the ready endpoints hinted for zone {zone}"
    return ready, "every ready endpoint"


def _target_ports(endpoint_slice: JsonObject, port_name: str, protocol: str) -> Iterator[int]:
    for port in endpoint_slice.get("ports") or ():
        named = (port.get("name") or "") == port_name and (port.get("protocol") or "TCP") == protocol
        if named and port.get("port"):
            yield port["port"]


def _listings(endpoint_slice: JsonObject, port: int) -> Iterator[_Listing]:
    for item in endpoint_slice.get("endpoints") or ():
        if not item.get("addresses"):
            continue
        conditions = item.get("conditions") or {}
        hints = item.get("hints") or {}
        yield _Listing(
            # Addresses after the first have no defined meaning, and no proxy looks at them (API reference).
            endpoint=Endpoint(canonical(item["addresses"][0]), port),
            node=item.get("nodeName"),
            ready=_condition(conditions, "ready", default=True),
            serving=_condition(conditions, "serving", default=True),
            terminating=_condition(conditions, "terminating", default=False),
            node_hints=_hint_names(hints, "forNodes"),
            zone_hints=_hint_names(hints, "forZones"),
        )


def _condition(conditions: JsonObject, name: str, *, default: bool) -> bool:
    """A condition; absent and null mean the documented default (EndpointConditions, discovery.k8s.io/v1)."""
    value = conditions.get(name)
    return default if value is None else bool(value)


def _hint_names(hints: JsonObject, field: str) -> frozenset[str]:
    return frozenset(hint["name"] for hint in hints.get(field) or ())


def _merge(listings: list[_Listing]) -> EndpointRecord:
    """One record from every listing of one address and port, independent of their order.

    While an endpoint moves between slices it is listed twice. Two listings may also be two pods, when an
    address is reused before the terminating pod that had it is gone: then the pod that is not terminating
    counts (https://github.com/kubernetes/kubernetes/issues/135266). Of the listings left, a ready one
    counts.
    """
    alive = [listing for listing in listings if not listing.terminating] or listings
    counted = [listing for listing in alive if listing.ready] or [listing for listing in alive if listing.serving]
    counted = counted or alive
    first = counted[0]
    return EndpointRecord(
        endpoint=first.endpoint,
        nodes=frozenset(listing.node for listing in counted if listing.node),
        ready=first.ready,
        draining=first.serving and first.terminating,
        node_hints=_merge_hints([listing.node_hints for listing in counted]),
        zone_hints=_merge_hints([listing.zone_hints for listing in counted]),
    )


def _merge_hints(hints: list[frozenset[str]]) -> frozenset[str]:
    # A missing hint is what switches topology off, so one listing without a hint leaves the endpoint without.
    return frozenset().union(*hints) if all(hints) else frozenset()
