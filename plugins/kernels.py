# SPDX-License-Identifier: Apache-2.0
"""Which kernel a run is made on: this machine's, or a guest's, and what cannot be done there."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clusters import host, kernel
from clusters.errors import UsageError
from clusters.hermetic import finding
from clusters.hermetic.guest import check_memory
from clusters.patience import SLOWER
from clusters.store import Say
from plugins.options import Settings

UML = "uml"

# What may have been asked for, and why it is refused.
Cases = Sequence[tuple[bool, str]]


def choose(options: argparse.Namespace, settings: Settings, say: Say) -> Settings:
    """The settings with the kernel in them, fetched if need be. Raises UsageError for what cannot be had or done."""
    asked, _, path = (options.kernel or "").partition(":")
    why = ""
    if not asked and settings.mode == "ipvs":
        why = _lacks_ip_vs()
    if asked != UML and not why:
        return settings
    _refuse(options, settings, _no_guest_can(options, settings))
    uml = finding.find(path or None, say=say)
    _refuse(options, settings, _this_kernel_cannot(settings, uml))
    check_memory(guests=max(1, guests(options)))
    about = f"User-Mode Linux {uml.version}, guest of this machine"
    if why:
        about += f" (whose own kernel {os.uname().release} lacks {why})"
    return replace(
        settings,
        guest=about,
        uml=str(uml.binary),
        deadline_scale=settings.deadline_scale * SLOWER,
        ready_deadline=settings.ready_deadline * SLOWER,
    )


def guests(options: argparse.Namespace) -> int:
    """How many workers of xdist have a guest each; 0 without xdist."""
    return len(getattr(options, "tx", ())) if getattr(options, "dist", "no") != "no" else 0


def binary(settings: Settings) -> finding.Uml:
    """What was chosen, as it is found again in a worker. Raises UsageError."""
    assert settings.uml is not None
    return finding.at(Path(settings.uml), "cache", settings.uml)


def _lacks_ip_vs() -> str:
    """What IPVS mode needs and this machine's kernel has not, in a phrase."""
    machine = host.Machine.here()
    try:
        return ", ".join(kernel.lacks_ip_vs(machine.path, rootless=machine.euid != 0))
    except kernel.NoNamespaceError:
        return "namespaces that this user may make"


def _refuse(options: argparse.Namespace, settings: Settings, cases: Cases) -> None:
    """Raise UsageError for the first that was asked for."""
    for asked, sentence in cases:
        if asked:
            named = "" if options.kernel else f" (--proxy-mode={settings.mode} takes --kernel=uml by itself here)"
            remedy = "leave out --kernel=uml" if options.kernel else "leave it out"
            raise UsageError(f"--kernel=uml: {sentence}{named}; {remedy}.")


def _no_guest_can(options: argparse.Namespace, settings: Settings) -> Cases:
    return (
        (settings.iptables_backend == "nft", "--iptables-backend=nft cannot work there: a guest has the legacy one"),
        (settings.keep_lab, "--keep-lab cannot keep a lab whose kernel ends with the tests"),
        (settings.lab_shell is not None, "--lab-shell cannot open a shell in another kernel"),
        (
            settings.control_plane == "real",
            "--control-plane=real needs more memory and time than a guest has; the embedded one works",
        ),
        (getattr(options, "usepdb", False), "--pdb cannot reach a test in another kernel"),
        (getattr(options, "trace", False), "--trace cannot reach a test in another kernel"),
    )


def _this_kernel_cannot(settings: Settings, uml: finding.Uml) -> Cases:
    """Debian's 6.1 can do neither; what `make kernel` builds can do both."""
    no_nftables = f"mode nftables cannot run on Linux {uml.version}, which has no nf_tables for IPv4 and IPv6"
    old = "the reference datapath cannot be loaded there: the verifier of Linux 6.1 refuses its programs"
    lacks_nftables = settings.mode == "nftables" and not finding.has(uml, "CONFIG_NF_TABLES_IPV4")
    return (
        (lacks_nftables, f"{no_nftables} (make kernel builds one that has)"),
        (settings.mode == "ebpf" and uml.version.startswith("6.1."), f"{old} (make kernel builds a newer one)"),
    )
