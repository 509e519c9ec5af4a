# SPDX-License-Identifier: Apache-2.0
"""One question put to the model and to the datapath, and the differences between their answers."""

from collections.abc import Iterator
from dataclasses import dataclass

from dataplane_ref.model import Endpoint, Flow, FromNode, FromOutside, FromPod, Verdict, verdict
from dataplane_ref.model.addresses import canonical, family_of
from tests.datapath.bench import Bench
from tests.datapath.compiled import Compiled, Decision, Meeting
from tests.datapath.generate import Question
from tests.datapath.network import PODS
from tests.datapath.node import DROP, NEXT, PASS, REDIRECT
from tests.datapath.packets import ends, internet_bytes, transport_bytes

OUTCOMES = {"ANSWERED_BY": "reply", "REFUSED": "refused", "DROPPED": "timeout"}
KINDS = {1: "ClusterIP", 2: "node port", 3: "externalIP", 4: "load balancer"}
INTERNAL_LOCAL, EXTERNAL_LOCAL = 1, 2
SPORT = 40000


@dataclass(frozen=True)
class Answer:
    """What the model says, what the datapath says, in which ways they differ, and what kind of case it was."""

    model: Verdict
    decision: Decision
    differences: tuple[str, ...]
    classes: frozenset[str]


def ask(bench: Bench, question: Question) -> Answer | None:
    """Both answers; None where such a flow cannot be opened at all."""
    state, flow = question.state, question.flow
    node = Compiled(bench, state.node(question.node), state.config)
    meeting = node.meet(state, flow)
    if meeting is None:
        return None
    model = verdict(state, flow)
    node.show(state)
    node.only_decide(True)
    node.send(meeting, flow, SPORT)
    decision = node.decision
    differences = [*_differences(question, model, decision)]
    node.only_decide(False)
    acting = _Acting(node, question, meeting, model)
    if not differences:
        differences += acting.differences()
    return Answer(model, decision, tuple(differences), frozenset(_classes(question, model, decision, acting)))


def _differences(question: Question, model: Verdict, decision: Decision) -> Iterator[str]:
    if decision.outcome == "PASSED":
        # What is not proxied ends as the network will have it, which the model says by allowing "unreachable".
        if "unreachable" not in model.outcomes:
            yield f"the datapath lets it pass, but it should be {_words(model.outcomes)} ({model.reason})"
        return
    outcome = OUTCOMES[decision.outcome]
    if outcome not in model.outcomes:
        yield f"the datapath says {outcome} {decision.reason}, but should {_words(model.outcomes)} ({model.reason})"
    if decision.endpoint is None:
        return
    if not decision.allowed <= set(model.answers):
        yield f"the datapath may choose {_words(decision.allowed)}, but should only {_words(model.answers)}"
    elif _is_single(question, model) and decision.allowed != set(model.answers):
        yield f"the datapath chooses only {_words(decision.allowed)}, but should of {_words(model.answers)}"
    if decision.endpoint not in decision.allowed and not decision.by_affinity:
        yield f"the datapath has chosen {decision.endpoint}, which is not in its own set"
    rule = model.answers.get(decision.endpoint)
    if rule and not rule.allows(canonical(decision.client)):
        yield f"{decision.endpoint} would see {decision.client}, but should {rule}"


def _is_single(question: Question, model: Verdict) -> bool:
    """Whether the model has one behaviour, so that all of its endpoints must be chosen from."""
    state, flow = question.state, question.flow
    vips = state.frontends.by_vip.get((flow.dst, flow.port, flow.protocol), ())
    node_ports = state.frontends.by_node_port.get((family_of(flow.dst), flow.port, flow.protocol), ())
    is_foreign_pod = isinstance(flow.entry, FromPod) and flow.entry.node != question.node
    return len(vips or node_ports) == 1 and "unreachable" not in model.outcomes and not is_foreign_pod


class _Acting:
    """The flow's packets sent in earnest: the first, the endpoint's reply, and another flow's first."""

    def __init__(self, node: Compiled, question: Question, meeting: Meeting, model: Verdict) -> None:
        self.node, self.flow, self.meeting, self.model = node, question.flow, meeting, model
        self.sticks = False

    def differences(self) -> list[str]:
        first = self.node.send(self.meeting, self.flow, SPORT, flags="S")
        decision = self.node.decision
        if decision.outcome == "PASSED":
            return [] if first.action == NEXT else [f"a packet that passes ended with action {first.action}"]
        if decision.outcome == "DROPPED":
            return [] if first.action == DROP else [f"a dropped packet ended with action {first.action}"]
        if decision.outcome == "REFUSED":
            return self._refused(first.action, first.packet)
        return [*self._answered(decision, first.action, first.packet)]

    def _refused(self, action: int, packet: bytes) -> list[str]:
        form = self.model.must_refuse_with
        at = 34 if packet[12] == 8 else 54
        if action != REDIRECT or (form and (packet[at], packet[at + 1]) != (form.type, form.code)):
            return [f"a refusal ended with action {action} and ICMP type {packet[at]} code {packet[at + 1]}"]
        return []

    def _answered(self, decision: Decision, action: int, packet: bytes) -> Iterator[str]:
        if action not in (PASS, REDIRECT):
            yield f"an answered flow's packet ended with action {action}, {self.node.bench.counted}"
            return
        source, sport, address, port = ends(packet)
        if Endpoint(address, port) != decision.endpoint:
            yield f"the packet was sent to {address} port {port}, and not to {decision.endpoint}"
        rule = self.model.answers.get(Endpoint(address, port))
        if rule is None or not rule.allows(source):
            yield f"{address} port {port} sees {source}, but should {rule}"
        yield from self._reply(source, sport, address, port)
        again = self.node.send(self.meeting, self.flow, SPORT, flags="A")
        if ends(again.packet) != (source, sport, address, port):
            yield f"the flow's next packet went {ends(again.packet)}, the first {(source, sport, address, port)}"
        if self.model.affinity_s is None:
            return
        self.node.send(self.meeting, self.flow, SPORT + 1)
        second = self.node.decision
        self.sticks = second.by_affinity
        if second.endpoint != decision.endpoint or not second.by_affinity:
            yield f"under ClientIP affinity the next flow goes to {second.endpoint}, not to {decision.endpoint}"

    def _reply(self, source: str, sport: int, address: str, port: int) -> Iterator[str]:
        """The endpoint's answer, if its packets pass this node at all."""
        part = transport_bytes(self.flow.protocol, address, source, port, sport, "SA")
        data = internet_bytes(address, source, self.flow.protocol, part)
        out = address in self.node.view.addresses
        back = self.node.bench.send(data, by="lo" if out else PODS, out=out)
        expected = (self.flow.dst, self.flow.port, self.meeting.source, SPORT)
        if ends(back.packet) != expected or back.action not in (PASS, REDIRECT):
            yield f"the reply became {ends(back.packet)} with action {back.action}, but should {expected}"


def _classes(question: Question, model: Verdict, decision: Decision, acting: _Acting) -> Iterator[str]:
    flow, node = question.flow, question.node
    yield f"{flow.protocol} over {family_of(flow.dst)}"
    yield from (f"from {vantage}" for vantage in [_vantage(flow, node)])
    if decision.outcome == "PASSED":
        yield "passed: left to the network"
        return
    kind = KINDS.get(decision.kind, "")
    if decision.outcome == "REFUSED":
        yield f"refused: {kind or 'an unused port of a ClusterIP'}"
        return
    if decision.outcome == "DROPPED":
        yield decision.reason.lower().replace("_", " ").replace("dropped ", "dropped: ")
        return
    flag = INTERNAL_LOCAL if decision.kind == 1 else EXTERNAL_LOCAL
    flags = acting.node.bench.verdict["flags"]
    yield f"answered: {kind}, {'Local' if flags & flag else 'Cluster'} policy"
    assert decision.endpoint is not None
    hairpin = decision.endpoint.address == acting.meeting.source
    yield "hairpin" if hairpin else "masqueraded" if decision.client != acting.meeting.source else "keeps its source"
    if acting.sticks:
        yield "affinity"
    if "serving there while terminating" in model.reason or "serving while terminating" in model.reason:
        yield "terminating fallback"
    for level in ("node", "zone"):
        if f"hinted for {level}" in model.reason:
            yield f"topology: {level}"
    if "exempt from Local policy" in model.reason:
        yield "exempt from Local policy"
    if decision.endpoint.address in acting.node.view.addresses:
        yield "answered by a process of the node"


def _vantage(flow: Flow, node: str) -> str:
    entry = flow.entry
    if isinstance(entry, FromOutside):
        return "outside"
    where = "here" if entry.node == node else "elsewhere"
    return f"a process {where}" if isinstance(entry, FromNode) else f"a pod {where}"


def _words(things: object) -> str:
    names = sorted(str(thing) for thing in things)  # type: ignore[attr-defined]
    return " or ".join(names) or "nobody"
