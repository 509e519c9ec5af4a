# SPDX-License-Identifier: Apache-2.0
"""The nodes of a cluster without a packet, from the lab's plan."""

from clusters.api import Backend, Node, Vantage, VantageKind
from clusters.lab.topology import UPLINK, HostPlan, NodePlan, PodPlan

POOL_PORTS = (8080, 8081, 8082)


def vantage_of(plan: HostPlan | PodPlan, kind: VantageKind, node: str | None) -> Vantage:
    return Vantage(plan.name, kind, node, {"IPv4": plan.ipv4, "IPv6": plan.ipv6}, plan.name)


def backend_of(node: NodePlan, plan: HostPlan | PodPlan) -> Backend:
    vantage = vantage_of(plan, "node" if plan is node.host else "pod", node.name)
    return Backend(plan.name, node.name, vantage.addresses, POOL_PORTS, vantage)


def node_of(plan: NodePlan) -> Node:
    """Roles as in the lab: the last pod is the scout, the one before it the client, the rest are backends."""
    pods = [backend_of(plan, pod) for pod in plan.pods]
    host = backend_of(plan, plan.host)
    return Node(
        name=plan.name,
        addresses=host.addresses,
        pod_cidrs=(plan.pod_cidr4, plan.pod_cidr6),
        vantage=host.vantage,
        backends=tuple(pods[:-2] or pods[:1]),
        client=pods[-2 if len(pods) > 1 else -1].vantage,
        scout=pods[-1],
        host_backend=host,
        second_addresses={"IPv4": plan.second4, "IPv6": plan.second6},
        vip_cidrs=(plan.vip_cidr4, plan.vip_cidr6),
        zone=plan.zone,
        uplink=UPLINK,
    )


def addresses_of(node: Node) -> frozenset[str]:
    """All addresses of the node itself."""
    return frozenset({*node.addresses.values(), *node.second_addresses.values()})


def pool_of(node: Node) -> tuple[Backend, ...]:
    """All that a Service can be given of a node."""
    return (*node.backends, node.scout, node.host_backend)
