# SPDX-License-Identifier: Apache-2.0
"""Clients under session affinity, and what becomes of them over time and changes."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from plugins.flows import ViolationError, open_lines
from plugins.held import Line
from plugins.services import MISS
from plugins.settle import Clock


class TooSlowError(Exception):
    """More time has passed than a judgement leaves room for: what was seen shows nothing of the dataplane."""


@dataclass(slots=True)
class Pins:
    """Who connected to what, and by whom each was served the last time, which began at `since`.

    New connections are opened all at once, one for each client.
    """

    lines: Sequence[Line]
    backends: list[frozenset[str]]
    since: float
    clock: Clock

    def must_hold(self, *, within: float | None = None) -> None:
        """Each client's next connection must be served by the endpoint that served its last one.

        `within`: the affinity's timeout in seconds. Once that has passed nobody promises anything, and TooSlowError
        is raised.
        """
        __tracebackhide__ = True
        began = self.clock.now()
        found = open_lines(self.lines, count=1)
        idle = self.clock.now() - self.since
        if within is not None and idle >= within:
            raise TooSlowError(f"clients came back after {idle:.1f} s, but should within {within:.1f} s")
        for flows, before in zip(found, self.backends, strict=True):
            flows.must_reach_exactly(before)
        self.since = began

    def elsewhere(self, lines: Sequence[Line]) -> "Pins":
        """The same clients, line by line, about to connect to something else."""
        if [prober for prober, _ in lines] != [prober for prober, _ in self.lines]:
            raise ValueError("these are other clients")
        return replace(self, lines=lines)

    def must_let_go(self) -> None:
        """At every frontend, not all clients may be with the endpoints that they were with before.

        Raises ValueError where chance alone would keep them there too often: it must not exceed `MISS`.
        """
        __tracebackhide__ = True
        found = open_lines(self.lines, count=1)
        for flows in found:
            flows.must_stay_within_the_verdict()
        for places in self._frontends():
            endpoints = len(found[places[0]].verdict.answers)
            _check_chance(endpoints, len(places))
            if all(found[place].backends == self.backends[place] for place in places):
                found[places[0]].must_stay_within_the_verdict()  # whom the failure is to speak of
                raise ViolationError(f"all {len(places)} clients were served by the endpoints they were with before")

    def must_be_spread(self) -> None:
        """At every frontend, the clients may not all have been with one endpoint.

        Raises ValueError where chance alone would bring them together too often: it must not exceed `MISS`.
        """
        __tracebackhide__ = True
        for places in self._frontends():
            prober, target = self.lines[places[0]]
            _check_chance(len(prober.ask(prober.vantage, *target).answers), len(places) - 1)
            met = frozenset[str]().union(*(self.backends[place] for place in places))
            if len(met) == 1:
                raise ViolationError(f"all {len(places)} clients of {target[0]} were served by {min(met)}")

    def _frontends(self) -> Iterable[list[int]]:
        """The places of lines that go to one frontend, in one protocol."""
        found = defaultdict(list)
        for place, (_, (frontend, protocol)) in enumerate(self.lines):
            found[frontend.ip, frontend.port, protocol].append(place)
        return found.values()


def pinned(lines: Sequence[Line], clock: Clock) -> Pins:
    """Each client's first connections: they must be served, by anybody.

    The second ones count: of lines that share a client's address, and so its affinity, the first ones run at once,
    and need not know of each other.
    """
    __tracebackhide__ = True
    for flows in open_lines(lines, count=1):  # and the first question about a state takes time, which is nobody's
        flows.must_reach_exactly(flows.backends or frozenset({"one backend"}))
    began = clock.now()
    found = open_lines(lines, count=1)
    for flows in found:
        flows.must_reach_exactly(flows.backends or frozenset({"one backend"}))
    return Pins(lines, [flows.backends for flows in found], began, clock)


def _check_chance(endpoints: int, clients: int) -> None:
    """So many clients, each with so many endpoints to choose from evenly, must hardly ever choose as one."""
    if endpoints < 2 or endpoints**-clients > MISS:
        raise ValueError(f"{clients} clients and {endpoints} endpoints leave too much to chance")
