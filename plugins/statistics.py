# SPDX-License-Identifier: Apache-2.0
"""How evenly endpoints are chosen: null models, sample sizes, and what they can notice. Pure: counts in, chances out.

One level of significance holds for every check: a fair proxy fails one of them once in a million. Sample sizes are
not chosen but computed, from the least effect that must be noticed with a chance of 0.9999. Nothing is tried again.
docs/statistics.md lists every check with its numbers.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

ALPHA = 1e-6
"""The chance that a fair proxy fails a check."""
POWER = 0.9999
"""The least chance that a proxy with the stated effect fails it."""
LEAST_EXPECTED = 12
"""Flows that the rarest endpoint is expected to get at least: below, chi-square's tail is not to be trusted."""

Effect = Literal["half", "none", "double"]
FACTORS = {"half": 0.5, "none": 0.0, "double": 2.0}


@dataclass(frozen=True, slots=True)
class Spread:
    """A chi-square test of shares: those a fair chooser gives, and those that must be noticed."""

    fair: tuple[float, ...]
    unfair: tuple[float, ...]

    @classmethod
    def even(cls, endpoints: int, effect: Effect) -> "Spread":
        """Equal shares; to be noticed: one endpoint gets half, none, or double of what each other gets."""
        weights = (FACTORS[effect], *[1.0] * (endpoints - 1))
        total = sum(weights)
        return cls((1 / endpoints,) * endpoints, tuple(weight / total for weight in weights))

    @classmethod
    def coarse(cls, endpoints: int) -> "Spread":
        """Equal shares; to be noticed: a quarter of the endpoints get half, as by a remainder of too few bits."""
        few = endpoints // 4
        total = few / 2 + endpoints - few
        unfair = (*[0.5 / total] * few, *[1 / total] * (endpoints - few))
        return cls((1 / endpoints,) * endpoints, unfair)

    @property
    def flows(self) -> int:
        """The sample size: what the effect needs, and enough for the approximation."""
        from scipy.special import chdtri, chndtrinc

        freedom = len(self.fair) - 1
        critical = chdtri(freedom, ALPHA)
        needed = float(chndtrinc(critical, freedom, 1 - POWER)) / self._distance
        return math.ceil(max(needed, LEAST_EXPECTED / min(self.fair)))

    @property
    def power(self) -> float:
        """The chance to notice the effect with so many flows."""
        from scipy.special import chdtri, chndtr

        freedom = len(self.fair) - 1
        return 1 - float(chndtr(chdtri(freedom, ALPHA), freedom, self.flows * self._distance))

    @property
    def _distance(self) -> float:
        return sum((unfair - fair) ** 2 / fair for fair, unfair in zip(self.fair, self.unfair, strict=True))

    def chance(self, counts: Sequence[int]) -> float:
        """How often a fair chooser gives counts that are at least as uneven as these."""
        from scipy.special import chdtrc

        if len(counts) != len(self.fair):
            raise ValueError(f"{len(counts)} counts for {len(self.fair)} endpoints")
        total = sum(counts)
        statistic = sum(
            (seen - total * fair) ** 2 / (total * fair) for seen, fair in zip(counts, self.fair, strict=True)
        )
        return float(chdtrc(len(counts) - 1, statistic))


@dataclass(frozen=True, slots=True)
class Repeats:
    """An exact test of how often a choice is the same as the one before it.

    Of independent and equally likely choices each repeats the one before with the chance 1/k. To be noticed: half as
    many repeats, or half as many again.
    """

    endpoints: int

    @property
    def fair(self) -> float:
        return 1 / self.endpoints

    @property
    def flows(self) -> int:
        """The sample size: by the normal approximation, which `power` then checks exactly."""
        from scipy.special import ndtri

        deviate, other = -float(ndtri(ALPHA / 2)), float(ndtri(POWER))
        widest = max(
            (deviate * math.sqrt(self.fair * (1 - self.fair)) + other * math.sqrt(unfair * (1 - unfair)))
            / abs(unfair - self.fair)
            for unfair in self.unfair
        )
        return math.ceil(1.05 * widest**2) + 1

    @property
    def unfair(self) -> tuple[float, float]:
        return self.fair / 2, min(1.0, self.fair * 1.5)

    @property
    def power(self) -> float:
        """The lesser of the chances to notice either effect."""
        from scipy.special import bdtr, bdtrc

        trials = self.flows - 1
        low = next(count for count in range(trials) if bdtr(count + 1, trials, self.fair) > ALPHA / 2)
        high = next(count for count in range(trials, 0, -1) if bdtrc(count - 2, trials, self.fair) > ALPHA / 2)
        rare, often = self.unfair
        return float(min(bdtr(low, trials, rare), bdtrc(high - 1, trials, often)))

    def chance(self, choices: Sequence[object]) -> float:
        """How often independent choices would repeat so seldom, or so often, in this row."""
        from scipy.special import bdtr, bdtrc

        trials = len(choices) - 1
        same = sum(one == other for one, other in pairwise(choices))
        below, above = bdtr(same, trials, self.fair), bdtrc(same - 1, trials, self.fair) if same else 1.0
        return min(1.0, 2 * float(min(below, above)))


def shared_by_weight(weights: Sequence[int], flows: int, *, ahead: int) -> list[int]:
    """A simulation of endpoints that each new flow compares, none ending: how many flows each has at last.

    The next flow goes to the least (active + `ahead`) / weight: `ahead` 0 is least connections, 1 the shortest
    expected delay. Ties go to the first; only weights that leave no tie at the end tell of one outcome.
    """
    active = [0] * len(weights)
    for _ in range(flows):
        best = min(range(len(weights)), key=lambda place: ((active[place] + ahead) / weights[place], place))
        active[best] += 1
    return active


Rule = Callable[[Sequence[int], Sequence[int]], frozenset[int]]
"""A null model that leaves little to chance: flows at each endpoint and the choices so far → who may be next."""


@dataclass(frozen=True, slots=True)
class Following:
    """Whether choices follow a rule: the first of them (from 1) that does not, and how often random ones would."""

    broken_at: int | None
    blind: float

    @classmethod
    def of(cls, rule: Rule, endpoints: int, choices: Sequence[int]) -> "Following":
        """Choices are places from 0, of flows that were opened one after the other and did not end."""
        active, blind, broken = [0] * endpoints, 1.0, None
        for number, choice in enumerate(choices, start=1):
            allowed = rule(active, choices[: number - 1])
            if choice not in allowed and broken is None:
                broken = number
            blind *= len(allowed) / endpoints
            active[choice] += 1
        return cls(broken, blind)


def fewest(active: Sequence[int], _: Sequence[int]) -> frozenset[int]:
    """Whoever has the fewest flows: by turns, and by connections, where weights are equal and none ends."""
    return frozenset(place for place, count in enumerate(active) if count == min(active))


def same_endpoint(active: Sequence[int], before: Sequence[int]) -> frozenset[int]:
    """Whoever was first."""
    return frozenset(before[:1]) or fewest(active, before)


def locality(active: Sequence[int], before: Sequence[int]) -> frozenset[int]:
    """An address keeps its endpoint, of weight 1, until that has more flows than its weight while another is idle."""
    return _unless_overloaded(active, frozenset(before[-1:]))


def locality_replicated(active: Sequence[int], before: Sequence[int]) -> frozenset[int]:
    """The same with a set of endpoints, of which the least busy is asked: whoever takes over is added to it."""
    return _unless_overloaded(active, frozenset(before))


def overflow(active: Sequence[int], _: Sequence[int]) -> frozenset[int]:
    """An endpoint of weight 1 takes flows until it has more than its weight, then the next does."""
    begun = frozenset(place for place, count in enumerate(active) if count == 1)
    return begun or frozenset(place for place, count in enumerate(active) if count == 0)


def _unless_overloaded(active: Sequence[int], serving: frozenset[int]) -> frozenset[int]:
    idle = frozenset(place for place, count in enumerate(active) if count == 0)
    least = min((active[place] for place in serving), default=0)
    if not serving or (least > 1 and idle):
        return idle
    return frozenset(place for place in serving if active[place] == least)


def chance_of_counts(counts: Sequence[int]) -> float:
    """How often a random choice gives these counts, whichever endpoint has which: what an exact check cannot tell."""
    total, arrangements = sum(counts), math.factorial(len(counts))
    for same in Counter(counts).values():
        arrangements //= math.factorial(same)
    ways = math.factorial(total)
    for count in counts:
        ways //= math.factorial(count)
    return float(arrangements * ways / len(counts) ** total)


def chance_of_at_least(successes: int, trials: int, chance: float) -> float:
    """How often so many of independent trials succeed, or more."""
    from scipy.special import bdtrc

    return float(bdtrc(successes - 1, trials, chance)) if successes > 0 else 1.0
