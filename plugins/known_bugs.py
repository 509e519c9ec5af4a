# SPDX-License-Identifier: Apache-2.0
"""Bugs of other people's proxies that a failure may look like: `conformance/known_bugs.yaml`.

All they do is add "looks like kubernetes#N" to the text of a failure. It stays a failure.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from clusters.errors import UsageError
from plugins.deviations import ROOT, SCOPE_KEYS, Scope, System, check_keys, entries, named, text

FILE = ROOT / "conformance" / "known_bugs.yaml"
_ISSUE = re.compile(r"(?:[A-Za-z0-9-]+/)?[A-Za-z0-9._-]+#\d+")


@dataclass(frozen=True, slots=True)
class KnownBug:
    """`issue` is as people write it (`kubernetes#12345`, `cloudnativelabs/kube-router#1040`).

    `pattern` is looked for in what was observed.
    """

    issue: str
    scope: Scope
    pattern: re.Pattern[str]

    def __str__(self) -> str:
        project, _, number = self.issue.partition("#")
        repository = project if "/" in project else f"{project}/{project}"
        return f"{self.issue}: https://github.com/{repository}/issues/{number}"

    def is_like(self, requirement: str, system: System, observed: str) -> bool:
        """Whether a failure looks like it."""
        return self.scope.holds(requirement, system) and self.pattern.search(observed) is not None

    @classmethod
    def parse(cls, entry: Any, ids: frozenset[str]) -> Self:
        """Raises ValueError, the end of a sentence."""
        known = SCOPE_KEYS | {"issue", "pattern"}
        check_keys(entry, known, known - {"until"})
        if not _ISSUE.fullmatch(text(entry, "issue")):
            raise ValueError(f"has issue: {entry['issue']!r}, which must look like kubernetes#12345")
        try:
            pattern = re.compile(text(entry, "pattern"))
        except re.error as error:
            raise ValueError(f"has a pattern that is no regular expression: {error}") from None
        return cls(entry["issue"], Scope.parse(entry, ids), pattern)


def load(ids: frozenset[str], file: Path | None = None) -> tuple[KnownBug, ...]:
    """All of them; none without the file. `ids` are those of the requirements. Raises UsageError, one sentence."""
    found = []
    path = file or FILE
    for entry in entries(path) if path.exists() else ():
        try:
            found.append(KnownBug.parse(entry, ids))
        except ValueError as error:
            raise UsageError(f"known_bugs.yaml: {named(entry)} {error}") from None
    return tuple(found)


def looks_like(bugs: Sequence[KnownBug], requirement: str, system: System, observed: str) -> str | None:
    """The known bugs that a failure looks like, or None."""
    return "; ".join(str(bug) for bug in bugs if bug.is_like(requirement, system, observed)) or None
