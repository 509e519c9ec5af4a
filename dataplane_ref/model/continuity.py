# SPDX-License-Identifier: Apache-2.0
"""Flows over time: what may happen to a flow's next packet, after the cluster has changed since its last.

| flow | its endpoint | the next packet |
|---|---|---|
| TCP, answered, not closed | whatever has become of it, or of the Service | goes there: nobody else can continue |
| TCP, never answered | usable | goes there |
| TCP, never answered | not usable any more | goes there, or is as new |
| TCP, closed (RST, or the client's FIN) | any | a SYN is as new, anything else goes there |
| UDP, SCTP | usable for the Service, whatever policies and topology say of new flows | goes there |
| the same | usable now, but was not in between | goes there, or, if the gap was seen, is as new |
| the same | anything else; also: the Service is gone | is as new: to an endpoint of now, refused, or not proxied |
| a new one, under ClientIP affinity, in time | the client's last one, allowed without a break since | goes there |

Usable is what is ready, or serving while it terminates. "Goes there" promises a reply only from an endpoint that
still exists. Sources:
https://kubernetes.io/docs/reference/networking/virtual-ips/ (session affinity; traffic to terminating endpoints),
KEP-1669 (connections of terminating pods go on), https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
(termination: "existing connections"), and https://github.com/kubernetes/kubernetes/pull/127318 (stale UDP entries).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dataplane_ref.model.addresses import Endpoint, Family, family_of
from dataplane_ref.model.decide import verdict
from dataplane_ref.model.flow import Flow
from dataplane_ref.model.frontends import ServicePort
from dataplane_ref.model.source import SourceRule
from dataplane_ref.model.state import ClusterState
from dataplane_ref.model.verdict import REPLY, TIMEOUT, Verdict, either


@dataclass(frozen=True)
class Past:
    """What is known of a flow: the endpoint its last packet went to, and, for TCP, how far it has come.

    `answered`: a packet of the endpoint has passed. `ended`: the client has sent FIN, or either side RST.
    `is_broken`: the endpoint has not been usable all the time since.
    """

    endpoint: Endpoint
    answered: bool = False
    ended: bool = False
    is_broken: bool = False


@dataclass(frozen=True)
class Affinity:
    """A client's last endpoint on a Service port. `is_firm`: allowed, and under affinity, without a break since."""

    endpoint: Endpoint
    is_firm: bool = True


def first_packet(state: ClusterState, flow: Flow, affinity: Affinity | None = None) -> Verdict:
    """The verdict for a new flow of a client that may have met an endpoint before, within the timeout."""
    found = verdict(state, flow)
    if affinity is None or found.affinity_s is None or affinity.endpoint not in found.answers:
        return found
    why = f"{found.reason}; the client was with {affinity.endpoint} before"
    narrowed = replace(found, answers={affinity.endpoint: found.answers[affinity.endpoint]}, reason=why)
    return narrowed if affinity.is_firm else either(narrowed, found)


def next_packet(
    state: ClusterState, flow: Flow, past: Past, *, opens: bool = False, affinity: Affinity | None = None
) -> Verdict:
    """The verdict for a later packet of the client; `opens`: a TCP segment with SYN, or any datagram."""
    stays = _stays(past)
    if flow.protocol != "TCP":
        anew = first_packet(state, flow, affinity)
        if not _is_usable(state, flow, past.endpoint):
            return anew
        return either(stays, anew) if past.is_broken else stays
    if not opens:
        return stays
    if past.ended:
        return first_packet(state, flow, affinity)
    if past.answered or (_is_usable(state, flow, past.endpoint) and not past.is_broken):
        return stays
    return either(stays, first_packet(state, flow, affinity))


def past_after_change(state: ClusterState, flow: Flow, past: Past) -> Past:
    """What is known of a flow after a change."""
    return past if _is_usable(state, flow, past.endpoint) else replace(past, is_broken=True)


def after_change(state: ClusterState, flow: Flow, affinity: Affinity) -> Affinity:
    """What a client's affinity is worth after a change, going by a flow of its own."""
    found = verdict(state, flow)
    if found.affinity_s is not None and affinity.endpoint in found.answers:
        return affinity
    return replace(affinity, is_firm=False)


def service_ports_of(state: ClusterState, flow: Flow) -> tuple[ServicePort, ...]:
    """The Service ports that a flow dials: none where it is no proxy's business."""
    vips = state.frontends.by_vip.get((flow.dst, flow.port, flow.protocol), ())
    family = _family(flow)
    found = vips or state.frontends.by_node_port.get((family, flow.port, flow.protocol), ())
    return tuple(frontend.port for frontend in found if frontend.ignored is None)


def _is_usable(state: ClusterState, flow: Flow, endpoint: Endpoint) -> bool:
    ports: Iterable[ServicePort] = service_ports_of(state, flow)
    return any(
        record.endpoint == endpoint and (record.ready or record.draining)
        for port in ports
        for record in state.endpoints(port, _family(flow))
    )


def _stays(past: Past) -> Verdict:
    rule = SourceRule("any", frozenset(), "as its earlier packets")
    return Verdict(
        outcomes=frozenset({REPLY, TIMEOUT}),
        answers={past.endpoint: rule},
        service=None,
        reason=f"a packet of a flow with {past.endpoint}, which goes on",
    )


def _family(flow: Flow) -> Family:
    return family_of(flow.dst)
