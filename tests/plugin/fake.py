# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that puts the fake in the lab's place: `pytest -p tests.plugin.fake [--lie=NAME] [--oracle=…] …`.

The machine is a fake too (`clusters.host.check` finds all it needs), so neither root nor any program is needed.
Everything else is the real thing: options, collection, fixtures, settling, judging, reports, exit status.
"""

from pathlib import Path

import pytest

from clusters import host
from clusters.api import Cluster
from clusters.host import HostReport
from plugins import settle
from plugins.options import Settings
from tests.plugin.fake_cluster import FakeClock, FakeCluster
from tests.plugin.fake_oracle import FakeOracle
from tests.plugin.fake_proxy import FakeProxy
from tests.plugin.lies import LIES

MACHINE = HostReport(
    "6.1.0-fake",
    "x86_64",
    "Fake Linux 1",
    {"iptables": "1.8.9", "nft": "1.0.6"},
    "nft",
    iptables_chosen=False,
    rootless=False,
    lacks_bpf="the machine is a fake",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--oracle", choices=("agrees", "contradicts"), help="have a second opinion on the model")
    parser.addoption("--lie", action="append", default=[], choices=tuple(LIES), help="break the fake dataplane")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(host, "check", lambda _mode, **_: MACHINE)
    config.add_cleanup(patch.undo)
    clock = FakeClock()
    patch.setattr(settle.Clock, "now", lambda _: clock.passed)
    patch.setattr(settle.Clock, "let_pass", lambda _, seconds: clock.let_pass(seconds))
    config.pluginmanager.register(Fake(frozenset(config.getoption("--lie")), clock))
    if config.getoption("--oracle"):
        config.pluginmanager.register(WithOracle(contradicts=config.getoption("--oracle") == "contradicts"))


class Fake:
    """The cluster and the proxy that plumbline's hooks ask for."""

    def __init__(self, lies: frozenset[str], clock: FakeClock) -> None:
        self._lies = lies
        self._clock = clock

    def pytest_plumbline_cluster(self, settings: Settings, worker: str) -> FakeCluster:
        return FakeCluster(
            settings.nodes,
            settings.pods_per_node,
            lies=self._lies,
            seed=settings.seed,
            directory=Path(settings.report) / "logs" / worker,
            clock=self._clock,
        )

    def pytest_plumbline_proxy(self, settings: Settings, cluster: Cluster) -> FakeProxy:
        assert isinstance(cluster, FakeCluster)
        return FakeProxy(cluster, settings.settle or "ordered")


class WithOracle:
    """The oracle that plumbline's hook asks for; without it, the machine is one where BPF cannot be loaded."""

    def __init__(self, *, contradicts: bool) -> None:
        self._contradicts = contradicts

    def pytest_plumbline_oracle(self) -> FakeOracle:
        return FakeOracle(contradicts=self._contradicts)
