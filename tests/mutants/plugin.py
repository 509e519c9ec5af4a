# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that puts a mutant of the reference datapath on the nodes: mode ebpf in everything else.

`pytest -p tests.mutants.plugin --mutant=ID --proxy-mode=ebpf …`. The model and the oracle stay as they are.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from clusters.api import Cluster
from clusters.lab.provider import Lab
from clusters.proxies.reference import Reference
from plugins.options import Settings
from tests.mutants.mutant import MutantError, named

SOURCE = "plumbline_mutant"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutant", metavar="ID", required=True, help="a mutant of tests/mutants/mutants/")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the mutant once, in the controller; workers are told where it is."""
    given = getattr(config, "workerinput", None)
    config.pluginmanager.register(Mutated(Path(given[SOURCE]) if given else _made(config)))


def _made(config: pytest.Config) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="plumbline-mutant-"))
    config.add_cleanup(lambda: shutil.rmtree(directory))
    try:
        (mutant,) = named([config.getoption("--mutant")])
        return mutant.make(directory)
    except MutantError as error:
        raise pytest.UsageError(str(error)) from None


class Mutated:
    """The reference datapath from another directory than this repository's."""

    def __init__(self, source: Path) -> None:
        self.source = source

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[SOURCE] = str(self.source)

    def pytest_plumbline_proxy(self, settings: Settings, cluster: Cluster) -> Reference:
        if settings.proxy != "ebpf":
            raise pytest.UsageError("--mutant changes the reference datapath; add --proxy-mode=ebpf")
        assert isinstance(cluster, Lab)
        return Reference(
            cluster, version=settings.version, ready_deadline=settings.ready_deadline, source=self.source
        )
