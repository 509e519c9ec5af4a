# SPDX-License-Identifier: Apache-2.0
"""What this kernel can do for a Service dataplane: tried for real, in a network namespace of its own.

The rules are of the kinds that kube-proxy writes (pkg/proxy/{iptables,nftables,ipvs} in Kubernetes), and the BPF is
of the kinds that the reference datapath loads. Those of one program are loaded together; only when that fails is
each loaded alone, so that what is missing is named.
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from clusters.patience import patient

TRY_SECONDS = patient(20.0)
DEFAULT_SCHEDULER = "rr"
TOP = Path(__file__).resolve().parents[1]


class NoNamespaceError(Exception):
    """No network namespace could be made; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One ability: its name as its users know it, the kernel option that gives it, and what needs it.

    `program` reads `body`: a shell command for sh; the name of a trial for bpf (`clusters/bpf.py`), of a scheduler
    for ipvs (`clusters/ipvs.py`); for the others one rule, whose table or chain is `place`.
    """

    name: str
    option: str
    program: str
    body: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Lack:
    """An ability that is missing, and what the program said first about it."""

    feature: Feature
    said: str

    def __str__(self) -> str:
        said = f"; {self.said.rstrip('.')}" if self.said else ""
        return f"{self.feature.name} ({self.feature.option}{said})"


def lacks(
    mode: str,
    path: str,
    *,
    rootless: bool = False,
    backend: str | None = None,
    pod_network: str = "routed",
    scheduler: str = DEFAULT_SCHEDULER,
) -> list[Lack]:
    """What `mode` needs and this kernel, with the tools on `path`, cannot do. Raises NoNamespaceError.

    A command, or none, is asked only for what the lab itself needs. `rootless`: tried in a user
    namespace, as an ordinary user's lab is. `backend`: iptables' own, `nft` or `legacy`, not the machine's choice.
    `scheduler`: the one that IPVS must have.
    """
    groups = [
        list(group)
        for _, group in groupby(_features(mode, backend, pod_network, scheduler), key=lambda feature: feature.program)
    ]
    found: list[Lack] = []
    for group, said in zip(groups, _try(groups, path, rootless), strict=True):
        if said is None:
            continue
        alone = zip(group, _try([[feature] for feature in group], path, rootless), strict=True)
        missing = [Lack(feature, reason) for feature, reason in alone if reason is not None]
        everything = Feature(f"all of {group[0].program}'s rules together", "unknown option", "", "")
        found += missing or [Lack(everything, said)]
    return found


def lacks_ip_vs(path: str, *, rootless: bool = False) -> list[str]:
    """The names of what only IPVS mode needs and this kernel has not. Raises NoNamespaceError."""
    wanted = [feature for feature in _IPVS if feature.program == "sh" and "ipset" not in feature.body]
    said = _try([[feature] for feature in wanted], path, rootless)
    return [feature.name for feature, reason in zip(wanted, said, strict=True) if reason is not None]


def _features(
    mode: str, backend: str | None = None, pod_network: str = "routed", scheduler: str = DEFAULT_SCHEDULER
) -> list[Feature]:
    features = [*_LINKS, *_POD_NETWORKS[pod_network]]
    if mode in ("iptables", "ipvs"):
        restore = f"{backend}-restore" if backend else "restore"
        features += [
            *_iptables(f"iptables-{restore}", "127.0.0.1:80"),
            *_iptables(f"ip6tables-{restore}", "[::1]:80"),
        ]
    if mode == "nftables":
        features += _NFTABLES
    if mode == "ipvs":
        features += [
            *_IPVS,
            _scheduler(scheduler),
            *_matches_of_ipvs(f"iptables-{backend}" if backend else "iptables"),
        ]
    if mode == "ebpf":
        features += _BPF
    if mode in ("iptables", "ipvs", "nftables"):
        features.append(_CONNTRACK)
    return features


def _try(groups: Sequence[Sequence[Feature]], path: str, rootless: bool = False) -> list[str | None]:
    """Per group None if it worked, else the error. All of them share one fresh network namespace."""
    # An ordinary user may not take the machine's xtables lock, nor has anybody here to wait for it.
    steps = ["mount -t tmpfs plumbline /run || exit"]
    steps += [f"said=$({{ {_script(group)}\n}} 2>&1); {_TELL}" for group in groups]
    namespaces = ["--user", "--map-root-user"] if rootless else []
    try:
        done = subprocess.run(
            ["unshare", *namespaces, "--net", "--mount", "sh", "-s"],
            input="\n".join(steps),
            env={"PATH": path, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=TRY_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoNamespaceError(f"unshare does not run: {error}") from error
    lines = done.stdout.splitlines()
    if len(lines) != len(groups):
        raise NoNamespaceError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    return [None if line == "0" else line.partition(" ")[2].strip() for line in lines]


# One line per step: its exit status, and after a failure the first line of its output, where every one of
# these programs puts the error.
_TELL = """s=$?; [ $s = 0 ] && echo 0 || echo "$s $(printf '%s\\n' "$said" | head -n 1)\""""


def _script(group: Sequence[Feature]) -> str:
    """What loads a group in one call of its program; every group's program is one and the same."""
    program = group[0].program
    if program == "sh":
        return " && ".join(feature.body for feature in group)
    if program in ("bpf", "ipvs"):
        trials = " ".join(feature.body for feature in group)
        python = f"PYTHONPATH={shlex.quote(str(TOP))} {shlex.quote(sys.executable)} -S -P"
        return f"{python} -m clusters.{program} {trials}"
    if program == "nft":
        families = "\n".join(_nft_table(family, group) for family in ("ip", "ip6"))
        return f"nft -f - <<'END'\n{families}\nEND"
    tables = [f"*{table}\n{_rules(group, table, '-A')}\nCOMMIT" for table in sorted({f.place for f in group})]
    return f"{program} -w 5 <<'END'\n{chr(10).join(tables)}\nEND"


def _rules(group: Sequence[Feature], place: str, prefix: str) -> str:
    return "\n".join(f"{prefix} {feature.body}".lstrip() for feature in group if feature.place == place)


def _nft_table(family: str, group: Sequence[Feature]) -> str:
    """The group in nft's own syntax, https://wiki.nftables.org/; @IP and @LO stand for the family's own."""
    chains = "\n".join(
        f"chain {place} {{\n type {hook}\n{rules}\n}}"
        for place, hook in _NFT_HOOKS.items()
        if (rules := _rules(group, place, ""))
    )
    address, lo = ("ipv4_addr", "127.0.0.1") if family == "ip" else ("ipv6_addr", "::1")
    clients = f"set clients {{\n type {address}\n flags dynamic,timeout\n timeout 10s\n}}"
    used = clients if "@clients" in chains else ""
    return f"table {family} plumbline {{\n{used}\n{chains.replace('@IP', family).replace('@LO', lo)}\n}}"


def _iptables(program: str, target: str) -> list[Feature]:
    family = "IPv6 " if program.startswith("ip6") else "IPv4 "
    nat = [
        ("match comment", "CONFIG_NETFILTER_XT_MATCH_COMMENT", "PREROUTING -m comment --comment x"),
        ("match statistic", "CONFIG_NETFILTER_XT_MATCH_STATISTIC", _STATISTIC),
        ("match mark", "CONFIG_NETFILTER_XT_MARK", "PREROUTING -m mark --mark 0x4000/0x4000"),
        ("target MARK", "CONFIG_NETFILTER_XT_MARK", "PREROUTING -j MARK --or-mark 0x4000"),
        ("match addrtype", "CONFIG_NETFILTER_XT_MATCH_ADDRTYPE", "PREROUTING -m addrtype --dst-type LOCAL"),
        ("match recent", "CONFIG_NETFILTER_XT_MATCH_RECENT", _RECENT),
        ("match sctp", "CONFIG_NETFILTER_XT_MATCH_SCTP", "PREROUTING -p sctp -m sctp --dport 80"),
        ("target DNAT", "CONFIG_NETFILTER_XT_NAT", f"PREROUTING -p tcp -j DNAT --to-destination {target}"),
        (
            "target MASQUERADE",
            "CONFIG_NETFILTER_XT_TARGET_MASQUERADE",
            _MASQUERADE,
        ),
    ]
    reject = "CONFIG_IP6_NF_TARGET_REJECT" if family == "IPv6 " else "CONFIG_IP_NF_TARGET_REJECT"
    filters = [
        ("match conntrack", "CONFIG_NETFILTER_XT_MATCH_CONNTRACK", "FORWARD -m conntrack --ctstate INVALID"),
        ("target REJECT", reject, "FORWARD -j REJECT"),
    ]
    return [
        Feature(f"the {family}iptables {name}", option, program, rule, table)
        for table, rules in (("nat", nat), ("filter", filters))
        for name, option, rule in rules
    ]


_MASQUERADE = "POSTROUTING -j MASQUERADE --random-fully"
_STATISTIC = "PREROUTING -m statistic --mode random --probability 0.5"
_RECENT = "PREROUTING -m recent --name x --rcheck --seconds 10 --reap"

_LINKS = (
    Feature("veth links", "CONFIG_VETH", "sh", "ip link add plumbline0 type veth peer name plumbline1"),
    Feature("bridges", "CONFIG_BRIDGE", "sh", "ip link add plumbline2 type bridge"),
    Feature("IPv6", "CONFIG_IPV6, not switched off at boot", "sh", "test -e /proc/net/if_inet6"),
)
_BRIDGE_FILTER = Feature(
    "packet filtering on bridges",
    "CONFIG_BRIDGE_NETFILTER",
    "sh",
    "{ modprobe -q br_netfilter; test -e /proc/sys/net/bridge/bridge-nf-call-ip6tables; } 2>/dev/null",
)
_VXLAN = Feature("VXLAN", "CONFIG_VXLAN", "sh", "ip link add plumbline4 type vxlan id 1 dstport 8472")
_POD_NETWORKS = {"routed": (), "bridge": (_BRIDGE_FILTER,), "vxlan": (_BRIDGE_FILTER, _VXLAN)}
# The file is there once the module is, so this comes after rules that load it.
_CONNTRACK = Feature(
    "connection tracking",
    "CONFIG_NF_CONNTRACK",
    "sh",
    "test -e /proc/sys/net/netfilter/nf_conntrack_max",
)
_NFT_HOOKS = {
    "pre": "nat hook prerouting priority -100",
    "post": "nat hook postrouting priority 100",
    "forward": "filter hook forward priority 0",
}
_NFTABLES = (
    Feature("nftables connection tracking", "CONFIG_NFT_CT", "nft", "ct state new accept", "forward"),
    Feature("nftables 'reject'", "CONFIG_NFT_REJECT_INET", "nft", "reject", "forward"),
    Feature("nftables 'fib'", "CONFIG_NFT_FIB_IPV4 and _IPV6", "nft", "fib daddr type local accept", "pre"),
    Feature("nftables 'numgen'", "CONFIG_NFT_NUMGEN", "nft", "numgen random mod 2 vmap { 0 : accept }", "pre"),
    Feature(
        "nftables verdict maps",
        "CONFIG_NF_TABLES",
        "nft",
        "@IP daddr . tcp dport vmap { @LO . 80 : accept }",
        "pre",
    ),
    Feature("nftables sets with timeouts", "CONFIG_NF_TABLES", "nft", "update @clients { @IP saddr }", "pre"),
    Feature("nftables 'dnat'", "CONFIG_NFT_NAT", "nft", "meta l4proto tcp dnat to @LO", "pre"),
    Feature("nftables 'masquerade'", "CONFIG_NFT_MASQ", "nft", "masquerade fully-random", "post"),
)
_IPVS = (
    Feature("dummy links", "CONFIG_DUMMY", "sh", "ip link add plumbline3 type dummy"),
    *(
        Feature(f"IP sets of type {kind}", f"CONFIG_IP_SET_{option}", "sh", f"ipset create {name} {kind} {more}")
        for name, kind, option, more in (
            ("plumbline0", "hash:ip", "HASH_IP", ""),
            ("plumbline1", "hash:ip,port", "HASH_IPPORT", ""),
            ("plumbline2", "hash:ip,port,ip", "HASH_IPPORTIP", ""),
            ("plumbline3", "hash:ip,port,net", "HASH_IPPORTNET", ""),
            ("plumbline4", "bitmap:port", "BITMAP_PORT", "range 0-65535"),
        )
    ),
    Feature(
        "IP virtual servers",
        "CONFIG_IP_VS",
        "sh",
        "{ modprobe -q ip_vs; test -e /proc/net/ip_vs; } 2>/dev/null",
    ),
)


def _scheduler(name: str) -> Feature:
    return Feature(f"the IPVS scheduler {name}", f"CONFIG_IP_VS_{name.upper()}", "ipvs", name)


def _matches_of_ipvs(program: str) -> list[Feature]:
    """What kube-proxy's rules in IPVS mode match by, besides what they have in common with those of iptables mode."""
    sets = "ipset -exist create plumbline-match hash:ip && "
    return [
        Feature(f"the iptables match {name}", option, "sh", f"{before}{program} -w 5 -A {rule}")
        for name, option, before, rule in (
            ("set", "CONFIG_NETFILTER_XT_SET", sets, "INPUT -m set --match-set plumbline-match dst -j ACCEPT"),
            ("ipvs", "CONFIG_NETFILTER_XT_MATCH_IPVS", "", "OUTPUT -m ipvs --ipvs -j ACCEPT"),
            ("physdev", "CONFIG_NETFILTER_XT_MATCH_PHYSDEV", "", "INPUT -m physdev --physdev-is-in -j ACCEPT"),
        )
    ]


# What the reference datapath loads, and the first kernels that have it:
# https://docs.kernel.org/bpf/ (maps, program types), https://lwn.net/Articles/937652/ (links at interfaces).
_BPF = (
    Feature("BPF maps", "CONFIG_BPF_SYSCALL, Linux 5.5", "bpf", "maps"),
    Feature("BPF classifiers", "CONFIG_BPF_SYSCALL and CONFIG_NET", "bpf", "classifier"),
    Feature("BPF at interfaces", "CONFIG_NET_XGRESS, or CONFIG_NET_SCH_INGRESS and _CLS_BPF", "bpf", "attach"),
    Feature("XDP", "CONFIG_BPF_SYSCALL and CONFIG_NET", "bpf", "xdp"),
    Feature("BPF programs run by system calls", "CONFIG_BPF_SYSCALL, Linux 5.14", "bpf", "syscall"),
)
