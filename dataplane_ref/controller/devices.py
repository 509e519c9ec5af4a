# SPDX-License-Identifier: Apache-2.0
"""What the node's interfaces and addresses mean to the datapath: `enum device_flag` and `enum address_flag`."""

from collections.abc import Iterable, Mapping
from typing import Literal

from dataplane_ref.controller.netlink import Interface, Interfaces
from dataplane_ref.controller.packed import MAPPED, network, within
from dataplane_ref.controller.settings import PRIMARY, Settings

ETHERNET = 1  # ARPHRD_ETHER
IP_TUNNELS = ("ipip", "sit", "gre", "gretap", "ip6gre", "ip6gretap", "ip6tnl", "erspan", "vti", "vti6")
TUNNELS = frozenset(("vxlan", "geneve", "bareudp", "wireguard", "xfrm", "tun", *IP_TUNNELS))
LINK_LOCAL = [network("169.254.0.0/16"), network("fe80::/10")]
LOOPBACK = [network("127.0.0.0/8"), network("::1")]

Hook = Literal["ingress", "egress", "xdp"]


def device_flags(
    seen: Interfaces, node_ips: Iterable[bytes], settings: Settings, flags: Mapping[str, int]
) -> dict[int, int]:
    """The value of `devices` for each interface that has one."""
    uplinks = uplink_indices(seen, node_ips)
    found = {}
    for index, link in seen.links.items():
        value = flags["UPLINK"] if index in uplinks else 0
        if link.kind == "veth" and link.has_far_peer and not link.master and not value:
            value |= flags["PEER_IS_POD"]
        if _leads_to_pods(link, seen, settings):
            value |= flags["TOWARDS_PODS"]
        if value:
            found[index] = value
    return found


def uplink_indices(seen: Interfaces, node_ips: Iterable[bytes]) -> set[int]:
    """Interfaces with an address that the API knows the node by, and tunnels to other nodes."""
    known = set(node_ips)
    uplinks = {index for index, address in seen.addresses if address in known}
    return uplinks | {index for index, link in seen.links.items() if link.kind in TUNNELS}


def hooks(seen: Interfaces, node_ips: Iterable[bytes], xdp: str) -> set[tuple[int, Hook]]:
    """Where programs belong: (ifindex, hook)."""
    found: set[tuple[int, Hook]] = set()
    uplinks = uplink_indices(seen, node_ips)
    for index, link in seen.links.items():
        if link.is_loopback:
            found.add((index, "egress"))
        elif link.type == ETHERNET:
            found |= {(index, "ingress"), (index, "egress")}
            is_wire = index in uplinks and link.kind not in TUNNELS
            # With XDP a veth loses its segmentation offload, which costs more than XDP gains there.
            if is_wire and (xdp in ("native", "generic") or (xdp == "auto" and link.kind == "")):
                found.add((index, "xdp"))
    return found


def address_flags(
    seen: Interfaces, node_ips: Iterable[bytes], settings: Settings, flags: Mapping[str, int]
) -> dict[bytes, int]:
    """The node's own addresses with their flags; loopback and link-local ones are nobody's business."""
    known = frozenset(node_ips)
    return {
        address: flags["ON_NODE"] | (flags["SERVES_NODE_PORTS"] if serves_node_ports(address, known, settings) else 0)
        for _, address in seen.addresses
        if not within(address, LINK_LOCAL) and not within(address, LOOPBACK)
    }


def serves_node_ports(address: bytes, node_ips: frozenset[bytes], settings: Settings) -> bool:
    """Whether node ports answer at one of the node's addresses, going by nodePortAddresses.

    Without any they answer at all; `primary` stands for those that the API knows; a family of which no range is
    given answers at all.
    """
    given = settings.node_port_addresses
    if PRIMARY in given:
        return address in node_ips
    ranges = [(network(each), ":" in each) for each in given]
    is_ipv6 = address[:12] != MAPPED
    own = [each for each, of_ipv6 in ranges if of_ipv6 == is_ipv6]
    return not own or within(address, own)


def serves_on_loopback(settings: Settings) -> bool:
    """Whether node ports answer on 127.0.0.0/8 of the node, to its own processes."""
    if not settings.localhost_node_ports or PRIMARY in settings.node_port_addresses:
        return False
    own = [network(each) for each in settings.node_port_addresses if ":" not in each]
    base, bits = LOOPBACK[0]
    return not own or any(within(base, [each]) or within(each[0], [(base, bits)]) for each in own)


def _leads_to_pods(link: Interface, seen: Interfaces, settings: Settings) -> bool:
    """Whether packets that come in here are pods'. To netfilter, a bridge's ports are the bridge."""
    bridge = seen.links.get(link.master)
    names = (link.name, bridge.name) if bridge else (link.name,)
    if settings.detect_local == "InterfaceNamePrefix":
        return any(name.startswith(settings.interface_name_prefix) for name in names)
    return settings.detect_local == "BridgeInterface" and settings.bridge_interface in names
