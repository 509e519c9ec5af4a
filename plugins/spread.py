# SPDX-License-Identifier: Apache-2.0
"""Whether endpoints are chosen as a scheduler promises: counts of a probe's flows, held against `statistics.py`.

Every flow has a source port of its own, every one must be answered, and nothing is tried again.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from clusters.errors import PlumblineError
from clusters.observation import FlowOutcome
from plugins.flows import Flows, Prober, ViolationError
from plugins.services import Target
from plugins.statistics import ALPHA, Effect, Following, Repeats, Rule, Spread, chance_of_at_least, chance_of_counts


def must_be_even(vantage: Prober, targets: Sequence[Target], effect: Effect) -> None:
    """Through each target, every endpoint that the model allows must get an equal share, but for chance.

    One whose share is `effect` of every other's is noticed with the chance `statistics.POWER`.
    """
    __tracebackhide__ = True
    for target in targets:
        allowed = len(vantage.ask(vantage.vantage, *target).answers)
        must_fit(vantage, target, Spread.even(allowed, effect), f"one endpoint with {effect} of each other's share")


def must_fit(vantage: Prober, target: Target, spread: Spread, effect: str) -> None:
    """Open as many flows as the plan needs; what each endpoint gets must be what a fair chooser could have given."""
    __tracebackhide__ = True
    flows = answered(vantage.open(*target, count=spread.flows))
    counts = counts_of(flows)
    note(flows, f"even shares; {spread.flows} flows notice {effect} with a chance of {spread.power:.4f}")
    chance = spread.chance(counts)
    checked(flows, "even shares", spread.flows, chance, f"{effect}, with a chance of {spread.power:.4f}")
    if chance < ALPHA:
        raise ViolationError(
            f"endpoints got {', '.join(map(str, counts))} of {spread.flows} flows, which a fair choice gives with "
            f"a chance of {chance:.1g}, less than {ALPHA:.0e}"
        )


def must_be_independent(vantage: Prober, targets: Sequence[Target]) -> None:
    """Through each target, a choice must be the same as the one before as often as chance has it."""
    __tracebackhide__ = True
    for target in targets:
        repeats = Repeats(len(vantage.ask(vantage.vantage, *target).answers))
        flows = answered(vantage.open(*target, count=repeats.flows))
        note(flows, f"independent choices; half as many repeats or half more, with a chance of {repeats.power:.4f}")
        choices = choices_of(flows)
        chance = repeats.chance(choices)
        checked(flows, "independent choices", len(choices), chance, "half as many repeats, or half more")
        if chance < ALPHA:
            same = sum(one == other for one, other in pairwise(choices))
            raise ViolationError(
                f"{same} of {len(choices) - 1} flows had the endpoint of the flow before, which independent choices "
                f"give with a chance of {chance:.1g}, less than {ALPHA:.0e}"
            )


def must_follow(flows: Sequence[Flows], rule: Rule, model: str) -> None:
    """Of flows to one target, opened one after the other, each must go where the rule lets it."""
    __tracebackhide__ = True
    choices = [choice for one in flows for choice in choices_of(answered(one))]
    places = sorted(str(answer) for answer in flows[0].verdict.answers)
    found = Following.of(rule, len(places), [places.index(choice) for choice in choices])
    notices = f"a random choice, which follows with a chance of {found.blind:.1g}"
    checked(flows[0], model, len(choices), float(found.broken_at is None), notices)
    if found.broken_at is not None:
        before = Counter(choices[: found.broken_at - 1])
        had = ", ".join(str(before[place]) for place in places)
        raise ViolationError(
            f"flow {found.broken_at} went to {choices[found.broken_at - 1]} when {', '.join(places)} had {had} "
            f"flows, which is not {model}"
        )


def must_have_counts(flows: Sequence[Flows], expected: Sequence[int], model: str = "by weight") -> None:
    """What the endpoints got of these flows, fewest first, must be exactly this."""
    __tracebackhide__ = True
    counts = sorted(sum((Counter(choices_of(answered(one))) for one in flows), Counter()).values())
    counts = [0] * (len(expected) - len(counts)) + counts
    exact(flows[0], model, counts, expected)
    if counts != sorted(expected):
        raise ViolationError(
            f"endpoints got {', '.join(map(str, counts))} flows, but should {', '.join(map(str, sorted(expected)))}"
        )


def open_again(vantage: Prober, target: Target, flows: Flows) -> Flows:
    """The same flows once more, each from its own source port.

    A kernel lets connections to several places share a port, and gives such a one to nobody who asks for it: those
    flows are left out. Raises PlumblineError where they are more than a tenth, which proves too little.
    """
    ports = [seen.src.port for seen in flows if seen.src]
    requests = [vantage.request(*target, port) for port in ports]
    seen = vantage.cluster.probe(requests, timeout=vantage.timeout)
    free = [one for one in seen if one.errno != "EADDRINUSE"]
    if len(free) < 0.9 * len(ports):
        raise PlumblineError(f"{len(ports) - len(free)} of {len(ports)} source ports are taken by other connections")
    return vantage.judged(*target, free)


def must_keep_most(before: Flows, after: Flows, *, least: float) -> None:
    """Of the flows whose endpoint is still allowed, at least this share must have it again."""
    __tracebackhide__ = True
    allowed = {str(answer) for answer in answered(after).verdict.answers}
    served = {seen.src: str(seen.served_at) for seen in before}
    pairs = [(served[seen.src], str(seen.served_at)) for seen in after if served.get(seen.src) in allowed]
    kept = sum(one == other for one, other in pairs)
    blind = chance_of_at_least(math.ceil(least * len(pairs)), len(pairs), 1 / max(1, len(allowed)))
    notices = f"a random choice, which keeps so many with a chance of {blind:.1g}"
    checked(after, f"{least:.0%} stay", len(pairs), float(kept >= least * len(pairs)), notices)
    if not pairs or kept < least * len(pairs):
        raise ViolationError(
            f"{kept} of {len(pairs)} flows whose endpoint is still there kept it, but should {least:.0%}"
        )


def choices_of(flows: Flows) -> list[str]:
    """Who answered each flow, in the order in which they were opened."""
    return [str(seen.served_at) for seen in flows]


def counts_of(flows: Flows) -> list[int]:
    """How many flows each endpoint that the model allows has answered, in the order of their addresses."""
    seen = Counter(choices_of(flows))
    return [seen[endpoint] for endpoint in sorted(str(answer) for answer in flows.verdict.answers)]


def answered(flows: Flows) -> Flows:
    """The same flows, of which every one was answered by an allowed endpoint."""
    __tracebackhide__ = True
    flows.must_stay_within_the_verdict()
    unanswered = sum(seen.outcome is not FlowOutcome.REPLY for seen in flows)
    if unanswered:
        raise ViolationError(f"{unanswered} of {len(flows.observations)} flows were not answered")
    return flows


def checked(flows: Flows, model: str, count: int, chance: float, notices: str) -> None:
    """Put a check into the record: the model's chance of what was seen, and what else would have been noticed."""
    flows.record.checks.append({"model": model, "flows": count, "chance": chance, "notices": notices})


def exact(flows: Flows, model: str, counts: Sequence[int], expected: Sequence[int]) -> None:
    """The same of a model that leaves nothing to chance."""
    blind = chance_of_counts(expected)
    fits = float(sorted(counts) == sorted(expected))
    checked(flows, model, sum(expected), fits, f"a random choice, which fits with a chance of {blind:.1g}")


def note(flows: Flows, expected: str) -> None:
    """Say in the record what is expected of the flows together."""
    flows.record.expected = f"{flows.record.expected}\n{expected}"
