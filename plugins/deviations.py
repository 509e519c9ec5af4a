# SPDX-License-Identifier: Apache-2.0
"""Deviations: behaviour of a proxy that its own documentation, a KEP or a maintainer's decision calls intended.

They are data (`conformance/deviations/*.yaml`), checked when a run begins. One covers a test only if all that the
test found wrong lies within it: the requirement, the proxy's mode and release, the axes, and how the flows ended.
What is merely a bug, however famous, has no place here (`known_bugs.py`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

import yaml

from clusters.errors import UsageError
from clusters.observation import Family, FlowOutcome, Observation, Protocol
from plugins.flows import outcome_of
from plugins.requirements import AXES, release

ROOT = Path(__file__).resolve().parents[1]
DIRECTORY = ROOT / "conformance" / "deviations"
# Whose documentation there is. The reference datapath has no deviation, and a command's are not ours to know.
MODES: Mapping[str, tuple[str, ...]] = {
    "kube-proxy": ("iptables", "ipvs", "nftables"),
    "kube-router": ("ipvs",),
}
# Of the proxy, which numbers its releases as it likes.
_RELEASE = re.compile(r"\d+\.\d+")
VALUES: Mapping[str, tuple[str, ...]] = {"protocol": get_args(Protocol), "family": get_args(Family)}
SCOPE_KEYS = frozenset({"requirement", "proxy", "modes", "since", "until"})


@dataclass(frozen=True, slots=True)
class System:
    """What is judged: a proxy, its mode, and its own release (None where nobody knows it)."""

    proxy: str
    mode: str
    release: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Scope:
    """A requirement, and the proxies of which something is said about it; both releases are included."""

    requirement: str
    proxy: str
    modes: tuple[str, ...]
    since: str
    until: str | None

    def holds(self, requirement: str, system: System) -> bool:
        """Whether it speaks of this requirement and this proxy."""
        if (requirement, system.proxy) != (self.requirement, self.proxy) or system.mode not in self.modes:
            return False
        now = system.release
        return now is not None and release(self.since) <= now and (not self.until or now <= release(self.until))

    @classmethod
    def parse(cls, entry: Mapping[str, Any], ids: frozenset[str]) -> Self:
        """Raises ValueError, the end of a sentence."""
        for key in ("requirement", "proxy", "since"):
            text(entry, key)
        if entry["requirement"] not in ids:
            raise ValueError(f"names the requirement {entry['requirement']!r}, which conformance/ does not have")
        if entry["proxy"] not in MODES:
            raise ValueError(f"names the proxy {entry['proxy']!r}; known are {', '.join(MODES)}")
        modes = texts(entry, "modes", MODES[entry["proxy"]])
        for key in ("since", "until"):
            value = entry.get(key)
            if value is not None and not (isinstance(value, str) and _RELEASE.fullmatch(value)):
                raise ValueError(f"has {key}: {value!r}, which must be a release of {entry['proxy']} such as '1.26'")
        return cls(entry["requirement"], entry["proxy"], modes, entry["since"], entry.get("until"))


@dataclass(frozen=True, slots=True)
class Deviation:
    """One entry. Without `outcomes` it does not matter how flows ended; without an axis, where it was."""

    id: str
    scope: Scope
    sentence: str
    source: str
    axes: Mapping[str, tuple[str, ...]]
    outcomes: tuple[str, ...]

    def covers(
        self, requirement: str, axes: Mapping[str, str], system: System, probes: Iterable[Sequence[Observation]]
    ) -> bool:
        """Whether all that was found wrong lies within it: `probes` are those that were, each as a whole."""
        if not self.scope.holds(requirement, system):
            return False
        return all(self._covers(axes, probe) for probe in probes)

    def _covers(self, axes: Mapping[str, str], probe: Sequence[Observation]) -> bool:
        if self.outcomes and (not probe or not {str(outcome_of(seen)) for seen in probe} <= set(self.outcomes)):
            return False
        where = {axis: {value} for axis, value in axes.items()} | axes_of_probe(probe)
        where["vantage"] |= {axes.get("vantage", "")}
        return all(where.get(axis, set()) & set(values) for axis, values in self.axes.items())

    @classmethod
    def parse(cls, entry: Any, ids: frozenset[str]) -> Self:
        """Raises ValueError, the end of a sentence."""
        known = {"id", "sentence", "source", "axes", "outcomes"} | SCOPE_KEYS
        check_keys(entry, known, known - {"until", "axes", "outcomes"})
        for key in ("id", "sentence", "source"):
            text(entry, key)
        if not entry["source"].startswith("https://"):
            raise ValueError(f"has source: {entry['source']!r}, which must be the https:// URL of what says so")
        axes = entry.get("axes") or {}
        if not isinstance(axes, dict) or not set(axes) <= set(AXES):
            raise ValueError(f"has axes: {axes!r}, which must be a mapping of {', '.join(AXES)} to lists of values")
        outcomes = texts(entry, "outcomes", tuple(str(one) for one in FlowOutcome)) if "outcomes" in entry else ()
        return cls(
            id=entry["id"],
            scope=Scope.parse(entry, ids),
            sentence=entry["sentence"],
            source=entry["source"],
            axes={axis: texts(axes, axis, VALUES.get(axis)) for axis in axes},
            outcomes=outcomes,
        )


def axes_of_probe(probe: Sequence[Observation]) -> dict[str, set[str]]:
    """What a probe says of its place, which may be more than the test's axes do."""
    said = {
        "protocol": {str(seen.protocol) for seen in probe},
        "family": {str(seen.family) for seen in probe},
        "frontend": {seen.frontend.partition(" ")[0] for seen in probe},
    }
    return {axis: values for axis, values in said.items() if values} | {"vantage": {kind_of(seen) for seen in probe}}


def kind_of(seen: Observation) -> str:
    """`outside`, `node` or `pod`."""
    return {None: "outside", seen.vantage: "node"}.get(seen.node, "pod")


def load(ids: frozenset[str], directory: Path | None = None) -> tuple[Deviation, ...]:
    """All of them. `ids` are those of the requirements. Raises UsageError, one sentence."""
    found: list[Deviation] = []
    for path in sorted((directory or DIRECTORY).glob("*.yaml")):
        for entry in entries(path):
            try:
                one = Deviation.parse(entry, ids)
                if any(one.id == other.id for other in found):
                    raise ValueError("has an id that another one has already")
            except ValueError as error:
                raise UsageError(f"{path.name} of the deviations: {named(entry)} {error}") from None
            found.append(one)
    return tuple(found)


def entries(path: Path) -> list[Any]:
    """A file's list. Raises UsageError."""
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(listed, list):
        raise UsageError(f"{path} must be a list of entries")
    return listed


def named(entry: Any) -> str:
    """An entry in a sentence."""
    return repr(entry.get("id") or entry.get("issue") or entry) if isinstance(entry, dict) else repr(entry)


def check_keys(entry: Any, known: Iterable[str], needed: Iterable[str]) -> None:
    """Raises ValueError, the end of a sentence."""
    if not isinstance(entry, dict):
        raise ValueError("must be a mapping")
    unknown, missing = sorted(set(entry) - set(known)), sorted(set(needed) - set(entry))
    if unknown:
        raise ValueError(f"has the unknown key {unknown[0]!r}")
    if missing:
        raise ValueError(f"lacks {missing[0]}")


def text(entry: Mapping[str, Any], key: str) -> str:
    """A text that must be there. Raises ValueError, the end of a sentence."""
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"has {key}: {value!r}, which must be a text (in quotes, if it looks like a number)")
    return value


def texts(entry: Mapping[str, Any], key: str, known: Sequence[str] | None) -> tuple[str, ...]:
    """A list of texts, of those that are known. Raises ValueError, the end of a sentence."""
    values = entry.get(key)
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise ValueError(f"has {key}: {values!r}, which must be a list of texts")
    for value in values:
        if known is not None and value not in known:
            raise ValueError(f"has the unknown value {value!r} in {key}; known are {', '.join(known)}")
    return tuple(values)
