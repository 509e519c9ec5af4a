# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that puts our own announcer in MetalLB's place: `pytest -p tests.announcer.plugin [--tell=LIE]`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from clusters.announcers.metallb import BALANCER_CLASS, MetalLB
from clusters.api import Cluster
from clusters.lab.provider import API_PORT, Lab
from clusters.lab.topology import UPLINK
from clusters.proxies.base import NodeProcesses, Place
from plugins.options import Settings
from plugins.session import SETTINGS
from tests.announcer.announcer import LIES

REPOSITORY = Path(__file__).resolve().parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tell", choices=LIES, help="make the announcer do something wrong")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Ours(config.getoption("--tell")))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Requirements about announcers apply, though no option asks for MetalLB's."""
    session.config.stash[SETTINGS] = replace(session.config.stash[SETTINGS], announcer="ours")


class Ours:
    """The announcer that plumbline's hook asks for."""

    def __init__(self, lie: str | None) -> None:
        self._lie = lie

    def pytest_plumbline_announcer(self, settings: Settings, cluster: Cluster) -> "OurAnnouncer":
        assert isinstance(cluster, Lab)
        return OurAnnouncer(cluster, settings.ready_deadline, self._lie)


class OurAnnouncer(MetalLB):
    """tests/announcer/announcer.py on every node."""

    name = "our-announcer"

    def __init__(self, lab: Lab, ready_deadline: float, lie: str | None) -> None:
        NodeProcesses.__init__(self, lab, ready_deadline)
        self._macs = {node.name: node.host.mac for node in lab.plan.nodes}
        self._lie = lie

    def start(self) -> None:
        NodeProcesses.start(self)

    def is_up(self, _node: str) -> bool:
        return True

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(REPOSITORY)}

    def argv(self, place: Place) -> Sequence[str]:
        peers = ",".join(f"{other.name}={other.ipv4}" for other in self.host.places if other != place)
        return [
            *(sys.executable, "-m", "tests.announcer.announcer"),
            f"--node={place.name}",
            f"--mac={self._macs[place.name]}",
            f"--interface={UPLINK}",
            f"--address={place.ipv4}",
            f"--peers={peers}",
            f"--class={BALANCER_CLASS}",
            f"--server=http://127.0.0.1:{API_PORT}",
            *([f"--lie={self._lie}"] if self._lie else []),
        ]
