# SPDX-License-Identifier: Apache-2.0
"""Whether requirements regressed since an earlier run: two files `requirements.jsonl`, test by test.

A test is its requirement and its axes. It regressed where it was judged and good, and is violated or unknown now.
What was violated before and still is, is known. Whatever else changed is told, and no reason for an exit status.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusters.errors import UsageError
from plugins.outcomes import FAILING, Outcome

GOOD = frozenset({Outcome.PASS, Outcome.DEVIATES, Outcome.RECORDED, Outcome.WARNED})
BAD = frozenset({Outcome.FAIL, Outcome.UNKNOWN})
KNOWN = BAD | FAILING | {Outcome.KNOWN_FAILURE}
Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of it. `regressions` are what an exit status is for; `known` failed before and still do."""

    regressions: tuple[str, ...]
    known: tuple[str, ...]
    changed: tuple[str, ...]
    missing: int
    compared: int

    def lines(self) -> list[str]:
        """For a terminal, regressions first."""
        counts = f"{len(self.regressions)} regressed, {len(self.known)} failed before too"
        missing = f", {self.missing} of the baseline's not run" if self.missing else ""
        return [
            *(f"regression: {one}" for one in self.regressions),
            *(f"known: {one}" for one in self.known),
            *(f"changed: {one}" for one in self.changed),
            f"baseline: {self.compared} tests compared, {counts}{missing}",
        ]


def read(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The records of an earlier run. Raises UsageError, one sentence."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        records = tuple(json.loads(line) for line in lines)
    except OSError as error:
        raise UsageError(f"--baseline={path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"--baseline={path} is no requirements.jsonl: a line of it is not JSON") from None
    words = {one.word for one in Outcome}
    for record in records:
        if (
            not isinstance(record, dict)
            or not isinstance(record.get("id"), str)
            or record.get("outcome") not in words
        ):
            raise UsageError(f"--baseline={path} is no requirements.jsonl: a line of it has no id, or no outcome")
    if not records:
        raise UsageError(f"--baseline={path} has no tests; give the requirements.jsonl of a run that was judged")
    return records


def compare(now: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> Comparison:
    """Two runs' records, as `requirements.jsonl` has them."""
    mine, theirs = _by_test(now), _by_test(before)
    both = {key: (theirs[key], mine[key]) for key in mine if key in theirs}
    regressions = [key for key, (old, new) in both.items() if new in BAD and old in GOOD]
    known = [key for key, (old, new) in both.items() if new in BAD and old in KNOWN]
    others = [key for key, (old, new) in both.items() if old is not new and key not in {*regressions, *known}]
    return Comparison(
        regressions=tuple(_told(key, both) for key in regressions),
        known=tuple(_told(key, both) for key in known),
        changed=(*(_told(key, both) for key in others), *_new(mine, theirs)),
        missing=len(set(theirs) - set(mine)),
        compared=len(both),
    )


def _by_test(records: Sequence[Mapping[str, Any]]) -> dict[Key, Outcome]:
    found: dict[Key, Outcome] = {}
    for record in records:
        axes = record.get("axes") or {}
        key = record["id"], tuple(sorted((str(name), str(value)) for name, value in axes.items()))
        outcome = Outcome.named(record["outcome"])
        # Where several tests have one requirement and one set of axes, the worst of them counts.
        found[key] = max(found.get(key, outcome), outcome, key=lambda one: (one in BAD, one not in GOOD))
    return found


def _told(key: Key, both: Mapping[Key, tuple[Outcome, Outcome]]) -> str:
    old, new = both[key]
    return f"{_name(key)}: {new}" + (f", was {old}" if old is not new else ", as before")


def _new(mine: Mapping[Key, Outcome], theirs: Mapping[Key, Outcome]) -> Iterator[str]:
    """Failures that the baseline knows nothing of: no regression, and not to be missed."""
    for key, outcome in mine.items():
        if key not in theirs and outcome in BAD:
            yield f"{_name(key)}: {outcome}, and the baseline does not have it"


def _name(key: Key) -> str:
    name, axes = key
    return " ".join([name, *(f"{axis}={value}" for axis, value in axes)])
