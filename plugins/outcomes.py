# SPDX-License-Identifier: Apache-2.0
"""The outcomes a test of a requirement can have: a closed list, what pytest calls each, and the exit status.

Pure: no pytest, no cluster. Everything that prints, counts or gates goes through this module.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Literal

PytestWord = Literal["passed", "warned", "failed", "xfailed", "skipped", "error"]


class Outcome(Enum):
    """A name, a symbol for dense tables, and the word pytest prints."""

    PASS = ("pass", "✓", "passed")
    DEVIATES = ("deviates", "≈", "passed")
    RECORDED = ("recorded", "•", "passed")
    WARNED = ("warned", "!", "warned")
    KNOWN_FAILURE = ("known-failure", "x", "xfailed")
    FAIL = ("fail", "✕", "failed")
    STALE_KNOWN_FAILURE = ("stale-known-failure", "✕", "failed")
    UNSUPPORTED = ("unsupported", "-", "skipped")
    UNFIT = ("unfit", "~", "skipped")
    BLOCKED = ("blocked", "/", "skipped")
    UNKNOWN = ("unknown", "?", "error")

    def __init__(self, word: str, symbol: str, pytest_word: PytestWord) -> None:
        self.word = word
        self.symbol = symbol
        self.pytest_word = pytest_word

    @classmethod
    def named(cls, word: str) -> "Outcome":
        """The outcome with this name. Raises KeyError."""
        return next(outcome for outcome in cls if outcome.word == word)

    def __str__(self) -> str:
        return self.word


class Status(IntEnum):
    """plumbline's exit statuses (docs/architecture.md); 2, 4 and 5 are pytest's own."""

    JUDGED = 0
    FAILED = 1
    INTERRUPTED = 2
    PLUMBLINE_ERROR = 3
    USAGE = 4
    NOTHING_SELECTED = 5
    INCOMPLETE = 6


FAILING = frozenset({Outcome.FAIL, Outcome.STALE_KNOWN_FAILURE})
NOT_JUDGED = frozenset({Outcome.UNFIT, Outcome.BLOCKED})


@dataclass(frozen=True, slots=True)
class Judged:
    """What one test of a requirement came to."""

    test: str
    requirement: str
    level: str
    outcome: Outcome


def exit_status(judged: Iterable[Judged], core_selected: frozenset[str]) -> Status:
    """The exit status of a run that was not interrupted and selected something.

    `core_selected`: the selected tests of core requirements, so that one that never ran is noticed.
    """
    judged = list(judged)
    outcomes = {one.outcome for one in judged}
    if Outcome.UNKNOWN in outcomes:
        return Status.PLUMBLINE_ERROR
    if outcomes & FAILING:
        return Status.FAILED
    ran = {one.test for one in judged}
    if core_selected - ran or any(one.level == "core" and one.outcome in NOT_JUDGED for one in judged):
        return Status.INCOMPLETE
    return Status.JUDGED
