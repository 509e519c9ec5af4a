# SPDX-License-Identifier: Apache-2.0
"""Whether this machine can run the lab in a mode: asked once, before anything is built."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from clusters import bpf, kernel
from clusters.agent.sctp_socket import kernel_speaks_sctp
from clusters.errors import UsageError
from clusters.patience import patient

IptablesBackend = Literal["nft", "legacy"]
ANSWER_SECONDS = patient(10.0)
# iptables and ip6tables, each with -save and -restore.
IPTABLES_PROGRAMS = 6

# kube-proxy needs --random-fully: https://www.netfilter.org/projects/iptables/files/changes-iptables-1.6.2.txt
MINIMUM_IPTABLES = (1, 6, 2)
# sigs.k8s.io/knftables, which kube-proxy uses, refuses anything older.
MINIMUM_NFT = (1, 0, 1)
# https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-nftables
MINIMUM_NFTABLES_KERNEL = (5, 13)

_SCTP_TRACKED = "nf_conntrack_sctp_timeout_established"
# Switches that keep ordinary users from making user namespaces: sysctl, the value that does, one that does not.
# Debian: https://wiki.debian.org/UserNamespaces, Ubuntu: https://ubuntu.com/blog/ubuntu-23-10-restricted-unprivileged-user-namespaces
_USER_NAMESPACE_SWITCHES = (
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user/max_user_namespaces", "0", "10000"),
)


@dataclass(frozen=True, slots=True)
class HostReport:
    """What the host is, for the report: `tools` maps a program to its version, None where it is absent.

    `iptables_backend` is nft or legacy; `iptables_chosen` says that it is not simply what the machine's iptables is.
    `rootless`: the lab lives in a user namespace, because an ordinary user asked. `lacks_bpf`: why BPF cannot be
    loaded here, in a phrase; None where it can. `lacks_sctp`: the same of the agent's SCTP, and of tracking it.
    """

    kernel: str
    arch: str
    distribution: str
    tools: Mapping[str, str | None]
    iptables_backend: IptablesBackend | None
    iptables_chosen: bool
    rootless: bool
    lacks_bpf: str | None = None
    lacks_sctp: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that is asked. Tests describe others."""

    system: str
    release: str
    arch: str
    euid: int
    path: str
    proc: Path = Path("/proc")
    os_release: Path = Path("/etc/os-release")

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ) -> "Machine":
        """This machine; the system's own directories end the search for tools, as they do for root."""
        name = os.uname()
        path = f"{environ.get('PATH') or os.defpath}:/usr/sbin:/sbin"
        return cls(name.sysname, name.release, name.machine, os.geteuid(), path)


@dataclass(frozen=True, slots=True)
class _Tool:
    """A program of the host: its Debian package, the modes that need it, and how it tells its version."""

    name: str
    package: str
    modes: tuple[str, ...]
    question: str = "--version"


_TOOLS = (
    _Tool("ip", "iproute2", ("",), "-V"),
    _Tool("unshare", "util-linux", ("",)),
    _Tool("iptables", "iptables", ("iptables", "ipvs")),
    _Tool("ip6tables", "iptables", ("iptables", "ipvs")),
    # The lab's router rejects by an nft rule, and a failure shows the connection table, whatever the mode.
    _Tool("nft", "nftables", ("", "nftables")),
    _Tool("conntrack", "conntrack", ("",)),
    _Tool("ipset", "ipset", ("ipvs",)),
)


def check(
    mode: str,
    machine: Machine | None = None,
    *,
    iptables_backend: IptablesBackend | None = None,
    pod_network: str = "routed",
    ipvs_scheduler: str | None = None,
) -> HostReport:
    """Checks that the lab can run in `mode` (iptables, nftables, ipvs, ebpf, or any other: the lab itself).

    `iptables_backend` asks for iptables' `nft` or `legacy` programs; None is the machine's default, except that an
    ordinary user gets `legacy` where it works (see `prefers_legacy`).

    Raises UsageError, one sentence that names exactly what is missing. Takes about 0.1 s.
    """
    machine = machine or Machine.here()
    _check_system(machine)
    if mode == "ebpf" and machine.euid != 0:
        raise UsageError("The reference datapath loads BPF, which needs root: run the same command with sudo.")
    _check_tools(mode, machine)
    if iptables_backend:
        _check_backend(iptables_backend, machine)
    elif mode in ("iptables", "command") and prefers_legacy(machine):
        iptables_backend = "legacy"
    answers = {tool.name: _answer(tool, machine) for tool in _TOOLS}
    versions = {name: _version(answer) for name, answer in answers.items()}
    _check_versions(mode, machine, versions)
    _check_kernel(mode, machine, iptables_backend, pod_network, ipvs_scheduler)
    return HostReport(
        kernel=machine.release,
        arch=machine.arch,
        distribution=_distribution(machine),
        tools=versions,
        iptables_backend=iptables_backend or _backend(answers["iptables"]),
        iptables_chosen=iptables_backend is not None,
        rootless=machine.euid != 0,
        lacks_bpf=bpf.refused(machine.euid),
        lacks_sctp=_lacks_sctp(machine),
    )


def _check_system(machine: Machine) -> None:
    if machine.system != "Linux":
        raise UsageError(f"The lab needs Linux, and this is {machine.system}: run it in a Linux virtual machine.")
    kinds = {"net": "NET_NS", "pid": "PID_NS", "mnt": "NAMESPACES", "user": "USER_NS"}
    absent = [name for name in kinds if not (machine.proc / "self" / "ns" / name).exists()]
    if absent:
        options = ", ".join(f"CONFIG_{kinds[name]}" for name in absent)
        raise UsageError(f"This kernel has no {', '.join(absent)} namespaces ({options}): use one that has.")


def _check_tools(mode: str, machine: Machine) -> None:
    needed = [tool for tool in _TOOLS if mode in tool.modes or "" in tool.modes]
    missing = [tool for tool in needed if shutil.which(tool.name, path=machine.path) is None]
    if missing:
        names = ", ".join(tool.name for tool in missing)
        packages = " ".join(dict.fromkeys(tool.package for tool in missing))
        raise UsageError(
            f"{mode} mode needs programs that are not on PATH: {names}; on Debian and Ubuntu "
            f"type: sudo apt-get install {packages}."
        )


def _check_versions(mode: str, machine: Machine, versions: Mapping[str, str | None]) -> None:
    minimum = {"iptables": MINIMUM_IPTABLES, "ip6tables": MINIMUM_IPTABLES, "nft": MINIMUM_NFT}
    for tool in _TOOLS:
        if mode not in tool.modes or tool.name not in minimum:
            continue
        version = versions[tool.name]
        if version is None:
            raise UsageError(
                f"{shutil.which(tool.name, path=machine.path)} does not tell its version: reinstall {tool.package}."
            )
        if _numbers(version) < minimum[tool.name]:
            wanted = ".".join(map(str, minimum[tool.name]))
            raise UsageError(
                f"{mode} mode needs {tool.name} {wanted} or newer, and this is {version}: upgrade {tool.package}."
            )
    if mode == "nftables" and _numbers(machine.release) < MINIMUM_NFTABLES_KERNEL:
        wanted = ".".join(map(str, MINIMUM_NFTABLES_KERNEL))
        raise UsageError(
            f"nftables mode needs Linux {wanted} or newer, and this is {machine.release}: "
            f"use --proxy-mode=iptables or a newer kernel."
        )


def iptables_programs(backend: str, path: str | None = None) -> dict[str, str]:
    """By the names that kube-proxy calls, where a backend's programs are; absent ones are left out."""
    found = {}
    for program in ("iptables", "ip6tables"):
        for purpose in ("", "-restore", "-save"):
            place = shutil.which(f"{program}-{backend}{purpose}", path=path)
            if place:
                found[f"{program}{purpose}"] = place
    return found


def prefers_legacy(machine: Machine) -> bool:
    """Whether a lab here should use iptables' legacy programs unless told otherwise.

    iptables-nft sends a whole update in one netlink message. Root lifts the limit on its size (SO_SNDBUFFORCE); in a
    user namespace it stays at net.core.wmem_default, some 200 kB, and kube-proxy's larger updates fail.
    """
    if machine.euid == 0 or len(iptables_programs("legacy", machine.path)) < IPTABLES_PROGRAMS:
        return False
    with suppress(kernel.NoNamespaceError):
        return not kernel.lacks("iptables", machine.path, rootless=True, backend="legacy")
    return False


def _check_backend(backend: str, machine: Machine) -> None:
    if len(iptables_programs(backend, machine.path)) < IPTABLES_PROGRAMS:
        raise UsageError(
            f"--iptables-backend={backend} needs iptables-{backend} and its -save and -restore, which are not on "
            f"PATH; on Debian and Ubuntu type: sudo apt-get install iptables."
        )


def _check_kernel(
    mode: str, machine: Machine, iptables_backend: str | None, pod_network: str, scheduler: str | None
) -> None:
    try:
        missing = kernel.lacks(
            mode,
            machine.path,
            rootless=machine.euid != 0,
            backend=iptables_backend,
            pod_network=pod_network,
            scheduler=scheduler or kernel.DEFAULT_SCHEDULER,
        )
    except kernel.NoNamespaceError as error:
        if machine.euid != 0:
            raise UsageError(f"No user namespace can be made here ({error}): {_remedy(machine)}.") from error
        raise UsageError(
            f"No network namespace can be made here ({error}): root needs CAP_SYS_ADMIN, which a "
            f"container gets with --privileged."
        ) from error
    if missing:
        raise UsageError(
            f"This kernel ({machine.release}) lacks what {mode} mode{_with(pod_network)} needs: "
            f"{'; '.join(map(str, missing))}: load the modules or use a kernel that has them."
        )


def _lacks_sctp(machine: Machine) -> str | None:
    """Why SCTP cannot be spoken or translated here, in a phrase. The switch is there once conntrack is loaded."""
    if kernel_speaks_sctp(machine.proc):
        return "the kernel's own SCTP would answer beside the agent's: unload the module sctp"
    tracking = machine.proc / "sys/net/netfilter"
    if (tracking / "nf_conntrack_max").exists() and not (tracking / _SCTP_TRACKED).exists():
        return "this kernel does not track SCTP (CONFIG_NF_CT_PROTO_SCTP)"
    return None


def _with(pod_network: str) -> str:
    return "" if pod_network == "routed" else f" with --pod-network={pod_network}"


def _remedy(machine: Machine) -> str:
    """What gives an ordinary user a user namespace here: the switch that forbids it, or else sudo."""
    for name, forbidding, remedy in _USER_NAMESPACE_SWITCHES:
        with suppress(OSError):
            if (machine.proc / "sys" / name).read_text(encoding="ascii").strip() == forbidding:
                return f"type: sudo sysctl {name.replace('/', '.')}={remedy}, or run the same command with sudo"
    return "run the same command with sudo, and in a container with --privileged"


def _answer(tool: _Tool, machine: Machine) -> str:
    """What the program says when asked for its version; empty if it is absent or fails."""
    try:
        done = subprocess.run(
            [tool.name, tool.question],
            env={"PATH": machine.path, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=ANSWER_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _version(answer: str) -> str | None:
    found = re.search(r"\d+\.\d+(?:\.\d+)*", answer)
    return found[0] if found else None


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _backend(answer: str) -> IptablesBackend | None:
    """nft or legacy: which kernel interface iptables writes to. Before 1.8 there was only one."""
    if not answer:
        return None
    return "nft" if "(nf_tables)" in answer else "legacy"


def _distribution(machine: Machine) -> str:
    try:
        text = machine.os_release.read_text("utf-8", "replace")
    except OSError:
        return "unknown"
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', text, re.MULTILINE)
    return found[1] if found else "unknown"
