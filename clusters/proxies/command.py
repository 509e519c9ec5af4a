# SPDX-License-Identifier: Apache-2.0
"""Any program as the proxy: `--proxy-command`, one process per node, judged by the same requirements."""

import json
import shlex
import shutil
import string
from collections.abc import Sequence
from typing import Literal

from clusters.errors import UsageError
from clusters.lab.supervised import search_path
from clusters.proxies.base import Host, NodeProcesses, Place
from clusters.proxies.configuration import ProxyConfiguration

CONFIGURATION = "proxy_config"
PLACEHOLDERS = ("kubeconfig", "node", "node_ip", "node_ip6", "pod_cidrs", "service_cidrs", "state_dir", CONFIGURATION)


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
            fields = _fields(word)
        except ValueError as error:
            raise UsageError(f"--proxy-command: {word!r}: {error} (write a literal brace twice)") from None
        for name in fields:
            if name not in PLACEHOLDERS:
                known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
                raise UsageError(f"--proxy-command has the unknown placeholder {{{name}}}; known are {known}")
    return words


def _fields(word: str) -> list[str]:
    """The placeholders of a word, as they are written. Raises ValueError for a lonely brace."""
    return [
        name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
        for _, name, spec, conversion in string.Formatter().parse(word)
        if name is not None
    ]


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

    def refuses(self, configuration: ProxyConfiguration) -> str | None:
        """A command that takes `{proxy_config}`, the path of a JSON file, offers to be configured."""
        offered = any(CONFIGURATION in _fields(word) for word in self._command)
        return None if offered else super().refuses(configuration)

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
            CONFIGURATION: self.host.write_file(place, "proxy-config.json", json.dumps(self.configured.as_dict())),
        }
        return [word.format(**values) for word in self._command]
