# SPDX-License-Identifier: Apache-2.0
"""What the datapath needs of the kernel's settings on this node. Written only where it is not so already."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from dataplane_ref.controller.settings import Settings

RESERVED = "net/ipv4/ip_local_reserved_ports"
ROOT = Path("/proc/sys")


def wanted(settings: Settings) -> Mapping[str, str]:
    """Sysctls by their paths below /proc/sys. `lo` accepts what the node sends itself after its rewriting."""
    found = {"net/ipv4/conf/lo/accept_local": "1"}
    if settings.localhost_node_ports:
        found["net/ipv4/conf/lo/route_localnet"] = "1"
    return found


def reserved(before: str, first: int, last: int) -> str:
    """Ranges of reserved ports with another one in it; the same text where it is in it already."""
    ranges = [tuple(int(number) for number in each.split("-")) for each in before.strip().split(",") if each]
    if any(each[0] <= first and last <= each[-1] for each in ranges):
        return before
    return f"{before.strip()},{first}-{last}" if ranges else f"{first}-{last}"


def apply(settings: Settings, say: Callable[[str], None], root: Path = ROOT) -> None:
    """Write them in the caller's network namespace; what cannot be written is one warning each."""
    for name, value in wanted(settings).items():
        _write(root / name, partial(_instead, value), say)
    # The node's own connections are not to begin at ports that are taken for masquerading, or for node ports.
    for first, last in (settings.masquerade_ports, settings.node_port_range):
        _write(root / RESERVED, partial(reserved, first=first, last=last), say)


def _instead(value: str, _: str) -> str:
    return value


def _write(path: Path, change: Callable[[str], str], say: Callable[[str], None]) -> None:
    try:
        before = path.read_text(encoding="ascii").strip()
        after = change(before)
        if after != before:
            path.write_text(after, encoding="ascii")
    except OSError as error:
        say(f"{path} cannot be set, and some flows may suffer: {error.strerror}")
