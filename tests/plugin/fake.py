# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that puts the fake in the lab's place: `pytest -p tests.plugin.fake [--lie=NAME] [--oracle=…] …`.

The machine is a fake too (`clusters.host.check` finds all it needs), so neither root nor any program is needed.
Everything else is the real thing: options, collection, fixtures, settling, judging, reports, exit status.
"""

from pathlib import Path

import pytest

from clusters import binaries, host
from clusters.api import Cluster
from clusters.host import HostReport
from clusters.store import Binary
from plugins import deviations, known_bugs, settle
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
    parser.addoption("--deviations", metavar="DIR", help="other deviations, of which the fake may be the kube-proxy")
    parser.addoption("--known-bugs", metavar="FILE", help="known bugs in place of those of conformance/")
    parser.addoption("--lie", action="append", default=[], choices=tuple(LIES), help="break the fake dataplane")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(host, "check", lambda _mode, **_: MACHINE)
    if config.getoption("--deviations"):
        patch.setattr(binaries, "find", _any_program)
    for option, module, name in (
        ("--deviations", deviations, "DIRECTORY"),
        ("--known-bugs", known_bugs, "FILE"),
    ):
        if config.getoption(option):
            patch.setattr(module, name, Path(config.getoption(option)))
    config.add_cleanup(patch.undo)
    clock = FakeClock()
    patch.setattr(settle.Clock, "now", lambda _: clock.passed)
    patch.setattr(settle.Clock, "let_pass", lambda _, seconds: clock.let_pass(seconds))
    config.pluginmanager.register(Fake(frozenset(config.getoption("--lie")), clock))
    if config.getoption("--oracle"):
        config.pluginmanager.register(WithOracle(contradicts=config.getoption("--oracle") == "contradicts"))


def _any_program(tool: str, *, version: str | None = None, **_: object) -> Binary:  # noqa: ARG001
    """A kube-proxy of any release: it is never run."""
    return Binary(Path("/bin/sh"), version or binaries.DEFAULT_KUBERNETES, "cache")


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
