# SPDX-License-Identifier: Apache-2.0
"""Every command-line option, and what they come to: one frozen `Settings`, checked once and passed to workers.

Bad input is a UsageError (exit status 4): one sentence that says what to type instead.
"""

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import pytest
import yaml

from clusters.errors import UsageError
from clusters.lab.topology import MAX_NODES, MAX_PODS_PER_NODE, MIN_PODS_PER_NODE, POD_NETWORKS, LabPlan, PodNetwork
from clusters.proxies.command import parse_command
from clusters.proxies.kube_proxy import IPVS_SCHEDULERS
from plugins.deviations import System
from plugins.requirements import SCHEDULER, release
from plugins.scale import settings as scale

MODES = ("iptables", "nftables", "ipvs", "ebpf")
PROXIES = ("kube-proxy", "ebpf", "kube-router", "command", "none")
CLUSTERS = ("lab", "kind", "k3s", "kubeconfig")
CONTROL_PLANES = ("embedded", "real")
ANNOUNCERS = ("metallb",)
IPTABLES_BACKENDS = ("nft", "legacy")
FAMILIES = {"dual": ("IPv4", "IPv6"), "ipv4": ("IPv4",), "ipv6": ("IPv6",)}
# Options of the contract whose subject has not been built yet: option → (dest, the values that exist).
BUILT: dict[str, tuple[str, tuple[Any, ...]]] = {
    "--cluster": ("cluster", (None, "lab")),
    "--examples": ("examples", (None,)),
    "--allow-disruptive": ("allow_disruptive", (False,)),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """A run's settings, as plain data so that they can be sent to xdist workers."""

    proxy: str
    mode: str
    binary: str | None = None
    binary_origin: str | None = None
    version: str = "unknown"
    command: tuple[str, ...] = ()
    ready_deadline: float = 60.0
    sync: Literal["fast", "default"] = "fast"
    settle: Literal["ordered", "converge"] | None = None
    features: tuple[str, ...] = ()
    known_failures: tuple[str, ...] = ()
    nodes: int = 3
    pods_per_node: int = 4
    iptables_backend: Literal["nft", "legacy"] | None = None
    ipvs_scheduler: str | None = None
    pod_network: PodNetwork = "routed"
    control_plane: Literal["embedded", "real"] = "embedded"
    etcd: str | None = None
    kube_apiserver: str | None = None
    control_plane_version: str | None = None
    announcer: str | None = None
    announcer_binary: str | None = None
    announcer_version: str = "unknown"
    families: tuple[str, ...] = ("IPv4", "IPv6")
    release: tuple[int, int] | None = None
    deadline_scale: float = 1.0
    keep_lab: bool = False
    lab_shell: str | None = None
    seed: int = 0
    report: str = "report"
    host: dict[str, Any] = field(default_factory=dict)
    guest: str | None = None
    uml: str | None = None
    services: tuple[int, ...] = scale.SERVICES
    endpoints_per_service: int = scale.ENDPOINTS
    duration: float | None = None
    budget: float | None = None

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Self:
        data = json.loads(text)
        for name in ("command", "features", "known_failures", "families", "services"):
            data[name] = tuple(data[name])
        if data["release"]:
            data["release"] = tuple(data["release"])
        return cls(**data)

    @property
    def system(self) -> System:
        """What is judged, as data about proxies names it."""
        numbers = self.version.split(".")
        known = len(numbers) > 1 and numbers[0].isdigit() and numbers[1].isdigit()
        return System(self.proxy, self.mode, release(self.version) if known else None)

    @property
    def keeps_lab(self) -> bool:
        """Whether a person wants to look inside the lab after the tests."""
        return self.keep_lab or self.lab_shell is not None

    @property
    def loads_bpf(self) -> bool:
        """Whether BPF can be loaded on this machine, by this user."""
        return "lacks_bpf" in self.host and self.host["lacks_bpf"] is None

    @property
    def speaks_sctp(self) -> bool:
        """Whether the agent can speak SCTP on this machine, and netfilter translate it."""
        return "lacks_sctp" in self.host and self.host["lacks_sctp"] is None

    def is_known_to_fail(self, requirement: str, axes: Mapping[str, str]) -> bool:
        """Whether the user's file says that this test fails: its requirement, in the axes that an entry names."""
        for entry in self.known_failures:
            name, *wanted = entry.split()
            named = dict(one.split("=") for one in wanted)
            if name == requirement and named.items() <= axes.items():
                return True
        return False

    def kernel(self) -> str:
        """The kernel that the proxy runs on, in words."""
        return self.guest or str(self.host.get("kernel", "unknown"))

    def about(self) -> str:
        """The system under test in words, for headers and failures."""
        announcer = f", with MetalLB's speaker {self.announcer_version}" if self.announcer else ""
        return self._about_proxy() + announcer

    @property
    def has_strict_arp(self) -> bool:
        """Whether kube-proxy is not to answer ARP for Services' IPs: an announcer is to be the only one who does."""
        return self.mode == "ipvs" and self.announcer is not None

    def _about_proxy(self) -> str:
        if self.proxy == "kube-proxy":
            parts = [f"scheduler {self.ipvs_scheduler}"] if self.ipvs_scheduler else []
            parts += ["strictARP"] if self.has_strict_arp else []
            return f"kube-proxy {self.version}, mode {self.mode}{' with ' if parts else ''}{' and '.join(parts)}"
        if self.proxy == "kube-router":
            return f"kube-router {self.version} as service proxy, mode {self.mode}"
        if self.proxy == "ebpf":
            return f"plumbline's reference datapath {self.version}, mode ebpf"
        return f"--proxy-command {' '.join(self.command)!r}" if self.proxy == "command" else f"--proxy={self.proxy}"


def add_options(parser: pytest.Parser) -> None:
    """Register all options in one help group."""
    add = parser.getgroup("plumbline", "plumbline: Kubernetes Service dataplanes").addoption
    add(
        "--proxy-mode",
        metavar="iptables|ipvs|nftables|ebpf",
        help="the proxy's mode (the first three: kube-proxy; ebpf: plumbline's reference datapath)",
    )
    add(
        "--proxy",
        metavar="|".join(PROXIES),
        help="the system under test on each node (ebpf: as --proxy-mode=ebpf)",
    )
    add("--proxy-version", metavar="VERSION", help="release of the proxy, such as 1.37.1")
    add(
        "--proxy-binary",
        metavar="PATH",
        help="the proxy's binary (default: PLUMBLINE_KUBE_PROXY or PLUMBLINE_KUBE_ROUTER, cache, download, build)",
    )
    add("--proxy-command", metavar="COMMAND", help="any proxy; placeholders {kubeconfig} {node} {node_ip} {node_ip6} "
        "{pod_cidrs} {service_cidrs} {state_dir} {proxy_config}")  # fmt: skip
    add("--proxy-ready", metavar="60s", default="60s", help="how long the proxy may take to work at all")
    add(
        "--proxy-sync",
        choices=("fast", "default"),
        default="fast",
        help="minSyncPeriod 10ms, or the proxy's default",
    )
    add("--features", metavar="FILE", help="YAML: features, settle and scheduler that the proxy declares")
    add("--known-failures", metavar="FILE", help="lines 'ID [AXIS=VALUE …]': what is known to fail")
    add("--ipvs-scheduler", metavar="NAME", help=f"the IPVS scheduler (default rr): {', '.join(IPVS_SCHEDULERS)}")
    add("--iptables-backend", metavar="nft|legacy", help="which iptables the proxy uses")
    add("--cluster", metavar="|".join(CLUSTERS), help="where the dataplane runs (default: lab)")
    add("--nodes", type=int, default=3, metavar="N", help="nodes of the lab (default 3)")
    add("--pods-per-node", type=int, default=4, metavar="N", help="pods on each lab node (default 4)")
    add(
        "--pod-network",
        metavar="routed|bridge|vxlan",
        help="how pods reach each other (default: routed; in mode ipvs bridge)",
    )
    add(
        "--control-plane",
        metavar="embedded|real",
        default="embedded",
        help="the lab's API server, or etcd and kube-apiserver",
    )
    add(
        "--announcer",
        metavar="metallb",
        help="what announces load balancers' addresses on the LAN (default: nothing)",
    )
    add(
        "--announcer-binary",
        metavar="PATH",
        help="MetalLB's speaker (default: PLUMBLINE_METALLB_SPEAKER, cache, build)",
    )
    add("--announcer-version", metavar="VERSION", help="release of MetalLB, such as 0.16.1")
    add(
        "--kernel",
        metavar="host|uml[:PATH]",
        help="this machine's, or User-Mode Linux as its guest (default: host, but uml for mode ipvs without ip_vs)",
    )
    add("--family", choices=tuple(FAMILIES), default="dual", help="IP families to judge")
    add("--level", choices=("core", "extended", "all"), default="all", help="requirement levels to judge")
    add(
        "--requirements",
        action="store_true",
        help="print id, level, since and sentence of each requirement, and stop",
    )
    add(
        "--k8s-release",
        metavar="1.37",
        help="the release whose promises hold (default: the proxy's own version)",
    )
    add("--seed", type=int, default=0, help="seed of everything random")
    add("--examples", type=int, metavar="N", help="examples per property test")
    add("--deadline-scale", type=float, default=1.0, metavar="X", help="multiply every deadline")
    add("--allow-disruptive", action="store_true", help="run tests that disturb a foreign cluster")
    add("--keep-lab", action="store_true", help="keep the lab after the tests, until Ctrl-C")
    add("--lab-shell", metavar="NODE", help="open a shell on a lab node after the tests")
    add("--report", metavar="DIR", default="report", help="where results are written (default: report)")
    add("--baseline", metavar="FILE", help="an earlier run's requirements.jsonl or scale.json")
    add("--services", metavar="N,…", help="scale: numbers of Services (default 1,1000,5000,10000)")
    add("--endpoints-per-service", metavar="N", help="scale: endpoints of each Service (default 2)")
    add("--duration", metavar="TIME", help="length of a measurement (default: scale 300ms)")
    add("--budget", metavar="TIME", help="scale: time for the whole plan, such as 10m (default: as long as it takes)")


def asked_for(options: argparse.Namespace) -> bool:
    """Whether the command line names a system under test at all."""
    names = ("proxy", "proxy_mode", "proxy_binary", "proxy_command", "proxy_version", "cluster")
    return any(getattr(options, name) is not None for name in names)


def parse(options: argparse.Namespace) -> Settings:
    """Check the options against each other; nothing on the machine is looked at yet. Raises UsageError."""
    _known_words(options)
    _kernel(options.kernel)
    proxy, mode = _proxy_and_mode(options)
    declared = _features(options.features)
    if not 0 < options.deadline_scale < math.inf:
        raise UsageError(f"--deadline-scale must be a positive number, not {options.deadline_scale}")
    sizes = (
        ("nodes", options.nodes, 1, MAX_NODES),
        ("pods-per-node", options.pods_per_node, MIN_PODS_PER_NODE, MAX_PODS_PER_NODE),
    )
    for option, value, least, most in sizes:
        if not least <= value <= most:
            raise UsageError(f"--{option} must be between {least} and {most}, not {value}")
    names = [node.name for node in LabPlan.of(options.nodes, options.pods_per_node).nodes]
    if options.lab_shell is not None and options.lab_shell not in names:
        raise UsageError(f"--lab-shell={options.lab_shell}: there is no such node; the lab has {', '.join(names)}")
    if (options.keep_lab or options.lab_shell) and getattr(options, "numprocesses", None):
        raise UsageError("--keep-lab and --lab-shell show one lab; leave out -n, which makes one per worker")
    return Settings(
        proxy=proxy,
        mode=mode,
        command=tuple(parse_command(options.proxy_command)) if options.proxy_command is not None else (),
        ready_deadline=seconds("--proxy-ready", options.proxy_ready) * options.deadline_scale,
        sync=options.proxy_sync,
        settle=declared.get("settle"),
        features=(*declared.get("features", ()), *_scheduler(declared)),
        known_failures=_known_failures(options.known_failures),
        nodes=options.nodes,
        pods_per_node=options.pods_per_node,
        iptables_backend=options.iptables_backend,
        ipvs_scheduler=options.ipvs_scheduler,
        pod_network=options.pod_network or _pod_network(mode),
        control_plane=options.control_plane,
        announcer=_announcer(options),
        families=FAMILIES[options.family],
        release=_release(options, proxy),
        deadline_scale=options.deadline_scale,
        keep_lab=options.keep_lab,
        lab_shell=options.lab_shell,
        seed=options.seed,
        report=str(Path(options.report).absolute()),
        services=scale.services(options.services, proxy),
        endpoints_per_service=scale.endpoints(options.endpoints_per_service),
        duration=seconds("--duration", options.duration) if options.duration is not None else None,
        budget=seconds("--budget", options.budget) if options.budget is not None else None,
    )


def _pod_network(mode: str) -> PodNetwork:
    """In mode ipvs one in which nodes have an address towards their pods.

    Where they have none, IPv6 takes what to masquerade to from all of a node's addresses, and prefers the one that
    begins like the pod's (RFC 6724, 5, rule 8): that may be a ClusterIP, of which kube-ipvs0 is full.
    """
    return "bridge" if mode == "ipvs" else "routed"


def _known_words(options: argparse.Namespace) -> None:
    """Refuse unknown values first, then known ones whose subject does not exist yet."""
    words = (
        ("--proxy-mode", options.proxy_mode, MODES),
        ("--proxy", options.proxy, PROXIES),
        ("--cluster", options.cluster, CLUSTERS),
        ("--control-plane", options.control_plane, CONTROL_PLANES),
        ("--pod-network", options.pod_network, POD_NETWORKS),
        ("--announcer", options.announcer, ANNOUNCERS),
        ("--iptables-backend", options.iptables_backend, IPTABLES_BACKENDS),
        ("--ipvs-scheduler", options.ipvs_scheduler, IPVS_SCHEDULERS),
    )
    for option, value, known in words:
        if option == "--proxy-mode" and value == "userspace":
            raise UsageError("--proxy-mode=userspace was removed in Kubernetes 1.26; use iptables, ipvs or nftables")
        if value is not None and value not in known:
            raise UsageError(f"{option}={value} is unknown; choose one of {', '.join(known)}")
    if options.ipvs_scheduler and options.proxy_mode != "ipvs":
        raise UsageError("--ipvs-scheduler is kube-proxy's in mode ipvs; say --proxy-mode=ipvs, or leave it out")
    for option, (dest, built) in BUILT.items():
        value = getattr(options, dest)
        if value not in built:
            has = ", ".join(str(word) for word in built if word) or "nothing else than its default"
            shown = option if value is True else f"{option}={value}"
            raise UsageError(f"{shown} is not part of this version of plumbline yet; it has {has}")


def _kernel(value: str | None) -> None:
    if value not in (None, "host", "uml") and not (value.startswith("uml:") and value != "uml:"):
        raise UsageError(f"--kernel={value} is unknown; choose host, uml, or uml:PATH with the path of a linux.uml")


def _proxy_and_mode(options: argparse.Namespace) -> tuple[str, str]:
    command, proxy, mode = options.proxy_command, options.proxy, options.proxy_mode
    if command is not None and (mode or options.proxy_binary or proxy not in (None, "command")):
        raise UsageError(
            "--proxy-command says all about the proxy; leave out --proxy-mode, --proxy-binary and --proxy"
        )
    if proxy == "command" and command is None:
        raise UsageError("--proxy=command needs --proxy-command='./my-proxy --kubeconfig={kubeconfig} --node={node}'")
    if command is not None and (options.proxy_version or options.proxy_sync != "fast"):
        raise UsageError("--proxy-version and --proxy-sync are kube-proxy's; leave them out with --proxy-command")
    if command is not None:
        return "command", "command"
    if options.features is not None:
        raise UsageError("--features declares what a --proxy-command can do; leave it out otherwise")
    if proxy == "none":
        if mode or options.proxy_binary or options.proxy_version:
            raise UsageError(
                "--proxy=none starts no proxy; leave out --proxy-mode, --proxy-binary and --proxy-version"
            )
        return "none", "none"
    if "ebpf" in (proxy, mode):
        return _reference(options)
    if options.proxy_binary and options.proxy_version:
        raise UsageError("--proxy-binary names a file and --proxy-version a release to find; give one of them")
    return _kube_router(options) if proxy == "kube-router" else _kube_proxy(options, mode)


def _kube_proxy(options: argparse.Namespace, mode: str | None) -> tuple[str, str]:
    if mode is None:
        raise UsageError("name the mode to judge: --proxy-mode=iptables, nftables, ipvs or ebpf")
    if options.iptables_backend and mode not in ("iptables", "ipvs"):
        raise UsageError(f"--iptables-backend says how iptables and ipvs mode write rules; leave it out with {mode}")
    return "kube-proxy", mode


def _kube_router(options: argparse.Namespace) -> tuple[str, str]:
    """It works by IPVS only, and at its own pace."""
    if options.proxy_mode not in (None, "ipvs"):
        raise UsageError(f"--proxy=kube-router has no mode but ipvs; leave out --proxy-mode={options.proxy_mode}")
    if options.proxy_sync != "fast":
        raise UsageError("--proxy-sync is kube-proxy's, kube-router programs every change at once; leave it out")
    return "kube-router", "ipvs"


def _reference(options: argparse.Namespace) -> tuple[str, str]:
    """--proxy=ebpf and --proxy-mode=ebpf are the same, and whatever else says something of a proxy is another's."""
    if options.proxy not in (None, "ebpf"):
        raise UsageError(f"--proxy-mode=ebpf is plumbline's reference datapath; leave out --proxy={options.proxy}")
    if options.proxy_mode not in (None, "ebpf"):
        raise UsageError(f"--proxy=ebpf has no mode but ebpf; leave out --proxy-mode={options.proxy_mode}")
    others = (
        ("--proxy-binary", options.proxy_binary, "is not a program that could be named"),
        ("--proxy-version", options.proxy_version, "is as old as plumbline itself"),
        ("--proxy-sync", options.proxy_sync != "fast", "programs every change at once"),
        ("--iptables-backend", options.iptables_backend, "writes no iptables rules"),
    )
    for option, given, why in others:
        if given:
            raise UsageError(f"the reference datapath {why}; leave out {option} with mode ebpf")
    return "ebpf", "ebpf"


def _announcer(options: argparse.Namespace) -> str | None:
    for option, given in (
        ("--announcer-binary", options.announcer_binary),
        ("--announcer-version", options.announcer_version),
    ):
        if given and options.announcer is None:
            raise UsageError(f"{option} is about an announcer, and none is asked for; add --announcer=metallb")
    if options.announcer_binary and options.announcer_version:
        raise UsageError(
            "--announcer-binary names a file and --announcer-version a release to find; give one of them"
        )
    announcer: str | None = options.announcer
    return announcer


def _release(options: argparse.Namespace, proxy: str) -> tuple[int, int] | None:
    if options.k8s_release is None:
        if proxy == "command":
            raise UsageError(
                "--proxy-command needs --k8s-release=1.37 (or another): which release's promises shall hold?"
            )
        return None
    try:
        return release(options.k8s_release)
    except ValueError:
        raise UsageError(f"--k8s-release={options.k8s_release} is no Kubernetes release such as 1.37") from None


def seconds(option: str, text: str) -> float:
    """`90`, `90s`, `1.5m` or `500ms` in seconds. Raises UsageError."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    unit = next((unit for unit in units if text.endswith(unit)), "")
    try:
        value = float(text.removesuffix(unit)) * units.get(unit, 1.0)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{option}={text} is no time; write for example 60s, 1.5m or 500ms")
    return value


def _features(file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        data = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--features={file} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UsageError(f"--features={file} is not YAML") from None
    if not isinstance(data, dict) or not set(data) <= {"features", "settle", "scheduler"}:
        raise UsageError(f"--features={file} must be a mapping with the keys features, settle, scheduler")
    if data.get("settle") not in (None, "ordered", "converge"):
        raise UsageError(f"--features={file}: settle must be ordered or converge, not {data['settle']!r}")
    if not isinstance(data.get("scheduler") or "", str):
        raise UsageError(f"--features={file}: scheduler must be a name such as random, not {data['scheduler']!r}")
    data["features"] = names = data.get("features") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"--features={file}: features must be a list of names")
    return data


def _scheduler(declared: Mapping[str, Any]) -> list[str]:
    """The scheduler that is declared, as a feature."""
    return [f"{SCHEDULER}{declared['scheduler']}"] if declared.get("scheduler") else []


def _known_failures(file: str | None) -> tuple[str, ...]:
    """Requirement ids, one a line, each with the axes it fails for (`id family=IPv6`), or none; `#` comments."""
    if file is None:
        return ()
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--known-failures={file} cannot be read: {error}") from None
    entries = [" ".join(raw.partition("#")[0].split()) for raw in lines]
    for entry in filter(None, entries):
        if not all(axis.count("=") == 1 for axis in entry.split()[1:]):
            raise UsageError(f"--known-failures={file}: {entry!r} is not an id followed by axes such as family=IPv6")
    return tuple(filter(None, entries))
