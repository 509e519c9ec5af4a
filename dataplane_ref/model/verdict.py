# SPDX-License-Identifier: Apache-2.0
"""The verdict: what may happen to one flow, as sets, and the union of two verdicts.

A verdict is about a single new flow. ClientIP affinity therefore never changes its sets; `Verdict.affinity_s`
carries the timeout for a verdict over a *sequence* of flows, which narrows the answers of later flows to the
endpoint that an earlier one met.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dataplane_ref.model.addresses import Endpoint
from dataplane_ref.model.source import SourceRule

REPLY, REFUSED, UNREACHABLE, RESET, TIMEOUT = "reply", "refused", "unreachable", "reset", "timeout"


@dataclass(frozen=True, slots=True)
class IcmpExpectation:
    """An ICMP error by type and code (RFC 792; RFC 4443 for IPv6)."""

    type: int
    code: int

    def __str__(self) -> str:
        return f"ICMP type {self.type} code {self.code}"


@dataclass(frozen=True)
class Verdict:
    """Everything that may happen to a flow.

    `outcomes` is never empty. `answers` maps each endpoint that may answer to the client addresses it may
    see. `service` is `namespace/name:port` of the Service port that was dialled, None where the flow is no
    proxy's business. `reason` is one sentence: the rule that decided. `must_refuse_with` is the ICMP error
    as which a refusal has to arrive, None where a refusal may also be a TCP reset. `affinity_s` is the
    ClientIP timeout in seconds, None without affinity. `is_choice`: documentation allows several behaviours, of which
    a dataplane may have any.
    """

    outcomes: frozenset[str]
    answers: Mapping[Endpoint, SourceRule]
    service: str | None
    reason: str
    must_refuse_with: IcmpExpectation | None = None
    affinity_s: int | None = None
    is_choice: bool = False

    def explain(self) -> str:
        """The verdict in words, every allowed answer on its own line, for the message of a failure."""
        lines = [
            f"{self.service or 'no Service'}: {self.reason}",
            "outcome: " + " or ".join(sorted(self.outcomes)),
        ]
        if self.must_refuse_with:
            lines.append(f"a refusal must be {self.must_refuse_with} (port unreachable)")
        lines += [f"answer: {endpoint}, seeing {self.answers[endpoint]}" for endpoint in sorted(self.answers)]
        if not self.answers:
            lines.append("answer: from no endpoint")
        return "\n".join(lines)


def either(one: Verdict, other: Verdict) -> Verdict:
    """The union: whatever at least one of two verdicts allows.

    What a verdict demands besides (the form of a refusal, affinity) stays only where both agree on it.
    """
    answers = dict(one.answers)
    for endpoint, rule in other.answers.items():
        answers[endpoint] = _either_source(answers[endpoint], rule) if endpoint in answers else rule
    refusals = {verdict.must_refuse_with for verdict in (one, other) if REFUSED in verdict.outcomes}
    services = [service for service in dict.fromkeys((one.service, other.service)) if service]
    return Verdict(
        outcomes=one.outcomes | other.outcomes,
        answers=answers,
        service=" or ".join(services) or None,
        reason=one.reason if one.reason == other.reason else f"{one.reason}; or else {other.reason}",
        must_refuse_with=refusals.pop() if len(refusals) == 1 else None,
        affinity_s=one.affinity_s if one.affinity_s == other.affinity_s else None,
        is_choice=one.is_choice or other.is_choice or one != other,
    )


def _either_source(one: SourceRule, other: SourceRule) -> SourceRule:
    if one == other:
        return one
    why = one.why if one.why == other.why else f"{one.why}, or else {other.why}"
    if "any" in (one.kind, other.kind):
        return SourceRule("any", frozenset(), why)
    # Of a node's address and the client's own, `client` is the wider word: a node may be the client.
    kind = one.kind if one.kind == other.kind else "client"
    return SourceRule(kind, one.allowed | other.allowed, why)
