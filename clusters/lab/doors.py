# SPDX-License-Identifier: Apache-2.0
"""Ways into a running lab for a person: a kubeconfig, and a program per node that opens a shell there.

They are files on this machine, made by pytest's process; nothing in the lab changes.
"""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from clusters.lab.namespaces import NETNS
from clusters.proxies.base import Place

SCRIPT = """#!/bin/sh
# A shell on {node} of a running plumbline lab, or the command given. It ends with the lab.
[ $# -gt 0 ] || set -- bash --norc
exec nsenter {entering} env \\
  PATH=/run/plumbline/bin:"$PATH":/usr/sbin:/sbin KUBECONFIG={kubeconfig} PS1='{node}# ' "$@"
"""


class Inhabited(Protocol):
    """What the doors need of the lab."""

    @property
    def places(self) -> Sequence[Place]: ...
    def kubeconfig(self, place: Place | None = None) -> str: ...
    def write_file(self, place: Place, name: str, text: str) -> str: ...
    def inside(self) -> tuple[int, dict[str, int]]:
        """PID 1 of the lab as this machine numbers it, and its descriptors of the nodes' mount namespaces."""


def make_doors(lab: Inhabited, directory: Path) -> None:
    """Write `kubeconfig` and one program per node, named after it, to a directory. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "kubeconfig", lab.kubeconfig(), 0o600)
    pid, mounts = lab.inside()
    process = Path("/proc", str(pid))
    for place in lab.places:
        entering = [
            # Whoever made the user namespace is its root; root itself needs none.
            *([] if os.geteuid() == 0 else [f"--user={process / 'ns/user'}", "--preserve-credentials"]),
            f"--mount={process / 'fd' / str(mounts[place.name])}",
            f"--net={process / 'root'}{NETNS / place.name}",
            f"--pid={process / 'ns/pid_for_children'}",
        ]
        kubeconfig = lab.write_file(place, "kubeconfig", lab.kubeconfig(place))
        script = SCRIPT.format(node=place.name, entering=shlex.join(entering), kubeconfig=kubeconfig)
        _write(directory / place.name, script, 0o700)


def _write(file: Path, text: str, mode: int) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as opened:
        opened.write(text)
