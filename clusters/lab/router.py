# SPDX-License-Identifier: Apache-2.0
"""What no proxy translated ends at the router (see build.py), and is told so at once."""

from clusters.lab.topology import SERVICES4, SERVICES6, VIPS4, VIPS6

NFTABLES = f"""table inet plumbline {{
  chain forward {{
    type filter hook forward priority 0;
    ip daddr {{ {SERVICES4}, {VIPS4} }} reject with icmp type net-unreachable
    ip6 daddr {{ {SERVICES6}, {VIPS6} }} reject with icmpv6 type no-route
  }}
}}"""


def _legacy(ranges: tuple[str, ...], answer: str) -> str:
    rules = "\n".join(f"-A FORWARD -d {one} -j REJECT --reject-with {answer}" for one in ranges)
    return f"*filter\n{rules}\nCOMMIT"


# By nft, or by legacy iptables where the kernel has no nf_tables for both families in one.
SCRIPT = f"""
nft -f - 2>/dev/null <<'END' && exit
{NFTABLES}
END
iptables-legacy-restore <<'END' && ip6tables-legacy-restore <<'END6'
{_legacy((SERVICES4, str(VIPS4)), "icmp-net-unreachable")}
END
{_legacy((SERVICES6, str(VIPS6)), "icmp6-no-route")}
END6
"""
