# SPDX-License-Identifier: Apache-2.0
"""plumbline's own eBPF datapath, one controller per lab node (`dataplane_ref/`)."""

import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from clusters.lab.operations import NODE_BPF
from clusters.proxies.base import Host, NodeProcesses, Place
from clusters.proxies.configuration import ProxyConfiguration

REPOSITORY = Path(__file__).resolve().parents[2]
HEALTH_PORT = 10256
SCHEDULERS = ("random", "rr", "wrr", "lc", "sh", "dh", "sed", "nq", "maglev")
# Of what not every proxy has it has everything. Services choose their scheduler, and weights, by annotations.
FEATURES = frozenset(
    {
        "healthz",
        "localhost-node-ports",
        "invalid-dropped",
        "rules-restored",
        "sctp",
        "unserved-ports-refused",
        "weights",
    }
    | {f"scheduler-{name}" for name in SCHEDULERS}
)
# What its maps have room for unless it is told otherwise (dataplane_ref/controller/__main__.py), and what is left for
# Services and endpoints beside those that were announced.
SERVICES, ENDPOINTS = 65_536, 131_072
MORE_SERVICES, MORE_ENDPOINTS = 1_024, 32_768
# -P: what lies where the user typed the command must not stand for a package of ours.
PYTHON = (sys.executable, "-P", "-m")


def own_version() -> str:
    """plumbline's own version, which the reference shares."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    version: str = project["project"]["version"]
    return version


class Reference(NodeProcesses):
    """The reference datapath. Its controller programs what it has heard in order, so two generations settle it."""

    name = "reference"
    mode = "ebpf"
    settle: Literal["ordered", "converge"] = "ordered"
    features = FEATURES

    def __init__(
        self,
        host: Host,
        *,
        version: str,
        ready_deadline: float = 60.0,
        source: Path = REPOSITORY,
        services: int = 0,
        endpoints: int = 0,
    ) -> None:
        """`source` is the directory that holds `dataplane_ref`: another one than this repository's for mutants.

        `services` and `endpoints`: how many Service ports and endpoints of theirs there will be at most.
        """
        super().__init__(host, ready_deadline)
        self.version = version
        self.source = source
        self.services, self.endpoints = services, endpoints

    def refuses(self, configuration: ProxyConfiguration) -> str | None:  # noqa: ARG002
        """It takes every configuration; what it has no use for, such as periods, changes nothing."""
        return None

    def argv(self, place: Place) -> Sequence[str]:
        """The pins are the node's own, and outlive the process: the next one takes them over."""
        kubeconfig = self.host.write_file(place, "kubeconfig", self.host.kubeconfig(place))
        configuration = json.dumps(self.configured.as_dict())
        return [
            *(*PYTHON, "dataplane_ref.controller"),
            f"--kubeconfig={kubeconfig}",
            f"--node={place.name}",
            f"--cluster-cidr={','.join(self.host.cluster_cidrs)}",
            f"--proxy-config={self.host.write_file(place, 'proxy-config.json', configuration)}",
            f"--pins={NODE_BPF}",
            *self._room(),
        ]

    def _room(self) -> list[str]:
        """Larger maps, where so much was announced that they need to be."""
        services, endpoints = self.services + MORE_SERVICES, self.endpoints + MORE_ENDPOINTS
        wanted = (("max-services", services, SERVICES), ("max-endpoints", endpoints, ENDPOINTS))
        return [f"--{option}={number}" for option, number, usual in wanted if number > usual]

    def environment(self) -> Mapping[str, str]:
        """Compiled once, and kept: three controllers start at the same time."""
        return {"PYTHONPATH": str(self.source), "PYTHONDONTWRITEBYTECODE": ""}

    def is_up(self, node: str) -> bool:
        """Whether it has programmed what the API server had when it started."""
        return self.is_healthy(node, HEALTH_PORT)

    def rules(self, node: str) -> Mapping[str, str]:
        """The maps of the node in words."""
        command = (*PYTHON, "dataplane_ref.show", f"--pins={NODE_BPF}")
        return {"bpf maps": self.host.outputs(node, [command])[" ".join(command)]}
