# SPDX-License-Identifier: Apache-2.0
"""The fake's oracle: it has read the model, and says the same in its own words, or something else."""

from typing import cast

from clusters.observation import Protocol
from dataplane_ref.model import ClusterState, Entry, Flow, FromNode, FromOutside, FromPod, Verdict, verdict
from dataplane_ref.oracle.answer import Answer, Question


class FakeOracle:
    """Implements `plugins.oracle.Oracle`."""

    def __init__(self, *, contradicts: bool) -> None:
        self._contradicts = contradicts
        self._state: ClusterState | None = None
        self.states = self.questions = self.closed = 0

    def state(self, state: ClusterState) -> None:
        self._state = state
        self.states += 1

    def ask(self, question: Question) -> Answer:
        assert self._state is not None
        self.questions += 1
        judged = verdict(self._state, flow(question))
        if self._contradicts and "reply" in judged.outcomes:
            return Answer("dropped", node="node-a", reason="DROPPED_INCONSISTENT")
        return answer(judged, question)

    def close(self) -> None:
        self.closed += 1


def flow(question: Question) -> Flow:
    """The question as the model is asked it."""
    node, via = question.node or "", None
    entry: Entry = FromNode(node)
    if question.entry == "pod":
        entry = FromPod(node, (question.source,))
    elif question.entry == "outside":
        entry, via = FromOutside((question.source,)), question.node
    return Flow(entry, cast(Protocol, question.protocol), question.destination, question.port, via)


def answer(judged: Verdict, question: Question) -> Answer:
    """One of the behaviours that a verdict allows."""
    if "reply" in judged.outcomes and judged.service:
        endpoints = {(one.address, one.port): rule for one, rule in judged.answers.items()}
        sources = {one: min(rule.allowed, default=question.source) for one, rule in endpoints.items()}
        return Answer("reply", frozenset(endpoints), sources, question.node)
    if "unreachable" in judged.outcomes:
        return Answer("passed", node=question.node)
    return Answer("refused" if "refused" in judged.outcomes else "dropped", node=question.node)
