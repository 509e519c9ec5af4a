# SPDX-License-Identifier: Apache-2.0
"""The lab's plan: which nodes and pods there are, their names, addresses and MACs. Pure data, no system calls.

The plan is made in pytest's process, sent to the supervisor as JSON, and carried out there.
"""

import string
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal, Self

LAN4, LAN6 = IPv4Network("172.18.0.0/16"), IPv6Network("fd00:172:18::/64")
# Every node has a second address on the same wire, of which the API knows nothing.
SECOND4, SECOND6 = IPv4Network("172.19.0.0/16"), IPv6Network("fd00:172:19::/64")
PODS4, PODS6 = IPv4Network("10.244.0.0/16"), IPv6Network("fd00:10:244::/48")
# Dense endpoints: 16,382 addresses per node in one namespace (see dense.py).
DENSE4, DENSE6 = IPv4Network("10.128.0.0/10"), IPv6Network("fd00:10:128::/48")
DENSE_PREFIX4 = 18
MAX_DENSE = 2 ** (32 - DENSE_PREFIX4) - 2
SERVICES4, SERVICES6 = "10.96.0.0/16", "fd00:10:96::/112"
# Virtual IPs of load balancers and external IPs: a /24 and a /64 for every node, which the external client reaches
# through that node. RFC 2544 and RFC 3849 set these ranges aside, so that they mean nothing anywhere else.
VIPS4, VIPS6 = IPv4Network("198.18.0.0/16"), IPv6Network("2001:db8:18::/48")
# Virtual IPs that no node has a range of: they are on the LAN's own link, where nobody knows who has them until one
# answers (ARP, NDP). An announcer's; the nodes' own addresses end far below.
ANNOUNCED4, ANNOUNCED6 = IPv4Network("172.18.200.0/24"), IPv6Network("fd00:172:18::c8:0/112")
# The pods' gateway, the same in every pod: the node end of the pod's own veth, known by a permanent neighbour.
GATEWAY4, GATEWAY6 = "169.254.1.1", "fe80::1"
# How the node ends of the pods' veth pairs are named (pod-1, pod-2, …), and a node's bridge where it has one.
POD_INTERFACES, POD_BRIDGE = "pod-", "cni0"
# The interface of every host on the LAN to it.
UPLINK = "eth0"
# `routed`: a link per pod, as Calico has it; `bridge` and `vxlan`: a bridge per node, as flannel has with its
# backends host-gw and vxlan (https://github.com/flannel-io/flannel/blob/master/Documentation/backends.md).
PodNetwork = Literal["routed", "bridge", "vxlan"]
POD_NETWORKS: tuple[PodNetwork, ...] = ("routed", "bridge", "vxlan")
MAX_NODES = 250
# At least a backend, a client and a scout: roles that must not fall on one pod.
MIN_PODS_PER_NODE, MAX_PODS_PER_NODE = 3, 200


@dataclass(frozen=True, slots=True)
class HostPlan:
    """A namespace on the LAN: a node, the router or the external client."""

    name: str
    ipv4: str
    ipv6: str
    mac: str


@dataclass(frozen=True, slots=True)
class PodPlan:
    """A pod: one namespace, joined to its node by a veth pair."""

    name: str
    ipv4: str
    ipv6: str
    mac: str
    node_mac: str


@dataclass(frozen=True, slots=True)
class PortPlan:
    """An interface of a node towards pods: its addresses and its MAC."""

    ipv4: str
    ipv6: str
    mac: str


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node: its place on the LAN, its pod CIDRs, the virtual IPs that lead to it from outside, and its pods.

    `bridge` is the pods' gateway where they share one, `tunnel` the end of the VXLAN where there is one.
    """

    host: HostPlan
    pod_cidr4: str
    pod_cidr6: str
    vip_cidr4: str
    vip_cidr6: str
    pods: tuple[PodPlan, ...] = field(default=())
    bridge: PortPlan | None = None
    tunnel: PortPlan | None = None
    second4: str = ""
    second6: str = ""
    zone: str = ""

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def inner_addresses(self) -> tuple[str, ...]:
        """Addresses of the node's own on interfaces towards pods: what it masquerades to on the way to them."""
        ports = [port for port in (self.bridge, self.tunnel) if port]
        return tuple(address for port in ports for address in (port.ipv4, port.ipv6))


@dataclass(frozen=True, slots=True)
class DensePlan:
    """A namespace on a node to which all addresses of a range are local."""

    name: str
    node: str
    cidr4: str
    cidr6: str
    mac: str
    node_mac: str

    def addresses(self, number: int) -> tuple[str, str]:
        """The IPv4 and IPv6 address of one of its endpoints, counted from 0 to MAX_DENSE - 1."""
        if not 0 <= number < MAX_DENSE:
            raise ValueError(f"a node has {MAX_DENSE} dense endpoints, and {number} is none of them")
        return str(IPv4Network(self.cidr4)[1 + number]), str(IPv6Network(self.cidr6)[1 + number])


@dataclass(frozen=True, slots=True)
class LabPlan:
    """Everything the supervisor builds."""

    router: HostPlan
    client: HostPlan
    nodes: tuple[NodePlan, ...]
    pod_network: PodNetwork = "routed"

    @classmethod
    def of(cls, nodes: int, pods_per_node: int, pod_network: PodNetwork = "routed") -> Self:
        """A plan with nodes `node-a`, `node-b`, … and pods `node-a.pod-1`, `node-a.pod-2`, …"""
        if not 1 <= nodes <= MAX_NODES:
            raise ValueError(f"a lab has 1 to {MAX_NODES} nodes, not {nodes}")
        if not MIN_PODS_PER_NODE <= pods_per_node <= MAX_PODS_PER_NODE:
            raise ValueError(f"a lab node has {MIN_PODS_PER_NODE} to {MAX_PODS_PER_NODE} pods, not {pods_per_node}")
        return cls(
            router=_host("router", 1),
            client=_host("client-ext", 2),
            nodes=tuple(_node(i, pods_per_node, pod_network) for i in range(nodes)),
            pod_network=pod_network,
        )

    def hosts(self) -> list[HostPlan]:
        """All namespaces on the LAN."""
        return [self.router, self.client, *(node.host for node in self.nodes)]

    def dense(self, name: str) -> DensePlan:
        """The dense range of a node. Raises ValueError for a node that there is not."""
        names = [node.name for node in self.nodes]
        if name not in names:
            raise ValueError(f"there is no node {name!r}; the lab has {', '.join(names)}")
        index = names.index(name)
        return DensePlan(
            name=f"{name}.dense",
            node=name,
            cidr4=str(IPv4Network((int(DENSE4.network_address) + (index << (32 - DENSE_PREFIX4)), DENSE_PREFIX4))),
            cidr6=str(IPv6Network((int(DENSE6.network_address) + (index << 64), 64))),
            mac=f"02:04:{index >> 8:02x}:{index & 255:02x}:00:02",
            node_mac=f"02:04:{index >> 8:02x}:{index & 255:02x}:00:01",
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(
            router=HostPlan(**data["router"]),
            client=HostPlan(**data["client"]),
            nodes=tuple(
                NodePlan(
                    host=HostPlan(**node["host"]),
                    pod_cidr4=node["pod_cidr4"],
                    pod_cidr6=node["pod_cidr6"],
                    vip_cidr4=node["vip_cidr4"],
                    vip_cidr6=node["vip_cidr6"],
                    pods=tuple(PodPlan(**pod) for pod in node["pods"]),
                    bridge=PortPlan(**node["bridge"]) if node["bridge"] else None,
                    tunnel=PortPlan(**node["tunnel"]) if node["tunnel"] else None,
                    second4=node["second4"],
                    second6=node["second6"],
                    zone=node["zone"],
                )
                for node in data["nodes"]
            ),
            pod_network=data["pod_network"],
        )


def _host(name: str, number: int) -> HostPlan:
    return HostPlan(name, str(LAN4[number]), str(LAN6[number]), f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}")


def _node(index: int, pods: int, pod_network: PodNetwork) -> NodePlan:
    # Each node has a /24 and a /64 of the pod ranges, as kubeadm's node CIDR allocation gives it.
    name = f"node-{_letters(index)}"
    cidr4 = IPv4Network((int(PODS4.network_address) + (index << 8), 24))
    cidr6 = IPv6Network((int(PODS6.network_address) + (index << 64), 64))
    # As flannel gives them: the first address of the range to the VXLAN interface, the second to the bridge.
    tunnel, bridge = (
        PortPlan(str(cidr4[n]), str(cidr6[n]), f"02:03:{index >> 8:02x}:{index & 255:02x}:00:{n:02x}") for n in (0, 1)
    )
    return NodePlan(
        host=_host(name, 10 + index),
        pod_cidr4=str(cidr4),
        pod_cidr6=str(cidr6),
        bridge=bridge if pod_network != "routed" else None,
        tunnel=tunnel if pod_network == "vxlan" else None,
        second4=str(SECOND4[10 + index]),
        second6=str(SECOND6[10 + index]),
        # Every other node in the same zone: one that is alone in its zone, and two that share one.
        zone=f"zone-{'ab'[index % 2]}",
        vip_cidr4=str(IPv4Network((int(VIPS4.network_address) + (index << 8), 24))),
        vip_cidr6=str(IPv6Network((int(VIPS6.network_address) + (index << 64), 64))),
        pods=tuple(
            PodPlan(
                name=f"{name}.pod-{n}",
                ipv4=str(cidr4[1 + n]),
                ipv6=str(cidr6[1 + n]),
                mac=f"02:01:{index >> 8:02x}:{index & 255:02x}:00:{n:02x}",
                node_mac=f"02:02:{index >> 8:02x}:{index & 255:02x}:00:{n:02x}",
            )
            for n in range(1, pods + 1)
        ),
    )


def _letters(index: int) -> str:
    """0 → a, 25 → z, 26 → aa: names that sort, read and fit DNS labels."""
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = string.ascii_lowercase[digit] + text
    return text
