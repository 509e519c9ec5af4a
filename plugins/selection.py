# SPDX-License-Identifier: Apache-2.0
"""Which requirements a run judges: metadata is complete, levels and families match, steady ones come first."""

import gc
import re
import sys
from collections.abc import Generator
from dataclasses import dataclass

import pytest

from clusters.proxies.configuration import DEFAULT
from plugins.requirements import Requirement, axes_of, configuration_of, release, requirement_of
from plugins.session import CONFORMANCE, SETTINGS

LEVELS = {"core": {"core"}, "extended": {"core", "extended"}, "all": {"core", "extended", "record"}}
GC_THRESHOLDS = (50_000, 20, 20)
OWNERS = pytest.StashKey[dict[str, str]]()
CORE = pytest.StashKey["Core"]()


@dataclass(slots=True)
class Core:
    """The core level as this process collected it: its requirements, how many tests they have, the tests selected."""

    requirements: frozenset[str]
    tests: int
    selected: tuple[str, ...] = ()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """`--requirements` prints from this process alone."""
    if config.option.requirements:
        for name, value in (("numprocesses", None), ("dist", "no"), ("tx", [])):
            if hasattr(config.option, name):
                setattr(config.option, name, value)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.requirements:
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            config.pluginmanager.unregister(terminal)
        config.pluginmanager.register(CollectionErrors())


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Every conformance test judges one requirement, and every id belongs to one test: else one sentence."""
    report = yield
    if report.passed and CONFORMANCE in collector.path.resolve().parents:
        owners = collector.config.stash.setdefault(OWNERS, {})
        tests = [item for item in report.result if isinstance(item, pytest.Item)]
        problem = next((found for item in tests if (found := _problem(item, owners))), None)
        if problem:
            report.outcome, report.longrepr, report.result = "failed", problem, []
    return report


def _problem(item: pytest.Item, owners: dict[str, str]) -> str | None:
    found, test = requirement_of(item), item.nodeid.partition("[")[0]
    if found is None:
        return f"{test} has no @requirement: every conformance test judges one"
    owner = owners.setdefault(found.id, test)
    return None if owner == test else f"requirement {found.id!r} is declared by both {owner} and {test}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop what was not asked for; group by the proxy's configuration, its default first; in a group by `_turn`."""
    judged = [item for item in items if requirement_of(item)]
    core = [found.id for item in judged if (found := requirement_of(item)) and found.level == "core"]
    config.stash[CORE] = Core(frozenset(core), len(core))
    if judged:
        kept = [item for item in items if requirement_of(item) is None or _asked_for(config, item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        groups = {DEFAULT: 0}
        for item in kept:
            groups.setdefault(configuration_of(item), len(groups))
        items[:] = sorted(kept, key=lambda item: (groups[configuration_of(item)], _turn(item)))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which core tests are left after -k and -m; print all requirements for `--requirements`."""
    found = [(item, requirement) for item in session.items if (requirement := requirement_of(item))]
    if CORE in session.config.stash:
        session.config.stash[CORE].selected = tuple(item.nodeid for item, one in found if one.level == "core")
    if session.config.option.requirements:
        lines = {requirement.id: requirement.line() for _, requirement in found}
        sys.stdout.write("".join(f"{lines[name]}\n" for name in sorted(lines)))
    if found:
        # What is imported and collected stays to the end; looking through it again and again is CPU the lab needs.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run nothing when only the list was asked for."""
    return True if session.config.option.requirements and not session.testsfailed else None


class CollectionErrors:
    """With `--requirements` there is no terminal reporter to show why collection failed."""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            sys.stderr.write(f"{report.longreprtext}\n")


def _asked_for(config: pytest.Config, item: pytest.Item) -> bool:
    found = requirement_of(item)
    assert found is not None
    expression = config.option.markexpr or ""
    for special in ("scale", "load"):
        if item.get_closest_marker(special) and not re.search(rf"\b{special}\b", expression):
            return False
    settings = config.stash.get(SETTINGS, None)
    if settings is not None and settings.announcer is None and "announcer" in found.needs:
        return False
    family = axes_of(item).get("family")
    return found.level in LEVELS[config.option.level] and (
        settings is None or family is None or family in settings.families
    )


def is_transition(item: pytest.Item) -> bool:
    """Whether a test changes objects while it runs, and so has them to itself."""
    found = requirement_of(item)
    return found is None or found.arrange is None or found.changes


def _turn(item: pytest.Item) -> int:
    """Steady tests come first, then transitions whose first state is arranged, then those that arrange it themselves.

    Whatever a test of the last kind does to nodes or rules, no Service prepared for another is there to suffer.
    """
    found = requirement_of(item)
    return 2 if found is None or found.arrange is None else int(found.changes)


def not_promised(found: Requirement, promised: tuple[int, int] | None) -> str | None:
    """Why a requirement does not hold for the proxy's release, or None."""
    if promised and release(found.since) > promised:
        return f"holds since Kubernetes {found.since}, and the proxy is {promised[0]}.{promised[1]}"
    if promised and found.until and release(found.until) < promised:
        return f"held until Kubernetes {found.until}, and the proxy is {promised[0]}.{promised[1]}"
    return None


def undeclared(found: Requirement, features: frozenset[str] | None) -> tuple[str, ...]:
    """What a requirement is about that the proxy does not declare; `features` None: nobody says what it has."""
    return tuple(feature for feature in found.features if features is not None and feature not in features)


def unfit(found: Requirement, nodes: int, abilities: frozenset[str]) -> str | None:
    """Why this environment cannot judge a requirement, or None."""
    if nodes < found.nodes_needed():
        return f"needs {found.nodes_needed()} nodes, and the cluster has {nodes}"
    elsewhere = ("nodes:", "proxy-config:")
    missing = [need for need in found.needs if not need.startswith(elsewhere) and need not in abilities]
    if missing:
        return f"the cluster lacks {', '.join(missing)}"
    if found.configuration != DEFAULT and "proxy-restart" not in abilities:
        return f"the proxy's configuration cannot be set from here: {found.configuration}"
    return None
