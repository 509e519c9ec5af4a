# SPDX-License-Identifier: Apache-2.0
"""Comparing what was observed with what may happen, one sentence for each difference."""

from collections.abc import Iterable
from typing import Protocol

from dataplane_ref.model.addresses import Endpoint, canonical
from dataplane_ref.model.verdict import REFUSED, REPLY, Verdict


class SocketAddress(Protocol):
    """Anything with a numeric address and a port, such as an observation's address."""

    @property
    def ip(self) -> str: ...

    @property
    def port(self) -> int: ...


class IcmpError(Protocol):
    """Anything with an ICMP type and code."""

    @property
    def type(self) -> int: ...

    @property
    def code(self) -> int: ...


def judge(
    verdict: Verdict,
    *,
    outcome: str,
    served_at: SocketAddress | None,
    client_seen: SocketAddress | None,
    reply_src: SocketAddress | None,
    dst: SocketAddress,
    icmp: IcmpError | None,
) -> list[str]:
    """The ways in which an observation leaves the verdict; empty where it stays within.

    An endpoint that was reached is judged whatever the client saw: a packet at a forbidden endpoint is
    wrong even if no reply came back. A reply must come from the address that was dialled, and must say
    which endpoint it is and whom that endpoint saw.
    """
    return [
        *_outcome(verdict, outcome),
        *_endpoint(verdict, outcome, served_at),
        *_client(verdict, outcome, served_at, client_seen),
        *_reply_source(outcome, reply_src, dst),
        *_refusal(verdict, outcome, icmp),
    ]


def _outcome(verdict: Verdict, outcome: str) -> list[str]:
    if outcome in verdict.outcomes:
        return []
    return [f"observed outcome {outcome}, but should be {_one_of(verdict.outcomes)} ({verdict.reason})"]


def _endpoint(verdict: Verdict, outcome: str, served_at: SocketAddress | None) -> list[str]:
    if served_at is None and outcome != REPLY:
        return []
    if served_at is not None and _as_endpoint(served_at) in verdict.answers:
        return []
    expected = _one_of(str(endpoint) for endpoint in sorted(verdict.answers)) or "no endpoint at all"
    if served_at is None:
        return [f"observed a reply that does not say which endpoint sent it, but should be from {expected}"]
    return [f"observed endpoint {_as_endpoint(served_at)}, but should be {expected} ({verdict.reason})"]


def _client(
    verdict: Verdict, outcome: str, served_at: SocketAddress | None, client_seen: SocketAddress | None
) -> list[str]:
    if served_at is None:
        return []
    endpoint = _as_endpoint(served_at)
    rule = verdict.answers.get(endpoint)
    if rule is None:
        return []
    if client_seen is None:
        return [f"observed no client address at {endpoint}, but should be {rule}"] if outcome == REPLY else []
    if rule.allows(canonical(client_seen.ip)):
        return []
    return [f"observed client address {client_seen.ip} at {endpoint}, but should be {rule}"]


def _reply_source(outcome: str, reply_src: SocketAddress | None, dst: SocketAddress) -> list[str]:
    if outcome != REPLY:
        return []
    dialled = _as_endpoint(dst)
    if reply_src is None:
        return [f"observed a reply of unknown source, but should be from {dialled}, the address dialled"]
    if _as_endpoint(reply_src) == dialled:
        return []
    return [f"observed a reply from {_as_endpoint(reply_src)}, but should be from {dialled}, the address dialled"]


def _refusal(verdict: Verdict, outcome: str, icmp: IcmpError | None) -> list[str]:
    expected = verdict.must_refuse_with
    if outcome != REFUSED or expected is None:
        return []
    if icmp is None:
        return [f"observed a refusal without an ICMP error, but should be {expected} (port unreachable)"]
    if (icmp.type, icmp.code) == (expected.type, expected.code):
        return []
    observed = f"ICMP type {icmp.type} code {icmp.code}"
    return [f"observed a refusal by {observed}, but should be {expected} (port unreachable)"]


def _as_endpoint(address: SocketAddress) -> Endpoint:
    return Endpoint(canonical(address.ip), address.port)


def _one_of(names: Iterable[str]) -> str:
    return " or ".join(sorted(names))
