# SPDX-License-Identifier: Apache-2.0
"""The `@requirement` and `@everywhere` decorators: one sentence with MUST or SHOULD, and the test that judges it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import pytest

from clusters.proxies.configuration import DEFAULT, ProxyConfiguration

Level = Literal["core", "extended", "record"]
LEVELS: tuple[Level, ...] = get_args(Level)
NEEDS = frozenset(
    {
        "announcer",
        "external-client",
        "lb-route",
        "raw-packets",
        "captures",
        "sctp",
        "bpf",
        "host-rules",
        "proxy-restart",
        "api-faults",
        "disruptive",
        "second-address",
        "service-route",
    }
)
AXES = ("vantage", "protocol", "family", "frontend", "node")
PLACES = ("first", "second", "third")
# How the features are called of which a proxy has one at a time: `scheduler-rr`.
SCHEDULER = "scheduler-"
# Every node has a proxy of its own, so what holds on one says nothing about the others.
ON_EVERY_NODE = tuple(f"{kind}@{place}" for place in PLACES for kind in ("pod", "node"))
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)+")
RELEASE = re.compile(r"1\.\d+")
_NEED = re.compile(r"nodes:[1-9]\d*|proxy-config:\{.*\}")
_CONFIGURATION = "proxy-config:"

Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Requirement:
    """A requirement's metadata; docs/architecture.md says what each field means."""

    id: str
    sentence: str
    strength: Literal["must", "should"]
    level: Level
    since: str
    source: str
    until: str | None = None
    upstream: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    provisional: str | None = None
    arrange: Callable[..., Any] | None = None
    changes: bool = False
    configuration: ProxyConfiguration = DEFAULT

    def line(self) -> str:
        """The line `--requirements` prints."""
        return f"{self.id}\t{self.level}\t{self.since}\t{self.sentence}"

    def nodes_needed(self) -> int:
        """How many nodes the requirement needs (`nodes:N`)."""
        return max((int(need[6:]) for need in self.needs if need.startswith("nodes:")), default=1)


def requirement(
    id: str,  # noqa: A002
    *,
    level: Level | None = None,
    since: str | None = None,
    source: str | None = None,
    must: str | None = None,
    should: str | None = None,
    until: str | None = None,
    upstream: Sequence[str] = (),
    features: Sequence[str] = (),
    needs: Sequence[str] = (),
    after: Sequence[str] = (),
    provisional: str | None = None,
    arrange: Callable[..., Any] | None = None,
    changes: bool = False,
) -> Callable[[Test], Test]:
    """Declare what a test judges. Incomplete or contradictory metadata fails collection with one sentence."""
    configuration, misconfigured = _configuration(needs)
    declared = Requirement(
        id=str(id),
        sentence=must or should or "",
        strength="must" if must else "should",
        level=level or "core",
        since=since or "",
        source=source or "",
        until=until,
        upstream=tuple(upstream),
        features=tuple(features),
        needs=tuple(needs),
        after=tuple(after),
        provisional=provisional,
        arrange=arrange,
        changes=changes,
        configuration=configuration,
    )
    lists = {"upstream": upstream, "features": features, "needs": needs, "after": after}
    given = {"level": level, "since": since, "source": source, "until": until}
    problems = [*_wrong_types(given, lists), *_problems(declared, must, should), *misconfigured]
    if problems:
        raise pytest.Collector.CollectError(f"requirement {id!r}: {problems[0]}")

    def mark(test: Test) -> Test:
        marked: Test = pytest.mark.plumbline_requirement(declared)(test)
        return marked

    return mark


def _wrong_types(given: Mapping[str, object], lists: Mapping[str, object]) -> list[str]:
    """What is absent, or is not what it should be, told before anything is made of it."""
    absent = [f"{field}= is missing" for field in ("level", "since", "source") if given[field] is None]
    wrong = [
        f"{field}= must be a string such as {example}, not {given[field]!r}"
        for field, example in (("since", "'1.26'"), ("until", "'1.30'"), ("source", "'https://…'"))
        if given[field] is not None and not isinstance(given[field], str)
    ]
    letters = [
        f"{field}= must be a list, not the string {one!r}" for field, one in lists.items() if isinstance(one, str)
    ]
    return [*absent, *wrong, *letters]


def _problems(declared: Requirement, must: str | None, should: str | None) -> list[str]:
    problems = []
    if not _ID.fullmatch(declared.id):
        problems.append("the id must be dotted lower-case words such as 'clusterip.reach.every-ready-endpoint'")
    if bool(must) == bool(should):
        problems.append("give either must= or should=, one sentence")
    elif must and " MUST " not in must:
        problems.append("the must= sentence does not say MUST")
    elif should and " SHOULD " not in should:
        problems.append("the should= sentence does not say SHOULD")
    if declared.level not in LEVELS:
        problems.append(f"level must be one of {', '.join(LEVELS)}, not {declared.level!r}")
    problems += [
        f"{field}= must be a Kubernetes release such as '1.26', not {value!r}"
        for field, value in (("since", declared.since), ("until", declared.until))
        if value is not None and not RELEASE.fullmatch(str(value))
    ]
    if not str(declared.source).startswith("https://"):
        problems.append("source= must be the https:// URL of the documentation or KEP that says so")
    if declared.changes and declared.arrange is None:
        problems.append("changes= says that the test changes what arrange= made, and there is no arrange=")
    problems += [
        f"unknown need {need!r}; known are nodes:N, proxy-config:{{…}}, {', '.join(sorted(NEEDS))}"
        for need in declared.needs
        if need not in NEEDS and not _NEED.fullmatch(need)
    ]
    return problems


def _configuration(needs: Sequence[str]) -> tuple[ProxyConfiguration, list[str]]:
    """The proxy configuration that the needs ask for, and what is wrong with how they say it."""
    asked = [need for need in needs if isinstance(need, str) and _NEED.fullmatch(need) and _CONFIGURATION in need]
    if len(asked) > 1:
        return DEFAULT, [f"needs two proxy configurations, {asked[0]!r} and {asked[1]!r}; say them as one"]
    try:
        texts = [need.removeprefix(_CONFIGURATION) for need in asked]
        return (ProxyConfiguration.parse(texts[0]) if texts else DEFAULT), []
    except ValueError as error:
        return DEFAULT, [f"need {asked[0]!r} {error}"]


def everywhere(**axes: Sequence[str]) -> Callable[[Test], Test]:
    """Run a test for every combination of the axes (vantage, protocol, family, …), which never count themselves."""

    def mark(test: Test) -> Test:
        for axis, values in reversed(axes.items()):
            if axis not in AXES:
                raise pytest.Collector.CollectError(f"unknown axis {axis!r}; known are {', '.join(AXES)}")
            indirect = axis in ("vantage", "node")
            test = pytest.mark.parametrize(axis, values, ids=str, indirect=indirect)(test)
        return test

    return mark


def requirement_of(item: pytest.Item) -> Requirement | None:
    """The requirement a test judges, or None for a test that judges none."""
    mark = item.get_closest_marker("plumbline_requirement")
    return mark.args[0] if mark else None


def configuration_of(item: pytest.Item) -> ProxyConfiguration:
    """How the proxy must be configured for a test."""
    found = requirement_of(item)
    return found.configuration if found else DEFAULT


def ids_in(directory: Path) -> frozenset[str]:
    """The ids of the requirements below a directory, told from its text: collection may have left some out.

    Whatever else is written as an id is (in `after`, for instance) counts too.
    """
    written = re.compile(rf'"({_ID.pattern})"')
    return frozenset(
        found[1] for path in directory.rglob("*.py") for found in written.finditer(path.read_text(encoding="utf-8"))
    )


def axes_of(item: pytest.Item) -> Mapping[str, str]:
    """The values of a test's axes."""
    callspec = getattr(item, "callspec", None)
    return {axis: str(value) for axis, value in callspec.params.items()} if callspec else {}


def release(text: str) -> tuple[int, int]:
    """`1.37` or `v1.37.1` as (1, 37). Raises ValueError."""
    major, minor, *_ = text.removeprefix("v").split(".")
    return int(major), int(minor)
