# SPDX-License-Identifier: Apache-2.0
"""Which xdist worker gets which test: what shares a cost stays together.

A configuration costs each worker that has a test of it one restart of the proxy on every node. What tests look at
is arranged for many under one settle (arrange.py), which each worker that has one of them would pay for.
"""

import importlib
import inspect
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pytest

from clusters.proxies.configuration import DEFAULT
from plugins.requirements import Requirement

# States per batch: enough that a level pays for one or two settles, few enough to stay far from the 1,000 endpoints
# at which kube-proxy's iptables mode changes its ways.
BATCH = 64
# Batches for each of several workers, unless that makes them larger: the last ones even out who has more to do.
SHARES = 2
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
                self._pieces = pieces(self.collection, self.numnodes)
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


def pieces(nodeids: Sequence[str], workers: int = 1) -> Mapping[str, str]:
    """What each test shares a worker with: others of its configuration, those arranged with it, or nobody.

    `nodeids` are all tests of the run in their order.
    """
    found: dict[str, str] = {}
    tests = [(nodeid, _requirement(nodeid)) for nodeid in nodeids]
    arranged = batches(tests, workers)
    for nodeid, requirement in tests:
        if requirement is not None and requirement.configuration != DEFAULT:
            found[nodeid] = str(requirement.configuration)
        else:
            found[nodeid] = arranged.get(nodeid, nodeid)
    return found


def batches(tests: Sequence[tuple[str, Requirement | None]], workers: int) -> Mapping[str, str]:
    """Which tests are arranged under one settle: a name for each test that has something arranged.

    `tests` are all of the run in their order, each with its requirement. A batch never spans two configurations.
    """
    arranged = [(nodeid, one) for nodeid, one in tests if one is not None and one.arrange is not None]
    states = dict.fromkeys(_state(nodeid, one) for nodeid, one in arranged if not one.changes)
    most = max(1, min(BATCH, math.ceil(len(states) / (workers * SHARES)))) if workers > 1 else BATCH
    found: dict[str, str] = {}
    seen: dict[tuple[str, bool], dict[Hashable, int]] = {}
    for nodeid, one in arranged:
        among = seen.setdefault((str(one.configuration), one.changes), {})
        number = among.setdefault(nodeid if one.changes else _state(nodeid, one), len(among))
        kind, size = ("transitions", TOGETHER) if one.changes else ("states", most)
        found[nodeid] = f"{one.configuration} {kind} {number // size}"
    return found


def _state(nodeid: str, requirement: Requirement) -> Hashable:
    """What a steady state depends on, as far as a test's name tells."""
    assert requirement.arrange is not None
    takes_axes = len(inspect.signature(requirement.arrange).parameters) > 1
    return requirement.configuration, requirement.arrange, nodeid.partition("[")[2] if takes_axes else ""


def _requirement(nodeid: str) -> Requirement | None:
    """The requirement of a test; None for one that is not ours, such as a test in a class."""
    path, _, name = nodeid.partition("[")[0].partition("::")
    try:
        test = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    except (ImportError, AttributeError):
        return None
    found = [mark.args[0] for mark in getattr(test, "pytestmark", ()) if mark.name == "plumbline_requirement"]
    return found[0] if found and isinstance(found[0], Requirement) else None
