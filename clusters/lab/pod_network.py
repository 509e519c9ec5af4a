# SPDX-License-Identifier: Apache-2.0
"""Pods and the network between them, in three ways; runs inside the supervisor.

* `routed`: each pod has a link of its own to its node and every packet between pods is routed, as with Calico.
* `bridge`: the pods of a node share a bridge, so that packets between them pass netfilter only because
  bridge-nf-call-iptables has them do so; nodes route to each other's pods over the LAN, as with flannel's host-gw.
* `vxlan`: bridges as before, and between nodes a VXLAN without learning, as with flannel's vxlan.
"""

from ipaddress import ip_network

from clusters.lab import rtnl
from clusters.lab.namespaces import inside_network, netns, new_network
from clusters.lab.sysctls import SYSCTLS, set_sysctls
from clusters.lab.topology import (
    GATEWAY4,
    GATEWAY6,
    POD_BRIDGE,
    POD_INTERFACES,
    LabPlan,
    NodePlan,
    PodPlan,
    PortPlan,
)

LO, ETH0, CNI0, FLANNEL, FIRST_VETH = 1, 2, 50, 51, 100
VXLAN_NUMBER, VXLAN_PORT = 1, 8472
# 50 bytes for the outer Ethernet (14), IPv4 (20), UDP (8) and VXLAN (8) headers.
VXLAN_MTU = 1450
# What every Kubernetes installation asks for where pods share a bridge: a reply between two of them would otherwise
# never be translated back.
BRIDGED_PACKETS_ARE_FILTERED = {f"net/bridge/bridge-nf-call-{family}tables": "1" for family in ("ip", "ip6")}


def build_pods(plan: LabPlan) -> None:
    """Create the pods of every node, and the nodes' part of the network between them."""
    for node in plan.nodes:
        with inside_network(netns(node.name)):
            if node.bridge:
                set_sysctls(BRIDGED_PACKETS_ARE_FILTERED)
            outer = rtnl.Rtnl()
        with outer:
            if node.bridge:
                outer.batch(_bridge(node, node.bridge))
            if node.tunnel:
                outer.batch(_tunnel(plan, node, node.tunnel))
            for number, pod in enumerate(node.pods):
                _build_pod(node, pod, FIRST_VETH + number, outer)


def _build_pod(node: NodePlan, pod: PodPlan, index: int, outer: rtnl.Rtnl) -> None:
    new_network(netns(pod.name))
    with inside_network(netns(pod.name)) as namespace:
        set_sysctls(SYSCTLS)
        inner = rtnl.Rtnl()
        name = f"{POD_INTERFACES}{index - FIRST_VETH + 1}"
        near, far = rtnl.VethEnd(name, index, pod.node_mac), rtnl.VethEnd("eth0", ETH0, pod.mac)
        if node.bridge:
            link = rtnl.veth(near, far, namespace, master=CNI0, mtu=_mtu(node))
            outer.batch([*link, rtnl.hairpin(index), *_known(CNI0, pod)])
        else:
            outer.batch([*rtnl.veth(near, far, namespace), *_known(index, pod), *_routes_to(node, pod, index)])
    with inner:
        inner.batch(_behind_bridge(node, pod, node.bridge) if node.bridge else _behind_link(pod))


def _known(index: int, pod: PodPlan) -> list[rtnl.Message]:
    """Where its neighbours find a pod."""
    return [rtnl.neighbour(index, ip, pod.mac) for ip in (pod.ipv4, pod.ipv6)]


# A link per pod.


def _routes_to(node: NodePlan, pod: PodPlan, index: int) -> list[rtnl.Message]:
    return [
        rtnl.route(pod.ipv4, 32, index, source=node.host.ipv4),
        rtnl.route(pod.ipv6, 128, index, source=node.host.ipv6),
    ]


def _behind_link(pod: PodPlan) -> list[rtnl.Message]:
    return [
        rtnl.up(LO),
        rtnl.address(ETH0, pod.ipv4, 32),
        rtnl.address(ETH0, pod.ipv6, 128),
        rtnl.up(ETH0),
        rtnl.neighbour(ETH0, GATEWAY4, pod.node_mac),
        rtnl.neighbour(ETH0, GATEWAY6, pod.node_mac),
        rtnl.route(None, 0, ETH0, gateway=GATEWAY4),
        rtnl.route(None, 0, ETH0, gateway=GATEWAY6),
    ]


# A bridge per node.


def _bridge(node: NodePlan, bridge: PortPlan) -> list[rtnl.Message]:
    return [
        *rtnl.bridge(POD_BRIDGE, CNI0, bridge.mac, mtu=_mtu(node)),
        rtnl.address(CNI0, bridge.ipv4, ip_network(node.pod_cidr4).prefixlen),
        rtnl.address(CNI0, bridge.ipv6, ip_network(node.pod_cidr6).prefixlen),
    ]


def _behind_bridge(node: NodePlan, pod: PodPlan, bridge: PortPlan) -> list[rtnl.Message]:
    messages = [
        rtnl.up(LO),
        rtnl.address(ETH0, pod.ipv4, ip_network(node.pod_cidr4).prefixlen),
        rtnl.address(ETH0, pod.ipv6, ip_network(node.pod_cidr6).prefixlen),
        rtnl.up(ETH0),
    ]
    for ip in (bridge.ipv4, bridge.ipv6):
        messages += [rtnl.neighbour(ETH0, ip, bridge.mac), rtnl.route(None, 0, ETH0, gateway=ip)]
    for other in node.pods:
        if other is not pod:
            messages += _known(ETH0, other)
    return messages


def _mtu(node: NodePlan) -> int | None:
    return VXLAN_MTU if node.tunnel else None


# A VXLAN between nodes.


def _tunnel(plan: LabPlan, node: NodePlan, tunnel: PortPlan) -> list[rtnl.Message]:
    end = rtnl.VethEnd("flannel.1", FLANNEL, tunnel.mac)
    messages = [
        *rtnl.vxlan(end, number=VXLAN_NUMBER, port=VXLAN_PORT, over=ETH0, local=node.host.ipv4, mtu=VXLAN_MTU),
        rtnl.address(FLANNEL, tunnel.ipv4, 32),
        rtnl.address(FLANNEL, tunnel.ipv6, 128),
    ]
    for other in plan.nodes:
        if other is not node and other.tunnel:
            messages.append(rtnl.forwarding(FLANNEL, other.tunnel.mac, other.host.ipv4))
            for ip, cidr in ((other.tunnel.ipv4, other.pod_cidr4), (other.tunnel.ipv6, other.pod_cidr6)):
                messages.append(rtnl.neighbour(FLANNEL, ip, other.tunnel.mac))
                messages.append(rtnl.route_to(cidr, FLANNEL, gateway=ip))
    return messages
