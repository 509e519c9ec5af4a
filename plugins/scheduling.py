# SPDX-License-Identifier: Apache-2.0
"""Which xdist worker gets which test: what shares a cost stays together.

A configuration costs each worker that has a test of it one restart of the proxy on every node. The first states of
some transitions at a time are made under one settle (arrange.py).
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from clusters.proxies.configuration import DEFAULT
from plugins.requirements import Requirement

# Transitions whose first states are made together. Each saves most of a settle, and its Services are carried by the
# settles of those before it; a worker that takes as many at a time is not the last one to be busy.
TOGETHER = 8


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Ours where the user asked for no way of distributing in particular (`-n N` alone)."""
    if config.option.dist != "load":
        return None
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class PieceScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        """One piece after the other in their order; most are single tests."""

        _pieces: Mapping[str, str] = {}

        def _split_scope(self, nodeid: str) -> str:
            if not self._pieces:
                self._pieces = pieces(self.collection)
            return self._pieces[nodeid]

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
    return PieceScheduling(config, log)


def pieces(nodeids: Sequence[str]) -> Mapping[str, str]:
    """What each test shares a worker with: others of its configuration, some transitions like it, or nobody.

    `nodeids` are all tests of the run in their order.
    """
    found: dict[str, str] = {}
    prepared = 0
    for nodeid in nodeids:
        requirement = _requirement(nodeid)
        if requirement is not None and requirement.configuration != DEFAULT:
            found[nodeid] = str(requirement.configuration)
        elif requirement is not None and requirement.changes:
            found[nodeid] = f"transitions {prepared // TOGETHER}"
            prepared += 1
        else:
            found[nodeid] = nodeid
    return found


def _requirement(nodeid: str) -> Requirement | None:
    """The requirement of a test; None for one that is not ours, such as a test in a class."""
    path, _, name = nodeid.partition("[")[0].partition("::")
    try:
        test = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    except (ImportError, AttributeError):
        return None
    found = [mark.args[0] for mark in getattr(test, "pytestmark", ()) if mark.name == "plumbline_requirement"]
    return found[0] if found and isinstance(found[0], Requirement) else None
