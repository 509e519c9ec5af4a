# SPDX-License-Identifier: Apache-2.0
"""A value and its limit, measured in turns: limit, value, limit again (A-B-A), some times over.

What a limit does within seconds, the machine does, and whatever was measured in between had its share of it. So a
round counts only if the limit was the same before and after; only the limits are looked at for that, never the value.

A virtual CPU may have two speeds, for seconds each, and what is slowed down is not slowed down evenly. So rounds at
the speed that the machine has had at best are preferred, where there are enough of them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

STEADY = 0.05
"""By so much the limit may move within a round (relative to what it was before)."""
REPEATS = 5
FULL = 0.1
"""A limit that is worse than the run's best by no more than so much was measured at full speed."""
ENOUGH = 3
"""So many steady rounds are a measurement, where the machine allowed no more."""
ATTEMPTS = 2
"""A cell that has too few of them is measured once more, and then given up."""


@dataclass(frozen=True, slots=True)
class Round:
    """One value, and the limit before and after it."""

    value: float
    before: float
    after: float

    @property
    def limit(self) -> float:
        return (self.before + self.after) / 2

    @property
    def moved(self) -> float:
        """By how much the limit did, relative to what it was before."""
        return abs(self.after - self.before) / self.before if self.before else float("inf")

    @property
    def is_steady(self) -> bool:
        return self.moved <= STEADY


@dataclass(slots=True)
class Rounds:
    """What a cell has come to. `all_` are all rounds of the last attempt, `steady` those of any that count."""

    steady: list[Round] = field(default_factory=list)
    all_: list[Round] = field(default_factory=list)

    @property
    def why_unfit(self) -> str:
        """One phrase, empty where it was measured."""
        if len(self.steady) >= ENOUGH:
            return ""
        worst = max(one.moved for one in self.all_)
        moving = sum(not one.is_steady for one in self.all_)
        return (
            f"the limit itself moved by more than {STEADY:.0%} in {moving} of {len(self.all_)} rounds, "
            f"by {worst:.0%} at worst: the machine was not quiet"
        )


@dataclass(slots=True)
class Best:
    """The best that a limit has been in a run, from 0; `more` is whether more is better."""

    more: bool
    value: float = 0.0

    def notice(self, limit: float) -> float:
        """Take it into account; gives it back."""
        better = max if self.more else min
        self.value = better(self.value or limit, limit)
        return limit

    def is_near(self, limit: float) -> bool:
        """Whether this was measured at full speed."""
        return limit >= self.value / (1 + FULL) if self.more else limit <= self.value * (1 + FULL)


def in_turns(
    measured: Callable[[], float], limit: Callable[[], float], repeats: int = REPEATS, best: Best | None = None
) -> Rounds:
    """Up to `repeats` steady rounds; others are measured again, in all as often as there are repeats.

    Fewer than ENOUGH: everything once more. With `best`, a round that was not at full speed is measured again too,
    and is kept, up to twice as many, where those at full speed are not enough.
    """
    rounds = Rounds()

    def at_full_speed() -> list[Round]:
        return [one for one in rounds.steady if best is None or best.is_near(one.limit)]

    def noticed() -> float:
        return limit() if best is None else best.notice(limit())

    for _ in range(ATTEMPTS):
        rounds.all_.clear()
        before = noticed()
        while len(at_full_speed()) < repeats and len(rounds.all_) < 2 * repeats:
            one = Round(measured(), before, noticed())
            before = one.after
            rounds.all_.append(one)
            if one.is_steady:
                rounds.steady.append(one)
        if len(rounds.steady) >= min(ENOUGH, repeats):
            break
    if len(at_full_speed()) >= min(ENOUGH, repeats):
        rounds.steady = at_full_speed()
    return rounds


@dataclass(slots=True)
class Steal:
    """The share of all CPU time that a hypervisor kept for others while the block ran."""

    share: float = 0.0


@contextmanager
def stolen() -> Iterator[Steal]:
    """Look at it (proc_stat(5)) before and after the block."""
    found = Steal()
    before = _cpu_times()
    try:
        yield found
    finally:
        passed = [after - earlier for after, earlier in zip(_cpu_times(), before, strict=True)]
        found.share = passed[7] / sum(passed) if sum(passed) > 0 else 0.0


def _cpu_times() -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq, steal of all CPUs together, in ticks."""
    first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    return [int(each) for each in first.split()[1:9]]
