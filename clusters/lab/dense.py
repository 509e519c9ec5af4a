# SPDX-License-Identifier: Apache-2.0
"""Dense mode: one namespace on a node serves thousands of endpoint addresses, for scale. Runs inside the supervisor.

A pod per endpoint costs a namespace, a link and a process's attention each. Here a whole range is local to one
namespace (an `ip route add local`, called AnyIP) and its node routes the range there by way of one neighbour, so that
sixteen thousand endpoints cost as much as one pod.
"""

from ipaddress import ip_network

from clusters.lab import rtnl
from clusters.lab.namespaces import inside_network, netns, new_network
from clusters.lab.sysctls import SYSCTLS, set_sysctls
from clusters.lab.topology import GATEWAY4, GATEWAY6, DensePlan, LabPlan

LO, ETH0, DENSE = 1, 2, 90
# The namespace's own end of the link, as its node knows it; no test uses these addresses.
INNER4, INNER6 = "169.254.1.2", "fe80::2"
# UDP answers leave from the address that was asked, which for IPv6 no interface has.
ANSWER_FROM_THE_RANGE = {"net/ipv6/ip_nonlocal_bind": "1"}


def build_dense(plan: LabPlan, dense: DensePlan) -> None:
    """Create the namespace of a node's dense range, and everybody's route to it."""
    new_network(netns(dense.name))
    with inside_network(netns(dense.name)) as namespace:
        set_sysctls(SYSCTLS | ANSWER_FROM_THE_RANGE)
        inner = rtnl.Rtnl()
        with inside_network(netns(dense.node)):
            outer = rtnl.Rtnl()
        near, far = rtnl.VethEnd("dense", DENSE, dense.node_mac), rtnl.VethEnd("eth0", ETH0, dense.mac)
        with outer:
            outer.batch([*rtnl.veth(near, far, namespace), *_node_end(dense)])
    with inner:
        inner.batch(_inner_end(dense))
    for host in plan.hosts():
        if host.name != dense.node and host is not plan.client:
            _route_to(plan, dense, host.name)


def _node_end(dense: DensePlan) -> list[rtnl.Message]:
    messages = []
    for cidr, inner in ((dense.cidr4, INNER4), (dense.cidr6, INNER6)):
        messages += [rtnl.neighbour(DENSE, inner, dense.mac), rtnl.route_to(cidr, DENSE, gateway=inner)]
    return messages


def _inner_end(dense: DensePlan) -> list[rtnl.Message]:
    messages = [rtnl.up(LO), rtnl.up(ETH0)]
    for cidr, gateway in ((dense.cidr4, GATEWAY4), (dense.cidr6, GATEWAY6)):
        network = ip_network(cidr)
        messages.append(rtnl.local_range(str(network.network_address), network.prefixlen, LO))
        messages.append(rtnl.neighbour(ETH0, gateway, dense.node_mac))
        messages.append(rtnl.route(None, 0, ETH0, gateway=gateway))
    return messages


def _route_to(plan: LabPlan, dense: DensePlan, name: str) -> None:
    node = next(node for node in plan.nodes if node.name == dense.node)
    with inside_network(netns(name)):
        outer = rtnl.Rtnl()
    with outer:
        ways = ((dense.cidr4, node.host.ipv4), (dense.cidr6, node.host.ipv6))
        outer.batch([rtnl.route_to(cidr, ETH0, gateway=gateway) for cidr, gateway in ways])
