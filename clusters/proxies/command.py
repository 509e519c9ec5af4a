# SPDX-License-Identifier: Apache-2.0
"""Any program as the proxy: `--proxy-command`, one process per node, judged by the same requirements."""

import shlex
import shutil
import string
from collections.abc import Sequence
from typing import Literal

from clusters.errors import UsageError
from clusters.lab.supervised import search_path
from clusters.proxies.base import Host, NodeProcesses, Place

PLACEHOLDERS = ("kubeconfig", "node", "node_ip", "node_ip6", "pod_cidrs", "service_cidrs", "state_dir")


def parse_command(text: str) -> list[str]:
    """Split a command as a shell would and check its placeholders. Raises UsageError."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--proxy-command={text!r} cannot be split as a shell would: {error}") from None
    if not words:
        raise UsageError("--proxy-command is empty; give a command such as './my-proxy --kubeconfig={kubeconfig}'")
    for word in words:
        try:
            fields = [
                name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                for _, name, spec, conversion in string.Formatter().parse(word)
                if name is not None
            ]
        except ValueError as error:
            raise UsageError(f"--proxy-command: {word!r}: {error} (write a literal brace twice)") from None
        for name in fields:
            if name not in PLACEHOLDERS:
                known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
                raise UsageError(f"--proxy-command has the unknown placeholder {{{name}}}; known are {known}")
    return words


def check_program(command: Sequence[str]) -> None:
    """Raise UsageError if a command's program is not there, or not executable."""
    if "{" not in command[0] and shutil.which(command[0], path=search_path()) is None:
        raise UsageError(f"--proxy-command: there is no program {command[0]!r} that could be run here")


class CommandProxy(NodeProcesses):
    """A proxy we have never seen: nothing is assumed about the order in which it programs changes."""

    name = "command"
    mode = "command"
    version = "unknown"

    def __init__(
        self,
        host: Host,
        *,
        command: Sequence[str],
        settle: Literal["ordered", "converge"] = "converge",
        features: frozenset[str] = frozenset(),
        ready_deadline: float = 60.0,
    ) -> None:
        super().__init__(host, ready_deadline)
        self._command = tuple(command)
        self.settle = settle
        self.features = features

    def argv(self, place: Place) -> Sequence[str]:
        kubeconfig = self.host.write_file(place, "kubeconfig", self.host.kubeconfig(place))
        state = self.host.write_file(place, "state/.created", "")
        values = {
            "kubeconfig": kubeconfig,
            "node": place.name,
            "node_ip": place.ipv4,
            "node_ip6": place.ipv6,
            "pod_cidrs": ",".join(place.pod_cidrs),
            "service_cidrs": ",".join(self.host.service_cidrs),
            "state_dir": state.rpartition("/")[0],
        }
        return [word.format(**values) for word in self._command]
