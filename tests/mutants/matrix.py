# SPDX-License-Identifier: Apache-2.0
"""Which requirement kills which mutant: kept in docs/mutants.json, told in docs/mutants.md.

Pure but for reading and writing the one file. Two requirements are *told apart* by a mutant that both judged and that
only one of them killed. What no mutant tells apart counts once: who passes the one passes the other.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Self

from tests.mutants.mutant import LISTS, ROOT, Mutant

KEPT = ROOT / "docs" / "mutants.json"
KILLED, PASSED, NOT_JUDGED = "x", ".", " "
# A MUST that was noticed fails, a SHOULD warns.
CAUGHT = ("fail", "warned")
SHOWN = 6


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one mutant: the requirements that judged it, and of them those with a failed test.

    `definition` is the mutant's own text when it was judged; `broken` says why nobody could judge it.
    """

    definition: str
    judged: frozenset[str] = frozenset()
    killers: frozenset[str] = frozenset()
    failed: int = 0
    tests: int = 0
    broken: str | None = None

    @property
    def is_killed(self) -> bool:
        return self.broken is None and bool(self.killers)

    @property
    def is_clean(self) -> bool:
        """Whether everything passed: what the reference as it is has to be."""
        return self.broken is None and not self.killers


@dataclass(slots=True)
class Matrix:
    """Mutants by requirements."""

    rows: dict[str, Row] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path = KEPT) -> Self:
        """What is kept; empty where there is nothing yet."""
        if not path.exists():
            return cls()
        kept = json.loads(path.read_text(encoding="utf-8"))
        return cls({name: _row(kept["requirements"], row) for name, row in kept["mutants"].items()})

    def write(self, path: Path = KEPT) -> None:
        """A letter for each requirement in each mutant's row: x killed, . passed, a blank where it did not judge."""
        names = self.requirements()
        rows = {
            name: {
                "definition": row.definition,
                "judged": "".join(self.letter(name, requirement) for requirement in names),
                "failed": row.failed,
                "tests": row.tests,
            }
            for name, row in sorted(self.rows.items())
            if row.broken is None
        }
        path.write_text(json.dumps({"requirements": names, "mutants": rows}, indent=1) + "\n", encoding="utf-8")

    def requirements(self) -> list[str]:
        """Every requirement that judged something."""
        return sorted(set().union(*(row.judged for row in self.rows.values())))

    def letter(self, mutant: str, requirement: str) -> str:
        """What a requirement made of a mutant."""
        row = self.rows[mutant]
        if requirement in row.killers:
            return KILLED
        return PASSED if requirement in row.judged else NOT_JUDGED

    def restricted_to(self, mutants: Iterable[Mutant]) -> "Matrix":
        """Only the mutants that there still are, as they are now."""
        return Matrix({one.id: self.rows[one.id] for one in mutants if self.is_current(one)})

    def is_current(self, mutant: Mutant) -> bool:
        """Whether a mutant has been judged as it stands."""
        return mutant.id in self.rows and self.rows[mutant.id].definition == definition(mutant)

    def killed(self) -> list[str]:
        """The requirements that kill at least one mutant."""
        return sorted(set().union(*(row.killers for row in self.rows.values())))

    def distinct(self, topic: str = "") -> tuple[list[str], dict[str, list[str]]]:
        """Killing requirements of which mutants tell each from each; and the others, with those they are too like.

        Of one topic, the first word of an id, or of all.

        Found greedily, so that there may be more: those that are like fewest others come first.
        """
        names = [name for name in self.killed() if not topic or name.startswith(f"{topic}.")]
        columns = {name: "".join(self.letter(one, name) for one in self.rows) for name in names}
        like: dict[str, set[str]] = {name: set() for name in columns}
        for one, other in combinations(columns, 2):
            if not _told_apart(columns[one], columns[other]):
                like[one].add(other)
                like[other].add(one)
        chosen: list[str] = []
        for name in sorted(columns, key=lambda name: (len(like[name]), name)):
            if like[name].isdisjoint(chosen):
                chosen.append(name)
        return sorted(chosen), {name: sorted(like[name] & set(chosen)) for name in columns if name not in chosen}


def _told_apart(one: str, other: str) -> bool:
    return any({left, right} == {KILLED, PASSED} for left, right in zip(one, other, strict=True))


def _row(requirements: Sequence[str], kept: Mapping[str, Any]) -> Row:
    letters = dict(zip(requirements, kept["judged"], strict=True))
    judged = frozenset(name for name, letter in letters.items() if letter != NOT_JUDGED)
    killers = frozenset(name for name, letter in letters.items() if letter == KILLED)
    return Row(kept["definition"], judged, killers, kept["failed"], kept["tests"])


def definition(mutant: Mutant | None) -> str:
    """A mutant's own text, so that one that was changed is judged anew."""
    return json.dumps([mutant.file, mutant.old, mutant.new, list(mutant.among)] if mutant else [])


def row_of(mutant: Mutant | None, records: Sequence[Mapping[str, str]], status: int, said: str) -> Row:
    """What a run's records and its end come to.

    A datapath that nobody can judge shows nothing: one that does not load, or does not even serve the sentinel. What
    is only recorded judges nothing.
    """
    caught = Counter(record["id"] for record in records if record["outcome"] in CAUGHT)
    passed = Counter(record["id"] for record in records if record["outcome"] in ("pass", "deviates"))
    tests = caught.total() + passed.total()
    row = Row(definition(mutant), frozenset(caught | passed), frozenset(caught), caught.total(), tests)
    if not tests or (not caught and status != 0):
        last = said.splitlines()[-1] if said else "nothing"
        return Row(row.definition, broken=f"could not be judged (exit status {status}): {last}")
    return row


def table(matrix: Matrix, mutants: Sequence[Mutant], requirements: Sequence[str]) -> str:
    """docs/mutants.md: mutants by their killers, and which of all `requirements` nothing shows or tells apart."""
    judged = [one for one in mutants if one.id in matrix.rows]
    killed = sum(matrix.rows[one.id].is_killed for one in judged)
    distinct, _ = matrix.distinct()
    by_topic = [matrix.distinct(topic) for topic in sorted({name.partition(".")[0] for name in matrix.killed()})]
    within = sum(len(apart) for apart, _ in by_topic)
    too_like = {name: others for _, alike in by_topic for name, others in alike.items()}
    blunt = sorted(set(requirements) - set(matrix.killed()))
    lines = [
        "# Mutants: what goes red when the reference datapath is wrong in one place",
        "",
        f"Generated by `make mutants` from `{LISTS.relative_to(ROOT)}/`: {killed} of {len(mutants)} mutants killed.",
        f"Of {len(requirements)} requirements (those of level record apart) {len(matrix.killed())} kill one, and",
        f"mutants tell {within} of them from every other of their topic, and {len(distinct)} from every other",
        "at all, as far as mutants were judged beyond their topic; what kills the same mutants counts as one.",
        "`docs/mutants.json` has every mutant's row.",
        "",
        "| mutant | what is wrong | where | killed by | failed tests |",
        "|---|---|---|---|---|",
        *(_line(one, matrix.rows[one.id]) for one in judged),
        *(f"| {one.id} | {one.sentence} | `{one.file}` | not judged yet | |" for one in mutants if one not in judged),
    ]
    if too_like:
        lines += ["", "## Not told apart within a topic", ""]
        lines += [
            f"- `{name}` from {', '.join(f'`{other}`' for other in others)}" for name, others in too_like.items()
        ]
    if blunt:
        lines += ["", "## Killing no mutant", "", *(f"- `{name}`" for name in blunt)]
    return "\n".join(lines) + "\n"


def _line(mutant: Mutant, row: Row) -> str:
    # What fewest kill says most about what a mutant breaks; sorted, so that a second run writes the same.
    shown = [f"`{name}`" for name in sorted(row.killers)[:SHOWN]]
    more = len(row.killers) - SHOWN
    killers = ", ".join([*shown, *([f"and {more} more"] if more > 0 else [])])
    if not row.is_killed:
        killers = f"**nobody**{f': {row.broken}' if row.broken else ''}"
    among = f" (among {', '.join(mutant.among)})" if mutant.among else ""
    failed = f"{row.failed} of {row.tests}{among}"
    return f"| {mutant.id} | {mutant.sentence} | `{mutant.file}` | {killers} | {failed} |"
