# SPDX-License-Identifier: Apache-2.0
"""Whom the endpoint sees: the client as the deciding node sees it, and the masquerade table.

| client → frontend | Cluster policy | Local policy |
|---|---|---|
| pod → ClusterIP, another pod answers | the pod | the pod |
| pod → ClusterIP, the pod itself answers (hairpin) | the node | the node |
| source that is no pod → ClusterIP, with a local detector | the node | the node |
| anyone → ClusterIP with masqueradeAll | the node | the node |
| node process → ClusterIP | the node | the node |
| outside → node port, externalIP, load-balancer IP | the node | the client |
| pod → the same, on the pod's own node | the node | the pod (policy does not apply) |
| node process → the same, on its own node | the node | the node (policy does not apply) |

"The node" is the node that translates, and any address of it: which one is the kernel's choice by route.
Ports are never promised where a source is masqueraded. An endpoint on the translating node's own host network may see
the client where others see the node: packets that stay on the node never pass the point where sources are rewritten,
and no documentation says what such an endpoint sees. A client on another node than the one that
translates is like one from outside.

Sources: https://kubernetes.io/docs/tutorials/services/source-ip/ and
https://kubernetes.io/docs/reference/networking/virtual-ips/.
"""

from dataclasses import dataclass
from typing import Literal

from dataplane_ref.model.addresses import Family, family_of, of_family, version_of, within
from dataplane_ref.model.endpoints import EndpointRecord
from dataplane_ref.model.flow import Flow, FromNode, FromPod
from dataplane_ref.model.frontends import FrontendKind
from dataplane_ref.model.state import ClusterState, NodeView, ProxyConfig


@dataclass(frozen=True)
class SourceRule:
    """Which client address an endpoint may see. Its port is never promised.

    `kind` is `client` (the source the packets arrived with), `node` (an address of a node) or `any` (no
    promise, `allowed` is empty); `why` says in a phrase what decided it.
    """

    kind: Literal["client", "node", "any"]
    allowed: frozenset[str]
    why: str

    def allows(self, address: str) -> bool:
        """Whether the endpoint may see this client address (canonical spelling)."""
        return self.kind == "any" or address in self.allowed

    def __str__(self) -> str:
        seen = "any address" if self.kind == "any" else " or ".join(sorted(self.allowed))
        return f"{seen} ({self.why})"


@dataclass(frozen=True)
class Client:
    """The client as the deciding node sees it.

    `address` is the source that the proxy's rules match, `own` the addresses an endpoint may see
    unmasqueraded, `egress` those that may replace them on the way out of the pod network. `process` says
    that it is a process of the deciding node, `here` that its packets originate on that node (a process or
    a pod).
    """

    address: str
    own: frozenset[str]
    here: bool
    process: bool
    egress: frozenset[str] = frozenset()


def clients(state: ClusterState, flow: Flow, node: NodeView, family: Family) -> list[Client]:
    """The client as `node` may see it: one, or several where a pod or outside client has several addresses.

    Raises ValueError where the client has no address of the family, because such a flow cannot be opened.
    """
    entry = flow.entry
    here = isinstance(entry, FromNode | FromPod) and entry.node == node.name
    if isinstance(entry, FromNode):
        owned = state.node(entry.node).addresses_of(family)
        _need(owned, flow, family)
        # The kernel chooses the source by route: towards the LAN that is the primary address.
        return [Client(owned[0], frozenset(owned), here=here, process=here)]
    own = of_family(entry.addresses, family)
    _need(own, flow, family)
    if isinstance(entry, FromPod):
        egress = frozenset(of_family(entry.egress_addresses, family))
        if egress and not here:
            return [Client(min(egress), egress, here=False, process=False)]
        return [Client(address, frozenset({address}), here, process=False, egress=egress) for address in own]
    return [Client(address, frozenset({address}), here=False, process=False) for address in own]


def has_detector(config: ProxyConfig, node: NodeView, family: Family) -> bool:
    """Whether the proxy on a node can tell pods' traffic of this family from other traffic at all."""
    if config.detect_local in ("BridgeInterface", "InterfaceNamePrefix"):
        return True
    ranges = config.cluster_networks if config.detect_local == "ClusterCIDR" else node.pod_networks
    return any(network.version == version_of(family) for network in ranges)


def is_local_source(config: ProxyConfig, node: NodeView, client: Client) -> bool:
    """Whether the local detector of a node takes this client for a pod.

    ClusterCIDR takes the pods of all nodes for local ones, the other detectors only those of the node itself.
    https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/ (detectLocalMode).
    """
    if config.detect_local in ("BridgeInterface", "InterfaceNamePrefix"):
        return client.here and not client.process
    ranges = config.cluster_networks if config.detect_local == "ClusterCIDR" else node.pod_networks
    return within(client.address, ranges)


def masquerade_reason(
    config: ProxyConfig,
    kind: FrontendKind,
    node: NodeView,
    client: Client,
    family: Family,
    *,
    keeps_source: bool,
) -> str | None:
    """Why the flow is masqueraded to the deciding node's address whoever answers; None where it is not.

    `keeps_source` says that an external frontend's Local policy applies, or would but for an exemption; it means
    nothing at a ClusterIP. Hairpin flows are masqueraded besides, see `source_rule`.
    """
    if kind is not FrontendKind.CLUSTER_IP:
        if client.process:
            return "a process of the node: masqueraded to the node's address"
        return None if keeps_source else "Cluster policy: masqueraded to the node's address"
    if config.masquerade_all:
        return "masqueradeAll: masqueraded to the node's address"
    if is_local_source(config, node, client) or not has_detector(config, node, family):
        return None
    return "not from a pod: masqueraded to the node's address"


def source_rule(
    state: ClusterState, node: NodeView, client: Client, record: EndpointRecord, masqueraded: str | None
) -> SourceRule:
    """The rule for one endpoint, given why (or that not) all flows of this kind are masqueraded."""
    address = record.endpoint.address
    node_addresses = frozenset(node.addresses_of(family_of(address)))
    if masqueraded and address in node.addresses and not client.process:
        return SourceRule("client", node_addresses | client.own, f"{masqueraded}, or not, at the node's own process")
    if masqueraded:
        return SourceRule("node", node_addresses, masqueraded)
    if client.process:
        return SourceRule("node", node_addresses, "a process of the node")
    if address in client.own:
        return SourceRule("node", node_addresses, "hairpin: masqueraded to the node's address")
    if client.egress and not node.holds(address) and not state.in_pod_network(address):
        return SourceRule("client", client.own | client.egress, "not masqueraded, unless by the pod network")
    return SourceRule("client", client.own, "the client's own address: not masqueraded")


def _need(addresses: tuple[str, ...], flow: Flow, family: Family) -> None:
    if not addresses:
        raise ValueError(f"{flow} cannot be opened: the client has no {family} address")
