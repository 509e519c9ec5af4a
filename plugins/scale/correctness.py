# SPDX-License-Identifier: Apache-2.0
"""Of many Services so many are asked that few wrong ones would show: does each answer from one of its own endpoints?

Whether all are right cannot be seen by asking some. But if a part p of all were wrong, k of them chosen at random
would be right with the chance (1 - p)^k: so many are asked that this is 1 %.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clusters.measure import services as named
from clusters.measure.whom import dial
from plugins.scale.bench import Bench
from plugins.scale.more import endpoints, pointed

PART, CONFIDENCE = 0.01, 0.99
CHURNED, MOST_CHURNED = 0.1, 250
"""This part of all Services is given other endpoints, but no more than so many."""
CONNECTIONS = 3
"""To each Service that is asked: one has two endpoints and more."""
SHOWN = 3


def enough(part: float = PART, confidence: float = CONFIDENCE) -> int:
    """So many must be asked. Raises ValueError for what is no part."""
    if not (0 < part < 1 and 0 < confidence < 1):
        raise ValueError(f"neither {part} nor {confidence} may be 0, 1 or beyond")
    return math.ceil(math.log(1 - confidence) / math.log(1 - part))


@dataclass(frozen=True, slots=True)
class Checked:
    """How many Services were asked, of how many; which were wrong, and in which way."""

    asked: int
    all_: int
    wrong: Mapping[int, str]

    @property
    def bound(self) -> str:
        """What is known of all where none was wrong."""
        if self.asked == self.all_:
            return "all of them"
        some = f"{self.asked:,} of {self.all_:,} at random"
        return f"{some}: none wrong means fewer than {PART:.0%} of all, {CONFIDENCE:.0%} sure"

    @property
    def in_words(self) -> str:
        """Those that were wrong, the first of them in full."""
        shown = [f"{named.name(number)} {what}" for number, what in list(self.wrong.items())[:SHOWN]]
        more = len(self.wrong) - len(shown)
        return "; ".join([*shown, *([f"and {more} more"] if more else [])])


def chosen(services: int, seed: int) -> list[int]:
    """The numbers of those that are asked: all, or as many as are enough, without any twice."""
    return sorted(random.Random(seed).sample(range(services), min(services, enough())))  # noqa: S311 - to be repeated


def judged(answers: Mapping[int, Sequence[str | None]], expected: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """Services whose answers are not all from an endpoint of their own, each with a phrase."""
    wrong = {}
    for number, seen in answers.items():
        others = sorted({one for one in seen if one is not None and one not in expected[number]})
        silent = seen.count(None)
        if others:
            wrong[number] = f"answered from {', '.join(others)}, not from {', '.join(expected[number])}"
        elif silent:
            wrong[number] = f"did not answer {silent} of {len(seen)} connections"
    return wrong


def check(bench: Bench, expected: Mapping[int, Sequence[str]]) -> Checked:
    """Ask each of these Services some times."""
    bench.serve("tell")
    dialled = [(bench.service(number), 0) for number in expected for _ in range(CONNECTIONS)]
    answers = dial(bench.stage.traffic, bench.client, dialled)
    by_number = {
        number: answers[place * CONNECTIONS : (place + 1) * CONNECTIONS] for place, number in enumerate(expected)
    }
    return Checked(len(expected), bench.services, judged(by_number, expected))


def before_and_after_churn(bench: Bench) -> Mapping[str, Checked]:
    """Some of all Services, before and after many have got other endpoints."""
    chooser = random.Random(bench.settings.seed + 1)  # noqa: S311 - to be repeated
    several = max(1, min(MOST_CHURNED, round(bench.services * CHURNED)))
    moved = {number: _others(bench, number) for number in sorted(chooser.sample(range(bench.services), several))}
    asked = chosen(bench.services, bench.settings.seed)
    before = check(bench, {number: bench.shape.endpoints(number) for number in asked})
    with pointed(bench, moved):
        after = check(bench, {number: moved.get(number, bench.shape.endpoints(number)) for number in asked})
        all_moved = dict(list(moved.items())[: enough()])
        of_moved = check(bench, all_moved)
    return {
        "before churn": before,
        "after churn": after,
        "those that moved": Checked(of_moved.asked, several, of_moved.wrong),
    }


def _others(bench: Bench, number: int) -> Sequence[str]:
    """Endpoints that the Service has not had."""
    each = bench.shape.each
    known = len(bench.shape.addresses)
    if known >= 2 * each:
        return bench.shape.endpoints(number + 1)
    return endpoints(bench, known, each)


def keep(bench: Bench, found: Mapping[str, Checked]) -> None:
    """A cell for each: how many were wrong."""
    for when, one in found.items():
        bench.cell_of(
            "correctness",
            series=when,
            unit="count",
            better="less",
            values=[float(len(one.wrong))],
            note=one.in_words or one.bound,
        )
