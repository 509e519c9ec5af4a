# SPDX-License-Identifier: Apache-2.0
"""Whether one of many Services is fair to its endpoints, by the null models of statistics.py."""

import random
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clusters.errors import PlumblineError
from clusters.measure import services as named
from clusters.measure.whom import dial
from plugins.requirements import SCHEDULER
from plugins.scale.bench import Bench
from plugins.statistics import ALPHA, Following, Spread, fewest
from plugins.world import UnfitError

ENDPOINTS = 10
REPEATS = 3
SPREAD = Spread.even(ENDPOINTS, "half")
SIMULATIONS = 200
# Schedulers by what their choices are like when every connection is over before the next begins.
AT_RANDOM, BY_TURNS = ("random", "maglev"), ("rr", "wrr")
FAIR_CHOOSER = "a fair chooser, simulated"


@dataclass(frozen=True, slots=True)
class Fairness:
    """One sample: the largest share beside an equal one, and how often a fair chooser is at least as uneven."""

    largest: float
    chance: float
    flows: int

    @property
    def is_fair(self) -> bool:
        return self.chance >= ALPHA


def scheduler_of(mode: str, features: frozenset[str]) -> str:
    """The one that a proxy goes by where a Service asks for none. Raises UnfitError where nobody says which."""
    declared = sorted(name.removeprefix(SCHEDULER) for name in features if name.startswith(SCHEDULER))
    if mode == "ebpf" or "random" in declared:
        return "random"
    if len(declared) == 1 or "rr" in declared:  # kube-router has several, and goes by turns
        return declared[0] if len(declared) == 1 else "rr"
    has = ", ".join(declared) or "none"
    raise UnfitError(f"the proxy does not declare which scheduler it goes by (it has {has})")


def schedules(bench: Bench) -> str:
    """The scheduler of the proxy under test. Raises UnfitError."""
    return scheduler_of(bench.run.proxy.mode, getattr(bench.run.proxy, "features", frozenset()))


def judge(scheduler: str, choices: Sequence[str], endpoints: Sequence[str]) -> Fairness:
    """Of who answered, one connection after the other. Raises UnfitError for a scheduler of another kind."""
    counts = Counter(choices)
    largest = max(counts.values()) * len(endpoints) / len(choices)
    if scheduler in AT_RANDOM:
        return Fairness(largest, SPREAD.chance([counts[one] for one in endpoints]), len(choices))
    if scheduler in BY_TURNS:
        followed = Following.of(fewest, len(endpoints), [endpoints.index(one) for one in choices])
        return Fairness(largest, float(followed.broken_at is None), len(choices))
    raise UnfitError(f"nobody promises equal shares of connections that are over soon with scheduler {scheduler}")


def sample(bench: Bench, number: int, addresses: Sequence[str], endpoint_of: Callable[[str], str] = str) -> Fairness:
    """Connections to the Service with this number and these addresses; `endpoint_of` says whose an address is.

    Raises PlumblineError where others answer, UnfitError where nobody does.
    """
    bench.serve("tell")
    answers = dial(bench.stage.traffic, bench.client, [(bench.service(number), 0)] * SPREAD.flows)
    if failed := answers.count(None):
        raise UnfitError(f"{failed} of {len(answers)} connections failed")
    seen = [one for one in answers if one is not None]
    if others := set(seen) - set(addresses):
        raise PlumblineError(f"{named.name(number)} has answered from {', '.join(sorted(others))}")
    endpoints = sorted({endpoint_of(one) for one in addresses})
    return judge(schedules(bench), [endpoint_of(one) for one in seen], endpoints)


def number_of_last(bench: Bench) -> int:
    """The number of the Service that is now the last one."""
    number = named.number_of(bench.last_service()[0])
    assert number is not None
    return number


def largest_of_fair(scheduler: str, flows: int, endpoints: int, seed: int) -> float:
    """What the largest share of a fair chooser comes to, beside an equal one: the median of simulations."""
    if scheduler in BY_TURNS:
        return -(-flows // endpoints) * endpoints / flows
    chooser = random.Random(seed)  # noqa: S311 - a simulation that can be repeated
    largest = [max(Counter(chooser.choices(range(endpoints), k=flows)).values()) for _ in range(SIMULATIONS)]
    return statistics.median(largest) * endpoints / flows


def twice_the_first(addresses: Sequence[str]) -> Callable[[str], str]:
    """Whose an address is, where the endpoint of the first one has the second one too."""
    return lambda address: addresses[0] if address == addresses[1] else address


def keep(bench: Bench, series: str, found: Sequence[Fairness]) -> None:
    """A cell of the largest shares, beside those of a fair chooser."""
    flows = found[0].flows
    limit = largest_of_fair(schedules(bench), flows, ENDPOINTS, bench.settings.seed)
    chances = ", ".join(f"{one.chance:.2g}" for one in found)
    bench.cell_of(
        "fairness",
        series=series,
        unit="ratio",
        better="less",
        values=[one.largest for one in found],
        limits=[limit] * len(found),
        limited_by=FAIR_CHOOSER,
        note=f"{flows:,} connections to {ENDPOINTS} endpoints; a fair choice is as uneven with a chance of {chances}",
    )
