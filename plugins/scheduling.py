# SPDX-License-Identifier: Apache-2.0
"""Which xdist worker gets which test: those that need the proxy configured in one way stay together.

A configuration costs each worker that has a test of it one restart of the proxy on every node.
"""

import importlib
from typing import Any

import pytest

from clusters.proxies.configuration import DEFAULT
from plugins.requirements import Requirement


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Ours where the user asked for no way of distributing in particular (`-n N` alone)."""
    if config.option.dist != "load":
        return None
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ConfigurationScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        """One test after the other in their order; tests of one configuration, which come last, as one piece."""

        def _split_scope(self, nodeid: str) -> str:
            return configuration_scope(nodeid)

        def remove_node(self, node: Any) -> Any:
            """The test that a worker died in has failed, and is not run again; others of its scope are."""
            units = self.assigned_work[node].values()
            crashed = next(((unit, test) for unit in units for test, done in unit.items() if not done), None)
            if crashed is None:
                return super().remove_node(node)
            unit, test = crashed
            unit[test] = True
            super().remove_node(node)
            return test

    config.option.loadscopereorder = False
    return ConfigurationScheduling(config, log)


def configuration_scope(nodeid: str) -> str:
    """What a test shares a worker with: others of its configuration, or nobody."""
    path, _, name = nodeid.partition("[")[0].partition("::")
    try:
        test = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    except (ImportError, AttributeError):
        return nodeid  # not one of ours, such as a test in a class
    found = [mark.args[0] for mark in getattr(test, "pytestmark", ()) if mark.name == "plumbline_requirement"]
    if not found or not isinstance(found[0], Requirement) or found[0].configuration == DEFAULT:
        return nodeid
    return str(found[0].configuration)
