# SPDX-License-Identifier: Apache-2.0
"""A real kube-proxy recovers from everything that the API server can do to it on purpose.

Faults strike the first node's kube-proxy alone. Services are changed while they last: the second node follows at
once, and once they are over the first must too, by the model's judgement of every flow.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clusters.api import Backend
from clusters.binaries import Binary
from clusters.kube import KubeClient
from clusters.lab.provider import Lab
from clusters.proxies.kube_proxy import KubeProxy
from plugins.flows import Prober
from plugins.services import Service
from plugins.settle import POLL_INTERVAL, Deadlines, Settler
from plugins.world import PROTOCOLS, World

# client-go waits 0.8 s before it tries again, then 1.6 s, and so on, each up to doubled at random.
RECOVERY = Deadlines(settle=30.0)
FAULTS = "/plumbline/faults"
LONG = 3_600_000  # milliseconds: what is held so long comes because the fault is ended


@dataclass(frozen=True)
class Trouble:
    """Faults, in the order in which they begin, and whether their node must not follow before they end.

    Those with a count end by striking, the others by being told to.
    """

    faults: Sequence[dict[str, Any]]
    blinds: bool = False


TROUBLES = {
    "cut": Trouble([{"fault": "cut", "count": 6}]),
    "stall": Trouble([{"fault": "stall"}], blinds=True),
    "delay": Trouble([{"fault": "delay", "parameters": {"milliseconds": 300}}]),
    "delay without end": Trouble([{"fault": "delay", "parameters": {"milliseconds": LONG}}], blinds=True),
    "reorder": Trouble([{"fault": "reorder", "parameters": {"milliseconds": LONG}}], blinds=True),
    "gone": Trouble([{"fault": "gone"}]),
    "too many": Trouble(
        [{"fault": "too-many", "selector": {"verbs": ["list", "watch"]}, "count": 3}, {"fault": "cut", "count": 3}]
    ),
    "partial lists": Trouble([{"fault": "partial-list", "count": 3}, {"fault": "gone", "count": 3}]),
}


@contextmanager
def following(kube_proxy: Binary, logs: Path) -> Iterator[World]:
    """A lab whose kube-proxy has settled once."""
    with Lab(nodes=2, pods_per_node=4, log_directory=logs) as lab:
        proxy = KubeProxy(lab, binary=kube_proxy.path, version=kube_proxy.version, mode="iptables")
        settler = Settler(lab, proxy, RECOVERY)
        world = World(lab, settler, families=settler.families, probe_timeout=2.0, after_settling=lambda: None)
        settler.create_sentinel()
        proxy.start()
        assert settler.ready(60.0).done
        yield world


class Faults:
    """The faults of the first node's kube-proxy."""

    def __init__(self, kube: KubeClient, node: str) -> None:
        self._kube = kube
        self._selector = {"userAgent": "kube-proxy", "node": node}

    def begin(self, fault: dict[str, Any]) -> None:
        selector = self._selector | fault.get("selector", {})
        self._kube.request("POST", FAULTS, {**fault, "selector": selector})

    def end(self) -> None:
        """Wait until those with a count are spent, then end all; each must have struck."""
        deadline = time.monotonic() + RECOVERY.settle
        while any(one["count"] and one["active"] for one in self._list()):
            assert time.monotonic() < deadline, self._list()
            time.sleep(POLL_INTERVAL)
        assert all(one["struck"] for one in self._list()), "a fault that never struck shows nothing"
        self._kube.request("DELETE", FAULTS)

    def _list(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self._kube.request("GET", FAULTS)["items"]
        return listed


def await_backend(prober: Prober, service: Service, backend: Backend) -> None:
    """Look until a vantage's flows end at a backend."""
    deadline = time.monotonic() + RECOVERY.settle
    while prober.open(service.cluster_ip("IPv4"), "TCP").backends != {backend.name}:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("name", TROUBLES)
def test_kube_proxy_recovers(name: str, kube_proxy: Binary, tmp_path: Path) -> None:
    with following(kube_proxy, tmp_path) as world:
        faults = Faults(world.cluster.kube, world.nodes[0].name)
        old, new = world.backends(2)
        troubled, spared = world.vantage("pod@first"), world.vantage("pod@second")
        changed, emptied = world.service(endpoints=[old]), world.service(endpoints=[old])
        assert world.settle().done

        for fault in TROUBLES[name].faults:
            faults.begin(fault)
        changed.set_endpoints([new])
        emptied.set_endpoints([])
        added = world.service(endpoints=[new])
        await_backend(spared, added, new)
        await_backend(spared, changed, new)
        if TROUBLES[name].blinds:
            assert troubled.open(changed.cluster_ip("IPv4"), "TCP").backends == {old.name}
        faults.end()

        assert world.settle().done
        for service in (changed, emptied, added):
            for protocol in PROTOCOLS:
                troubled.open(service.cluster_ip("IPv4"), protocol).must_stay_within_the_verdict()
