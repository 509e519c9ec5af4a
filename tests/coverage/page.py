# SPDX-License-Identifier: Apache-2.0
"""Which requirement judges what upstream's own tests judge, and which would have seen a bug of the past.

The two lists are data (`conformance/coverage/`). A requirement names its counterparts itself; a bug names the
requirements that would go red. What nothing judges says why.
"""

import importlib
import inspect
import pkgutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import conformance
from plugins.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "coverage.md"
LISTS = ROOT / "conformance" / "coverage"
# Where upstream's claim can be judged, as conformance/coverage/upstream.yaml explains.
JUDGED = ("here", "by-hand")
ELSEWHERE = {
    "api": "no packet is sent: the API server and its controllers are judged",
    "dns": "a DNS server is judged",
    "node": "a kubelet, a container runtime or an upgrade is judged",
    "balancer": "a real load balancer is judged",
    "out-of-scope": "the pod network is judged, not Services",
}


class CoverageError(Exception):
    """A list that contradicts itself or the requirements; one sentence says where."""


@dataclass(frozen=True, slots=True)
class UpstreamTest:
    """One of Kubernetes' end-to-end tests. `why` says why no requirement stands for one that could be judged."""

    id: str
    title: str
    level: str
    conformance: bool = False
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug of the past: the requirements that would see it, or the key of the reason why none can yet."""

    id: str
    where: str
    bug: str
    seen_by: tuple[str, ...] = ()
    later: str | None = None


def requirements() -> list[Requirement]:
    """Every requirement in `conformance/`, by id."""
    found = {}
    for module in pkgutil.walk_packages(conformance.__path__, "conformance."):
        if module.name.rpartition(".")[2].startswith("test_"):
            for _, test in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
                for mark in getattr(test, "pytestmark", ()):
                    if mark.name == "plumbline_requirement":
                        found[mark.args[0].id] = mark.args[0]
    return [found[name] for name in sorted(found)]


def upstream_tests(text: str | None = None) -> list[UpstreamTest]:
    """The catalogue. Raises CoverageError."""
    entries = yaml.safe_load(text or (LISTS / "upstream.yaml").read_text(encoding="utf-8"))
    return [_made(UpstreamTest, entry) for entry in entries]


def bugs(text: str | None = None) -> tuple[dict[str, str], list[Bug]]:
    """The reasons and the bugs. Raises CoverageError."""
    given = yaml.safe_load(text or (LISTS / "bugs.yaml").read_text(encoding="utf-8"))
    entries = [{**entry, "seen_by": tuple(entry.get("seen_by", ()))} for entry in given["bugs"]]
    return given["reasons"], [_made(Bug, entry) for entry in entries]


def _made(kind: Any, entry: Mapping[str, Any]) -> Any:
    try:
        return kind(**entry)
    except TypeError:
        raise CoverageError(f"{entry.get('id', entry)!r} lacks a field, or has one too many") from None


def problems(
    found: Sequence[Requirement], tests: Sequence[UpstreamTest], reasons: Mapping[str, str], every_bug: Sequence[Bug]
) -> list[str]:
    """In what the lists are not complete, one sentence each."""
    ids = {one.id for one in found}
    titles = {test.title for test in tests}
    counterparts = by_title(found)
    said = [
        f"requirement {one.id} names an upstream test that is none: {title!r}"
        for one in found
        for title in one.upstream
        if title not in titles
    ]
    for test in tests:
        if test.level not in (*JUDGED, *ELSEWHERE):
            said.append(f"upstream test {test.id} has the unknown level {test.level!r}")
        elif test.level in JUDGED and bool(counterparts.get(test.title)) == bool(test.why):
            said.append(f"upstream test {test.id} needs either a requirement or a reason (why)")
    for bug in every_bug:
        said += [f"bug {bug.id} names no requirement: {name!r}" for name in bug.seen_by if name not in ids]
        if bool(bug.seen_by) == bool(bug.later):
            said.append(f"bug {bug.id} needs either requirements (seen_by) or a reason (later)")
        if bug.later and bug.later not in reasons:
            said.append(f"bug {bug.id} has the unknown reason {bug.later!r}")
    return said


def by_title(found: Iterable[Requirement]) -> dict[str, list[str]]:
    """Upstream titles → the requirements that name them."""
    counterparts = defaultdict(list)
    for one in found:
        for title in one.upstream:
            counterparts[title].append(one.id)
    return counterparts


def page(
    found: Sequence[Requirement], tests: Sequence[UpstreamTest], reasons: Mapping[str, str], every_bug: Sequence[Bug]
) -> str:
    """docs/coverage.md."""
    counterparts = by_title(found)
    judged = [test for test in tests if test.level in JUDGED]
    with_one = sum(bool(counterparts.get(test.title)) for test in judged)
    seen = [bug for bug in every_bug if bug.seen_by]
    levels = {level: sum(one.level == level for one in found) for level in ("core", "extended", "record")}
    lines = [
        "# Coverage: upstream's tests, and bugs of the past",
        "",
        "Generated by `make coverage` from the requirements and `conformance/coverage/`.",
        "",
        f"{len(found)} requirements: {', '.join(f'{count} {level}' for level, count in levels.items())}.",
        f"Of Kubernetes' {len(tests)} end-to-end tests of Services {len(judged)} can be judged here,",
        f"and {with_one} of them have a strict counterpart.",
        f"Of {len(every_bug)} bugs that dataplanes have had, requirements would see {len(seen)} in steady state.",
        "",
        "## Upstream's tests",
        "",
        "C: part of Kubernetes' own conformance. Titles without `[sig-network]`.",
        "",
        "| | title | C | requirements |",
        "|---|---|---|---|",
        *(
            f"| {test.id} | {test.title} | {'C' if test.conformance else ''} | "
            f"{_ids(counterparts[test.title]) if counterparts.get(test.title) else f'none: {test.why}'} |"
            for test in judged
        ),
        "",
        "The others:",
        "",
        *(
            f"- {why}: {', '.join(test.id for test in tests if test.level == level)}"
            for level, why in ELSEWHERE.items()
            if any(test.level == level for test in tests)
        ),
        "",
        "## Bugs of the past",
        "",
        "| | reported in | what went wrong | seen by |",
        "|---|---|---|---|",
        *(
            f"| {bug.id} | {bug.where} | {bug.bug} | {_ids(bug.seen_by) or f'later ({bug.later})'} |"
            for bug in every_bug
        ),
        "",
        "Later means:",
        "",
        *(f"- {key}: {sentence}" for key, sentence in reasons.items()),
    ]
    return "\n".join(lines) + "\n"


def _ids(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
