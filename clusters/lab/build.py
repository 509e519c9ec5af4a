# SPDX-License-Identifier: Apache-2.0
"""Builds a lab's network from its plan. Runs inside the supervisor, in the lab's own namespaces.

Every neighbour is a permanent entry: the kernel's neighbour table is shared by all namespaces of the machine
(1,024 entries by default), and a lab that resolved addresses the ordinary way would overflow it without a word.
"""

from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

from clusters.lab import rtnl
from clusters.lab.namespaces import inside_network, new_network
from clusters.lab.topology import (
    GATEWAY4,
    GATEWAY6,
    LAN4,
    LAN6,
    POD_INTERFACES,
    SERVICES4,
    SERVICES6,
    HostPlan,
    LabPlan,
    NodePlan,
    PodPlan,
)

NETNS = Path("/run/netns")
LO, ETH0, BRIDGE, FIRST_PORT, FIRST_VETH = 1, 2, 2, 100, 100

# Without a link-local address an interface sends no router solicitations and no MLD reports, so that a capture
# holds only what a test sent.
NO_LINK_LOCAL = "1"

# Everywhere: answer every refused probe (no ICMP rate limits), trust no reverse path, no router solicitation.
SYSCTLS = {
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv4/icmp_ratemask": "0",
    "net/ipv6/icmp/ratelimit": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/addr_gen_mode": NO_LINK_LOCAL,
    "net/ipv4/ip_local_port_range": "20000 60999",
}
FORWARDING = {
    "net/ipv4/ip_forward": "1",
    # A router on one wire would tell everybody the shorter way: packets that no test sent.
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
}
# Limits that are one counter for the machine on older kernels and one per namespace on newer ones.
WHERE_PER_NAMESPACE = {"net/ipv4/icmp_msgs_per_sec": "1000000", "net/ipv4/icmp_msgs_burst": "10000"}


def netns(name: str) -> Path:
    """Where the namespace of a node, pod, router or client is bound."""
    return NETNS / name


def build(plan: LabPlan) -> None:
    """Create every namespace, link, address, route and neighbour of the plan."""
    NETNS.mkdir(parents=True, exist_ok=True)
    _build_lan(plan)
    for node in plan.nodes:
        _build_pods(node)


def _build_lan(plan: LabPlan) -> None:
    hosts = plan.hosts()
    _sysctl({"net/ipv6/conf/default/addr_gen_mode": NO_LINK_LOCAL})
    # Frames on the LAN are the wire: they must not pass through the lab's own netfilter hooks.
    _sysctl({f"net/bridge/bridge-nf-call-{family}tables": "0" for family in ("ip", "ip6")}, optional=True)
    with rtnl.Rtnl() as lan:
        lan.batch([rtnl.up(LO), *rtnl.bridge("lan", BRIDGE)])
        for number, host in enumerate(hosts):
            new_network(netns(host.name))
            with inside_network(netns(host.name)) as namespace:
                _sysctl(SYSCTLS)
                _sysctl(WHERE_PER_NAMESPACE, optional=True)
                if host is not plan.client:
                    _sysctl(FORWARDING)
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
        if node.host is not host and host is not plan.client:
            for cidr, gateway in ((node.pod_cidr4, node.host.ipv4), (node.pod_cidr6, node.host.ipv6)):
                network = ip_network(cidr)
                messages.append(rtnl.route(str(network.network_address), network.prefixlen, ETH0, gateway=gateway))
    if host is plan.router:
        # Whatever no proxy translated arrives here, and a rule rejects it on its way to lo. Without a route the
        # kernel answers too, but only once a second and sender, by a limit that namespaces cannot lift
        # (net.ipv4.route.error_cost).
        network = ip_network(SERVICES4)
        messages.append(rtnl.route(str(network.network_address), network.prefixlen, LO))
        messages += [
            rtnl.route(second, prefix, ETH0, gateway=gateway)
            for node in plan.nodes
            for second, prefix, gateway in ((node.second4, 32, node.host.ipv4), (node.second6, 128, node.host.ipv6))
        ]
    else:
        messages += [rtnl.route(None, 0, ETH0, gateway=gateway) for gateway in (plan.router.ipv4, plan.router.ipv6)]
    if host is plan.client:
        # As where a router was told of the ClusterIPs: one node is the way to them.
        first = plan.nodes[0].host
        for cidr, gateway in ((SERVICES4, first.ipv4), (SERVICES6, first.ipv6)):
            services = ip_network(cidr)
            messages.append(rtnl.route(str(services.network_address), services.prefixlen, ETH0, gateway=gateway))
    return messages


def _build_pods(node: NodePlan) -> None:
    with inside_network(netns(node.name)):
        outer = rtnl.Rtnl()
    with outer:
        for number, pod in enumerate(node.pods):
            new_network(netns(pod.name))
            index = FIRST_VETH + number
            with inside_network(netns(pod.name)) as namespace:
                _sysctl(SYSCTLS)
                inner = rtnl.Rtnl()
                near = rtnl.VethEnd(f"{POD_INTERFACES}{number + 1}", index, pod.node_mac)
                outer.batch(
                    [
                        *rtnl.veth(near, rtnl.VethEnd("eth0", ETH0, pod.mac), namespace),
                        rtnl.neighbour(index, pod.ipv4, pod.mac),
                        rtnl.neighbour(index, pod.ipv6, pod.mac),
                        rtnl.route(pod.ipv4, 32, index, source=node.host.ipv4),
                        rtnl.route(pod.ipv6, 128, index, source=node.host.ipv6),
                    ]
                )
            with inner:
                inner.batch(_pod_end(pod))


def _pod_end(pod: PodPlan) -> list[rtnl.Message]:
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


def _sysctl(values: dict[str, str], *, optional: bool = False) -> None:
    """Write sysctls of the namespace the caller is in."""
    for name, value in values.items():
        with suppress(*((OSError,) if optional else ())):
            Path("/proc/sys", name).write_text(value, encoding="ascii")
