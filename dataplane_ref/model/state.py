# SPDX-License-Identifier: Apache-2.0
"""What the model knows of a cluster: nodes, Services, EndpointSlices and how the proxies are configured.

Everything is read from API objects as plain JSON; indexes are built on first use and kept. The objects given
must not be changed afterwards: make a new ClusterState instead.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Self

from dataplane_ref.model.addresses import (
    Endpoint,
    Family,
    Network,
    canonical,
    family_of,
    networks,
    of_family,
    version_of,
    within,
)
from dataplane_ref.model.endpoints import EndpointRecord, JsonObject, every_endpoint, join, service_of
from dataplane_ref.model.frontends import FrontendIndex, ServicePort

ZONE_LABEL = "topology.kubernetes.io/zone"


@dataclass(frozen=True)
class NodeView:
    """A node: name, every address it owns (the primary one of each family first), pod CIDRs and zone."""

    name: str
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...] = ()
    zone: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "addresses", tuple(canonical(address) for address in self.addresses))

    @classmethod
    def from_object(cls, node: JsonObject) -> Self:
        """A node from its API object: InternalIP addresses before ExternalIP ones, pod CIDRs, zone label."""
        metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
        addresses = [
            item["address"]
            for kind in ("InternalIP", "ExternalIP")
            for item in status.get("addresses") or ()
            if item["type"] == kind
        ]
        cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
        zone = (metadata.get("labels") or {}).get(ZONE_LABEL)
        return cls(metadata["name"], tuple(addresses), tuple(cidrs), zone or None)

    @cached_property
    def pod_networks(self) -> tuple[Network, ...]:
        """`pod_cidrs`, parsed."""
        return networks(self.pod_cidrs)

    def addresses_of(self, family: Family) -> tuple[str, ...]:
        """The node's addresses of one family, primary first."""
        return of_family(self.addresses, family)

    def is_primary(self, address: str) -> bool:
        """Whether this is the address the node is known by in its family."""
        return self.addresses_of(family_of(address))[:1] == (address,)

    def holds(self, address: str) -> bool:
        """Whether the address is the node's own or that of a pod on it, going by its pod CIDRs."""
        return address in self.addresses or within(address, self.pod_networks)


LocalDetector = Literal["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"]


@dataclass(frozen=True)
class ProxyConfig:
    """The configuration of the proxies, as far as it changes verdicts (kubeproxy.config.k8s.io/v1alpha1).

    `detect_local` says how a proxy tells the traffic of pods from other traffic: by the cluster's pod CIDRs
    (with `cluster_cidrs`; a family without a range has no detector), by its own node's, or by the interface
    a packet comes in by. `node_port_addresses`: None leaves the mode's default, of which only the nodes'
    primary addresses are common to all modes; otherwise CIDRs, or the word `primary`, and exactly those
    addresses serve node ports, in the families that are named. `localhost_node_ports`: node ports also
    answer on 127.0.0.0/8 of the node (never on ::1), if `node_port_addresses` does not leave it out; None leaves
    the mode's default, and the modes' differ.
    """

    cluster_cidrs: tuple[str, ...] = ()
    masquerade_all: bool = False
    node_port_addresses: tuple[str, ...] | None = None
    localhost_node_ports: bool | None = False
    detect_local: LocalDetector = "ClusterCIDR"

    @cached_property
    def cluster_networks(self) -> tuple[Network, ...]:
        """`cluster_cidrs`, parsed."""
        return networks(self.cluster_cidrs)

    @cached_property
    def _node_port_networks(self) -> tuple[Network, ...]:
        return networks(cidr for cidr in self.node_port_addresses or () if cidr != "primary")

    def serves_node_ports_at(self, node: NodeView, address: str) -> bool | None:
        """Whether node ports answer at this address of this node; None where the modes' defaults differ."""
        primary = node.is_primary(address)
        if not self.node_port_addresses:
            return True if primary else None
        if "primary" in self.node_port_addresses and primary:
            return True
        if within(address, self._node_port_networks):
            return True
        version = version_of(family_of(address))
        named = "primary" in self.node_port_addresses or any(
            network.version == version for network in self._node_port_networks
        )
        return False if named else None

    def serves_node_ports_on_loopback(self, address: str) -> bool | None:
        """Whether node ports answer at this address of a node's own loopback; None where the modes differ."""
        if ":" in address:
            return False
        named = any(network.version == 4 for network in self._node_port_networks)
        if self.node_port_addresses and (named or "primary" in self.node_port_addresses):
            return self.localhost_node_ports if within(address, self._node_port_networks) else False
        return self.localhost_node_ports


@dataclass(frozen=True)
class ClusterState:
    """A cluster at one moment: what the API says, and how its proxies are configured."""

    nodes: tuple[NodeView, ...]
    services: tuple[JsonObject, ...]
    endpoint_slices: tuple[JsonObject, ...]
    config: ProxyConfig = ProxyConfig()
    _records: dict[tuple[str, str, str, str, Family], tuple[EndpointRecord, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def from_objects(
        cls,
        nodes: Iterable[NodeView | JsonObject],
        services: Iterable[JsonObject],
        endpoint_slices: Iterable[JsonObject],
        config: ProxyConfig | None = None,
    ) -> Self:
        """A state from API objects as JSON dicts; a node may be a NodeView where more is known of it."""
        views = tuple(node if isinstance(node, NodeView) else NodeView.from_object(node) for node in nodes)
        return cls(views, tuple(services), tuple(endpoint_slices), config or ProxyConfig())

    @cached_property
    def frontends(self) -> FrontendIndex:
        """All frontends, by what is dialled."""
        return FrontendIndex.of(self.services)

    @cached_property
    def _nodes(self) -> Mapping[str, NodeView]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _owners(self) -> Mapping[str, NodeView]:
        owners: dict[str, NodeView] = {}
        for node in self.nodes:
            for address in node.addresses:
                owners.setdefault(address, node)
        return owners

    @cached_property
    def _slices(self) -> Mapping[tuple[str, str], list[JsonObject]]:
        slices: defaultdict[tuple[str, str], list[JsonObject]] = defaultdict(list)
        for endpoint_slice in self.endpoint_slices:
            service = service_of(endpoint_slice)
            if service:
                slices[service].append(endpoint_slice)
        return slices

    @cached_property
    def endpoint_addresses(self) -> frozenset[Endpoint]:
        """Every address and port that any slice lists: dialled directly, they answer without any proxy."""
        return frozenset(every_endpoint(self.endpoint_slices))

    def node(self, name: str) -> NodeView:
        """The node of that name; ValueError says which nodes there are."""
        try:
            return self._nodes[name]
        except KeyError:
            known = ", ".join(sorted(self._nodes)) or "none"
            raise ValueError(f"there is no node {name!r}; the nodes are: {known}") from None

    def owner_of(self, address: str) -> NodeView | None:
        """The node that owns an address, if any."""
        return self._owners.get(address)

    def endpoints(self, port: ServicePort, family: Family) -> tuple[EndpointRecord, ...]:
        """The endpoints listed for a Service port in one family, ordered by address."""
        key = (port.namespace, port.service, port.name, port.protocol, family)
        if key not in self._records:
            slices = self._slices.get((port.namespace, port.service), ())
            self._records[key] = join(slices, port_name=port.name, protocol=port.protocol, family=family)
        return self._records[key]

    def is_on(self, record: EndpointRecord, node: NodeView) -> bool:
        """Whether an endpoint's packets pass this node on their way out.

        Addresses are the evidence; what a slice says counts only for addresses that belong to no known node.
        """
        address = record.endpoint.address
        if node.holds(address):
            return True
        return node.name in record.nodes and not any(other.holds(address) for other in self.nodes)

    def in_pod_network(self, address: str) -> bool:
        """Whether the address lies in some node's pod CIDR."""
        return any(node.holds(address) and address not in node.addresses for node in self.nodes)
