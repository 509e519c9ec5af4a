# SPDX-License-Identifier: Apache-2.0
"""Builds a lab's network from its plan. Runs inside the supervisor, in the lab's own namespaces.

Every neighbour is a permanent entry: the kernel's neighbour table is shared by all namespaces of the machine
(1,024 entries by default), and a lab that resolved addresses the ordinary way would overflow it without a word.
"""

from clusters.lab import rtnl
from clusters.lab.namespaces import NETNS, inside_network, netns, new_network
from clusters.lab.pod_network import build_pods
from clusters.lab.sysctls import FORWARDING, NO_LINK_LOCAL, SYSCTLS, WHERE_PER_NAMESPACE, set_sysctls
from clusters.lab.topology import LAN4, LAN6, SERVICES4, SERVICES6, VIPS4, HostPlan, LabPlan

LO, ETH0, BRIDGE, FIRST_PORT = 1, 2, 2, 100


def build(plan: LabPlan) -> None:
    """Create every namespace, link, address, route and neighbour of the plan."""
    NETNS.mkdir(parents=True, exist_ok=True)
    _build_lan(plan)
    build_pods(plan)


def _build_lan(plan: LabPlan) -> None:
    hosts = plan.hosts()
    set_sysctls({"net/ipv6/conf/default/addr_gen_mode": NO_LINK_LOCAL})
    # Frames on the LAN are the wire: they must not pass through the lab's own netfilter hooks.
    set_sysctls({f"net/bridge/bridge-nf-call-{family}tables": "0" for family in ("ip", "ip6")}, optional=True)
    with rtnl.Rtnl() as lan:
        lan.batch([rtnl.up(LO), *rtnl.bridge("lan", BRIDGE)])
        for number, host in enumerate(hosts):
            new_network(netns(host.name))
            with inside_network(netns(host.name)) as namespace:
                set_sysctls(SYSCTLS)
                set_sysctls(WHERE_PER_NAMESPACE, optional=True)
                if host is not plan.client:
                    set_sysctls(FORWARDING)
                inner = rtnl.Rtnl()
                port = rtnl.VethEnd(
                    f"port-{number}", FIRST_PORT + number, f"02:ff:00:00:{number >> 8:02x}:{number & 255:02x}"
                )
                lan.batch(rtnl.veth(port, rtnl.VethEnd("eth0", ETH0, host.mac), namespace, master=BRIDGE))
            with inner:
                inner.batch(_lan_end(plan, host))


def _lan_end(plan: LabPlan, host: HostPlan) -> list[rtnl.Message]:
    """Interfaces, routes and neighbours of one host on the LAN."""
    second = next((node for node in plan.nodes if node.host is host), None)
    messages = [
        rtnl.up(LO),
        # Of equal IPv6 addresses the kernel takes the one added last as a source, of IPv4 ones the first.
        *([rtnl.address(ETH0, second.second6, 128)] if second else ()),
        rtnl.address(ETH0, host.ipv4, LAN4.prefixlen),
        *([rtnl.address(ETH0, second.second4, 32)] if second else ()),
        rtnl.address(ETH0, host.ipv6, LAN6.prefixlen),
        rtnl.up(ETH0),
    ]
    for other in plan.hosts():
        if other is not host:
            messages += [rtnl.neighbour(ETH0, ip, other.mac) for ip in (other.ipv4, other.ipv6)]
    for node in plan.nodes:
        # Where nodes have a tunnel they use it; the router is not part of the overlay.
        if node.host is not host and host is not plan.client and (node.tunnel is None or host is plan.router):
            for cidr, gateway in ((node.pod_cidr4, node.host.ipv4), (node.pod_cidr6, node.host.ipv6)):
                messages.append(rtnl.route_to(cidr, ETH0, gateway=gateway))
    if host is plan.client:
        # The load balancer in front of the cluster: each node announces virtual IPs of its own.
        for node in plan.nodes:
            for cidr, gateway in ((node.vip_cidr4, node.host.ipv4), (node.vip_cidr6, node.host.ipv6)):
                messages.append(rtnl.route_to(cidr, ETH0, gateway=gateway))
    if host is plan.router:
        # Whatever no proxy translated arrives here, and a rule rejects it on its way to lo. Without a route the
        # kernel answers too, but only once a second and sender, by a limit that namespaces cannot lift
        # (net.ipv4.route.error_cost).
        messages += [rtnl.route_to(cidr, LO) for cidr in (SERVICES4, str(VIPS4))]
        for node in plan.nodes:
            messages += [
                rtnl.route_to(f"{node.second4}/32", ETH0, gateway=node.host.ipv4),
                rtnl.route_to(f"{node.second6}/128", ETH0, gateway=node.host.ipv6),
            ]
    else:
        messages += [rtnl.route(None, 0, ETH0, gateway=gateway) for gateway in (plan.router.ipv4, plan.router.ipv6)]
    if host is plan.client:
        # As where a router was told of the ClusterIPs: one node is the way to them.
        first = plan.nodes[0].host
        messages += [
            rtnl.route_to(SERVICES4, ETH0, gateway=first.ipv4),
            rtnl.route_to(SERVICES6, ETH0, gateway=first.ipv6),
        ]
    return messages
