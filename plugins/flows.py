# SPDX-License-Identifier: Apache-2.0
"""Flows as tests make and judge them: probe, ask the model, compare, and remember both for the report."""

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from clusters.agent.client import Capture, CapturedPacket, HeldConnection, PacedFlow, ProbeRequest
from clusters.api import Backend, Cluster, Link, Vantage
from clusters.observation import Address, Family, FlowOutcome, Observation, Protocol
from dataplane_ref.model import Past, Verdict, judge
from plugins.held import HeldFlows, Line, held
from plugins.record import Record
from plugins.services import Frontend, Service, Target, enough_to_see

# Flows of several vantages in flight at once: enough that all silent ones time out together.
MANY = 512

# What sendto(2) says of a datagram that netfilter, or a queueing discipline (tc), has dropped on its way out.
TOLD_OF_A_DROP = ("EPERM", "ENOBUFS")

Ask = Callable[[Vantage, Frontend, Protocol], Verdict]
# What a flow's next packet may do, given what is known of the flow; and what is then known.
Resume = Callable[[Vantage, Frontend, Protocol, Past], tuple[Verdict, Past]]


class ViolationError(AssertionError):
    """An observation outside its verdict, or a set of observations outside the requirement.

    Where several probes were judged together, `probes` are all that were found wrong, the one it speaks of first.
    """

    probes: tuple[tuple[Observation, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Flows:
    """The flows of one probe: what was seen, what may be seen, and the questions a test asks of them."""

    observations: tuple[Observation, ...]
    verdict: Verdict
    record: Record

    def __iter__(self) -> Iterator[Observation]:
        return iter(self.observations)

    @property
    def backends(self) -> frozenset[str]:
        """Names of the backends that answered."""
        return frozenset(seen.backend for seen in self.observations if seen.backend is not None)

    @property
    def outcomes(self) -> frozenset[FlowOutcome]:
        """How the flows ended."""
        return frozenset(seen.outcome for seen in self.observations)

    def must_stay_within_the_verdict(self) -> "Flows":
        """Every single flow must be allowed by the model."""
        __tracebackhide__ = True
        if not self.observations:
            raise ValueError("no flow was opened, so nothing is proved")
        self.note()
        for number, seen in enumerate(self.observations, start=1):
            problems = problems_of(seen, self.verdict)
            if problems:
                which = f"flow {number} of {len(self.observations)}, from {seen.src}"
                raise ViolationError(f"{'; '.join(problems)} ({which})")
        return self

    def note(self) -> None:
        """From now on, the record speaks of these flows."""
        self.record.saw(self.observations, self.verdict.explain(), summary(self.observations))

    def must_reach_exactly(self, backends: frozenset[str]) -> "Flows":
        """The backends that answered must be these, each at least once, and every flow must have been answered."""
        __tracebackhide__ = True
        self.must_stay_within_the_verdict()
        if self.backends != backends:
            missing, extra = sorted(backends - self.backends), sorted(self.backends - backends)
            raise ViolationError(
                f"backends that answered {len(self.observations)} flows: {', '.join(sorted(self.backends)) or 'none'}"
                + (f"; never reached: {', '.join(missing)}" if missing else "")
                + (f"; must not have answered: {', '.join(extra)}" if extra else "")
            )
        unanswered = sum(seen.outcome is not FlowOutcome.REPLY for seen in self.observations)
        if backends and unanswered:
            raise ViolationError(f"{unanswered} of {len(self.observations)} flows were not answered")
        return self

    def must_reach_all_that_is_allowed(self) -> "Flows":
        """Every endpoint that the model allows must have answered; where it allows none, none has."""
        __tracebackhide__ = True
        self.must_stay_within_the_verdict()
        reached = {str(seen.served_at) for seen in self.observations if seen.served_at}
        missing = {str(endpoint) for endpoint in self.verdict.answers} - reached
        if missing:
            raise ViolationError(f"never reached in {len(self.observations)} flows: {', '.join(sorted(missing))}")
        return self


def judge_all(probes: Iterable[Flows], judge: Callable[[Flows], object]) -> None:
    """Judge every probe, then raise the first violation: what is intended in one must not hide a bug in another."""
    __tracebackhide__ = True
    found: list[tuple[Flows, ViolationError]] = []
    for flows in probes:
        try:
            judge(flows)
        except ViolationError as error:
            found.append((flows, error))
    if found:
        first, violation = found[0]
        first.note()
        violation.probes = tuple(flows.observations for flows, _ in found)
        raise violation


def outcome_of(seen: Observation) -> FlowOutcome:
    """How a flow ended. What a node drops of its own processes' traffic it may tell them: no packet left it."""
    dropped = seen.errno in TOLD_OF_A_DROP and seen.icmp is None
    return FlowOutcome.TIMEOUT if dropped else seen.outcome


def problems_of(seen: Observation, verdict: Verdict) -> list[str]:
    """In what an observation leaves its verdict, one sentence each; empty when it is allowed."""
    return judge(
        verdict,
        outcome=str(outcome_of(seen)),
        served_at=seen.served_at,
        client_seen=seen.client_seen,
        reply_src=seen.reply_src,
        dst=seen.dst,
        icmp=seen.icmp,
    )


def summary(observations: Sequence[Observation]) -> str:
    """What was observed, in one line: how many flows ended how, and at whom."""
    counts = Counter(
        (
            str(seen.outcome),
            seen.backend or seen.errno or "",
            f" ICMP {seen.icmp.type}/{seen.icmp.code}" if seen.icmp else "",
        )
        for seen in observations
    )
    return ", ".join(
        f"{count} × {outcome}{' from' if outcome == 'reply' else ''} {who}{icmp}".rstrip()
        for (outcome, who, icmp), count in sorted(counts.items())
    )


@dataclass(frozen=True, slots=True)
class Prober:
    """A vantage that can probe: what tests know as `vantage`."""

    vantage: Vantage
    cluster: Cluster
    ask: Ask
    resume: Resume
    record: Record
    timeout: float

    @property
    def name(self) -> str:
        return self.vantage.name

    @property
    def kind(self) -> str:
        return self.vantage.kind

    @property
    def node(self) -> str | None:
        return self.vantage.node

    def own_addresses(self, family: Family) -> frozenset[str]:
        """Every address that is the vantage's own: of a node, those towards its pods too."""
        for node in self.cluster.nodes:
            if self.vantage == node.vantage:
                return node.own_addresses(family)
        return frozenset({self.vantage.addresses[family]})

    def open(
        self, frontend: Frontend, protocol: Protocol, *, count: int = 1, source_port: int | None = None
    ) -> Flows:
        """Send `count` fresh flows (each from a port of its own unless one is fixed) and ask what they may do."""
        verdict = self.ask(self.vantage, frontend, protocol)
        request = self.request(frontend, protocol, source_port)
        return self._flows(self.cluster.probe([request] * count, timeout=self.timeout), verdict)

    def hold(
        self, frontend: Frontend, protocol: Protocol, *, source_port: int | None = None, request_size: int = 0
    ) -> HeldConnection:
        """Open one connection (TCP) or fixed flow (UDP) and keep it for later exchanges."""
        return self.cluster.hold(self.request(frontend, protocol, source_port), request_size=request_size)

    def paced(self, frontend: Frontend, protocol: Protocol, *, interval: float = 0.02) -> PacedFlow:
        """Send on one fixed flow every `interval` seconds."""
        return self.cluster.paced(self.request(frontend, protocol, None), interval)

    def judged(self, frontend: Frontend, protocol: Protocol, observations: Sequence[Observation]) -> Flows:
        """Observations that came of a held or paced flow, with what they may be now."""
        return self._flows(observations, self.ask(self.vantage, frontend, protocol))

    def continued(
        self, frontend: Frontend, protocol: Protocol, seen: Observation, past: Past | None
    ) -> tuple[Flows, Past | None]:
        """What came of a flow's next packet, with what it may do now; without a past it is as new."""
        if past is None:
            return self.judged(frontend, protocol, [seen]), None
        verdict, past = self.resume(self.vantage, frontend, protocol, past)
        return self._flows([seen], verdict), past

    def captured(
        self, frontend: Frontend, protocol: Protocol, *, count: int = 1
    ) -> tuple[Flows, list[CapturedPacket]]:
        """Open flows while recording every packet that passes the vantage's interfaces."""
        with self.capture() as capture:
            flows = self.open(frontend, protocol, count=count)
        return flows, list(capture.packets)

    def capture(self) -> Capture:
        """Record the packets that pass the vantage's interfaces."""
        return self.cluster.capture(self.vantage)

    def inject(self, packet: bytes, link: Link | None = None) -> None:
        """Send an IP packet from here exactly as it is; by a link, whatever the routes say."""
        self.cluster.inject(self.vantage, bytes(packet), link)

    def _flows(self, observations: Sequence[Observation], verdict: Verdict) -> Flows:
        return Flows(tuple(observations), verdict, self.record)

    def request(self, frontend: Frontend, protocol: Protocol, source_port: int | None) -> ProbeRequest:
        """The agent's view of a flow from here."""
        return ProbeRequest(
            vantage=self.vantage.name,
            node=self.vantage.node,
            netns=self.vantage.place,
            frontend=str(frontend),
            protocol=protocol,
            dst=Address(frontend.ip, frontend.port),
            sport=source_port,
        )


@dataclass(frozen=True, slots=True)
class Everywhere:
    """Several vantages that probe at once: where silence is expected, it is waited for only once."""

    probers: tuple[Prober, ...]

    def open_each(self, targets: Sequence[Target], *, count: int | None = None) -> list[Flows]:
        """`count` flows from every vantage to every target; as many as it takes to see every allowed endpoint."""
        return open_lines(self.lines(targets), count=count)

    def each_must_reach_exactly(self, targets: Sequence[Target], whom: Service | Collection[Backend]) -> None:
        """From every vantage, through every target, these backends (of a Service: all that are ready) must answer."""
        __tracebackhide__ = True
        names = whom.ready_backends if isinstance(whom, Service) else frozenset(backend.name for backend in whom)
        judge_all(
            self.open_each(targets, count=enough_to_see(len(names))), lambda flows: flows.must_reach_exactly(names)
        )

    def each_must_reach_all_that_is_allowed(self, targets: Sequence[Target]) -> None:
        """From every vantage, through every target, what answers must be all that the model allows there."""
        __tracebackhide__ = True
        judge_all(self.open_each(targets), Flows.must_reach_all_that_is_allowed)

    def each_must_stick_to_one(self, targets: Sequence[Target], *, count: int) -> None:
        """From every vantage, through every target, one and the same backend must answer all of `count` flows.

        The first flow ends before the others start: nobody promises that simultaneous ones know of each other.
        """
        __tracebackhide__ = True
        firsts = self.open_each(targets, count=1)
        for first, others in zip(firsts, self.open_each(targets, count=count - 1), strict=True):
            first.must_reach_exactly(first.backends or frozenset({"one backend"}))
            others.must_reach_exactly(first.backends)

    def each_must_stay_within_the_verdict(self, targets: Sequence[Target], *, count: int) -> None:
        """From every vantage, through every target, `count` flows may do only what the model allows."""
        __tracebackhide__ = True
        judge_all(self.open_each(targets, count=count), Flows.must_stay_within_the_verdict)

    def lines(self, targets: Sequence[Target]) -> list[Line]:
        """Every vantage with every target."""
        return [(prober, target) for prober in self.probers for target in targets]

    def hold_each(self, targets: Sequence[Target]) -> AbstractContextManager[HeldFlows]:
        """One flow from every vantage to every target, each kept with its source port."""
        return held(self.lines(targets))


def open_lines(lines: Sequence[Line], *, count: int | None = None) -> list[Flows]:
    """`count` flows for each line, all at once; as many as it takes to see every allowed endpoint."""
    if not lines:
        raise ValueError("no target was named, so nothing is proved")
    first, _ = lines[0]
    verdicts = [prober.ask(prober.vantage, *target) for prober, target in lines]
    counts = [enough_to_see(len(verdict.answers)) if count is None else count for verdict in verdicts]
    requests: list[ProbeRequest] = []
    for (prober, target), times in zip(lines, counts, strict=True):
        requests += [prober.request(*target, None)] * times
    seen = iter(first.cluster.probe(requests, timeout=first.timeout, concurrency=MANY))
    return [
        Flows(tuple(itertools.islice(seen, times)), verdict, prober.record)
        for (prober, _), verdict, times in zip(lines, verdicts, counts, strict=True)
    ]
