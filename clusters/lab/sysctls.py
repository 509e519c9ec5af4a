# SPDX-License-Identifier: Apache-2.0
"""How the lab sets the kernel up in each of its network namespaces."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

# Without a link-local address an interface sends no router solicitations and no MLD reports, so that a capture
# holds only what a test sent.
NO_LINK_LOCAL = "1"

# Everywhere: answer every refused probe (no ICMP rate limits), trust no reverse path, no router solicitation, no
# redirects (a node that hands on to the router what it did not translate would teach them to the client). Source
# ports stay clear of node ports, as in the kernel's usual range: where the two meet, a proxy cannot listen for health
# checks, and packets of a connection that conntrack does not know yet may be taken for a client's.
SYSCTLS = {
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv4/icmp_ratemask": "0",
    "net/ipv6/icmp/ratelimit": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    "net/ipv4/conf/all/accept_redirects": "0",
    "net/ipv4/conf/default/accept_redirects": "0",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/addr_gen_mode": NO_LINK_LOCAL,
    "net/ipv4/ip_local_port_range": "20000 60999",
    "net/ipv4/ip_local_reserved_ports": "30000-32767",
}
FORWARDING = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
}
# Limits that are one counter for the machine on older kernels and one per namespace on newer ones.
WHERE_PER_NAMESPACE = {"net/ipv4/icmp_msgs_per_sec": "1000000", "net/ipv4/icmp_msgs_burst": "10000"}


def set_sysctls(values: Mapping[str, str], *, optional: bool = False) -> None:
    """Write sysctls of the namespace the caller is in."""
    for name, value in values.items():
        with suppress(*((OSError,) if optional else ())):
            Path("/proc/sys", name).write_text(value, encoding="ascii")
