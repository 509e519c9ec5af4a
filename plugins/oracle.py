# SPDX-License-Identifier: Apache-2.0
"""The second opinion: what the model says of a flow is compared with what the reference datapath would do with it.

Both were written from the documentation, by different readings of it. Where they contradict each other, plumbline
itself is wrong and nothing can be judged; where documentation allows several behaviours the reference has chosen one,
which must be among them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Protocol

from clusters.api import Node, Vantage
from clusters.observation import Family
from dataplane_ref.model import ClusterState, Endpoint, Verdict
from dataplane_ref.model.verdict import REFUSED, REPLY, TIMEOUT, UNREACHABLE
from dataplane_ref.oracle.answer import Answer, At, Entry, NoRoomError, Question, shown

# What the model calls what the oracle does. Where no Service is concerned, the model leaves it to the network: the
# router, or a node, says that there is no way.
OUTCOMES = {"reply": REPLY, "refused": REFUSED, "dropped": TIMEOUT, "passed": UNREACHABLE}
ENTRIES: dict[str, Entry] = {"pod": "pod", "node": "process", "outside": "outside"}


class DisagreementError(Exception):
    """Model and oracle contradict each other: an error of plumbline, not of the dataplane that is judged."""


class Oracle(Protocol):
    """What is asked here; `dataplane_ref.oracle.Oracle` is the one that there is."""

    def state(self, state: ClusterState) -> None:
        """From now on answer for this state; costs next to nothing where it is the one of before."""

    def ask(self, question: Question) -> Answer:
        """What becomes of a flow."""

    def close(self) -> None:
        """It will not be asked again."""


@dataclass(slots=True)
class SecondOpinion:
    """Asks the oracle where there is one. `load` gives it, or raises LookupError with why there is none."""

    load: Callable[[], Oracle]
    asked: int = 0
    missing: str | None = None
    _oracle: Oracle | None = None
    _state: ClusterState | None = None
    _heard: dict[Question, Answer] = field(default_factory=dict)

    def agrees(self, state: ClusterState, question: Question, verdict: Verdict) -> bool:
        """Whether the oracle was asked, and could answer. Raises DisagreementError where that leaves the verdict."""
        oracle = self._present()
        if oracle is None:
            return False
        if state is not self._state:
            oracle.state(state)
            self._state = state
            self._heard.clear()
        answer = self._heard.get(question)
        if answer is None:
            try:
                answer = self._heard[question] = oracle.ask(question)
            except NoRoomError as error:
                self.missing = str(error)
                return False
        self.asked += 1
        problem = disagreement(verdict, answer)
        if problem:
            raise DisagreementError(
                f"plumbline contradicts itself about {question.protocol} from {question.source} to "
                f"{shown((question.destination, question.port))}: {problem}; the oracle says {answer}, "
                f"and the model {'; '.join(verdict.explain().splitlines())}"
            )
        return True

    def close(self) -> None:
        """Nobody will be asked again."""
        if self._oracle is not None:
            self._oracle.close()
            self._oracle = None

    def _present(self) -> Oracle | None:
        if self._oracle is None and self.missing is None:
            try:
                self._oracle = self.load()
            except LookupError as error:
                self.missing = str(error)
        return self._oracle


def disagreement(verdict: Verdict, answer: Answer) -> str | None:
    """In what the oracle's answer leaves the model's verdict, in a phrase; None where it lies within.

    Where the verdict is plainly an answer, the endpoints have to be the same.
    """
    outcome = OUTCOMES[answer.outcome]
    if outcome not in verdict.outcomes:
        return f"the oracle's {answer.outcome} is not among {' or '.join(sorted(verdict.outcomes))}"
    allowed: dict[At, Endpoint] = {(one.address, one.port): one for one in verdict.answers}
    extra = sorted(answer.endpoints - allowed.keys())
    if extra:
        return f"the oracle would choose {shown(extra[0])}"
    missing = sorted(allowed.keys() - answer.endpoints)
    if outcome == REPLY and missing and not verdict.is_choice:
        return f"the oracle would never choose {shown(missing[0])}"
    for endpoint, source in answer.sources.items():
        rule = verdict.answers[allowed[endpoint]]
        if not rule.allows(source):
            return f"with the oracle {shown(endpoint)} would see {source}"
    return None


def question(
    vantage: Vantage, node: Node | None, arrives_at: str | None, ip: str, port: int, protocol: str
) -> Question:
    """A flow from a vantage (`node` is the one it is on) in the oracle's words."""
    family: Family = "IPv6" if ":" in ip else "IPv4"
    source = vantage.addresses[family]
    # A process that dials its own node has the address that it dials as its source.
    if vantage.kind == "node" and node and (ip_address(ip).is_loopback or ip in node.own_addresses(family)):
        source = ip
    return Question(ENTRIES[vantage.kind], vantage.node or arrives_at, source, ip, port, protocol)
