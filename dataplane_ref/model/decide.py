# SPDX-License-Identifier: Apache-2.0
"""From a flow to its verdict: which frontend and node decide, which endpoints may answer, whom each sees."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from dataplane_ref.model.addresses import Endpoint, Family, family_of, version_of, within
from dataplane_ref.model.endpoints import EndpointRecord, Selection, select
from dataplane_ref.model.flow import Flow, FromNode, FromOutside
from dataplane_ref.model.frontends import Frontend, FrontendKind, ServicePort
from dataplane_ref.model.source import (
    Client,
    SourceRule,
    clients,
    is_local_source,
    masquerade_reason,
    source_rule,
)
from dataplane_ref.model.state import ClusterState, NodeView
from dataplane_ref.model.verdict import (
    REFUSED,
    REPLY,
    RESET,
    TIMEOUT,
    UNREACHABLE,
    IcmpExpectation,
    Verdict,
    either,
)


def verdict(state: ClusterState, flow: Flow) -> Verdict:
    """What may happen to a flow in a cluster.

    Every node has all virtual IPs, so a client's own node translates them. They are looked up before node
    ports, because an externalIP may be a node's own address. Raises ValueError for a question that makes no
    sense: an unknown node, a client without an address of the destination's family, an outside flow to a
    virtual IP that does not say at which node it arrives.
    """
    at = None if isinstance(flow.entry, FromOutside) else state.node(flow.entry.node)
    frontends = state.frontends.by_vip.get((flow.dst, flow.port, flow.protocol))
    if frontends:
        return _at_frontends(state, flow, frontends, at or _arrival(state, flow))
    if flow.to_loopback:
        return _at_loopback(state, flow)
    owner = at if at and flow.dst in at.addresses else state.owner_of(flow.dst)
    if owner:
        return _at_node_port(state, flow, owner)
    if flow.dst in state.frontends.vips:
        return _not_proxied(state, flow, f"no Service has {flow.protocol} port {flow.port} at {flow.dst}")
    return _not_proxied(state, flow, f"{flow.dst} belongs neither to a Service nor to a node")


def _arrival(state: ClusterState, flow: Flow) -> NodeView:
    """The node at which a flow from outside to a virtual IP arrives."""
    if flow.via is not None:
        return state.node(flow.via)
    owner = state.owner_of(flow.dst)
    if owner is None:
        raise ValueError(f"{flow}: say through which node (via) a flow from outside arrives at a virtual IP")
    return owner


def _at_node_port(state: ClusterState, flow: Flow, owner: NodeView) -> Verdict:
    """Node ports: the node that owns the destination decides, wherever the client is.

    https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport; nodePortAddresses says at
    which addresses, and KEP-3866 how the modes' defaults differ.
    """
    frontends = _node_port_frontends(state, flow)
    if not frontends:
        return _not_proxied(state, flow, f"no Service has the {flow.protocol} node port {flow.port}")
    served = state.config.serves_node_ports_at(owner, flow.dst)
    if served is False:
        return _not_proxied(state, flow, f"nodePortAddresses leaves out {flow.dst}")
    proxied = _at_frontends(state, flow, frontends, owner)
    if served:
        return proxied
    absent = _not_proxied(state, flow, f"by default not every mode has node ports at {flow.dst}")
    return either(proxied, absent)


def _at_loopback(state: ClusterState, flow: Flow) -> Verdict:
    """Node ports on a node's own loopback: IPv4 only, and only where the proxy is configured so.

    https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/ (localhostNodePorts).
    """
    frontends = _node_port_frontends(state, flow)
    served = state.config.serves_node_ports_on_loopback(flow.dst)
    absent = _not_proxied(state, flow, f"there is no {flow.protocol} node port {flow.port} on this loopback")
    if not frontends or served is False or not isinstance(flow.entry, FromNode):
        return absent
    proxied = _at_frontends(state, flow, frontends, state.node(flow.entry.node))
    return proxied if served else either(proxied, absent)


def _node_port_frontends(state: ClusterState, flow: Flow) -> tuple[Frontend, ...]:
    return state.frontends.by_node_port.get((family_of(flow.dst), flow.port, flow.protocol), ())


def _at_frontends(state: ClusterState, flow: Flow, frontends: Sequence[Frontend], node: NodeView) -> Verdict:
    """The verdict at the deciding node: a union where several Services, or client addresses, are possible."""
    if frontends[0].ignored is not None:
        return _not_proxied(state, flow, frontends[0].ignored)
    family = family_of(flow.dst)
    callers = clients(state, flow, node, family)
    cases = [_Case(frontend, node, client, family) for frontend in frontends for client in callers]
    return reduce(either, [_decide(state, case) for case in cases])


@dataclass(frozen=True)
class _Case:
    """One frontend, met at one node by one client."""

    frontend: Frontend
    node: NodeView
    client: Client
    family: Family

    @property
    def port(self) -> ServicePort:
        return self.frontend.port


def _decide(state: ClusterState, case: _Case) -> Verdict:
    """The heart: forbidden, rejected, dropped, or answered by which endpoints.

    Without any usable endpoint a flow is rejected, at every kind of frontend. Where a Local policy leaves
    nothing though endpoints exist elsewhere, it is dropped in silence.
    https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-policies.
    """
    selection = select(state.endpoints(case.port, case.family), case.node.name, case.node.zone)
    if _forbidden(case):
        dropped = _dropped(case, f"loadBalancerSourceRanges do not hold {case.client.address}: dropped")
        # Whether the firewall or the missing endpoint is noticed first is nowhere documented.
        return dropped if selection.cluster else either(dropped, _rejected(case))
    if not selection.cluster:
        return _rejected_or_let_go(case)
    if case.frontend.kind is FrontendKind.CLUSTER_IP:
        return _internal(state, case, selection)
    return _external(state, case, selection)


def _forbidden(case: _Case) -> bool:
    """Source ranges guard load-balancer IPs and nothing else; ranges of the other family say nothing here.

    https://kubernetes.io/docs/tasks/access-application-cluster/configure-cloud-provider-firewall/.
    """
    if case.frontend.kind is not FrontendKind.LOAD_BALANCER:
        return False
    ranges = [network for network in case.port.source_ranges if network.version == version_of(case.family)]
    return bool(ranges) and not within(case.client.address, ranges)


def _internal(state: ClusterState, case: _Case, selection: Selection) -> Verdict:
    """ClusterIP: internalTrafficPolicy chooses the candidate set (KEP-2086)."""
    if not case.port.internal_local:
        return _answered(state, case, selection.cluster, selection.cluster_why)
    if not selection.local:
        return _dropped(case, f"internalTrafficPolicy Local and no endpoint on {case.node.name}: dropped")
    return _answered(state, case, selection.local, selection.local_why)


def _external(state: ClusterState, case: _Case, selection: Selection) -> Verdict:
    """Node ports, externalIPs and load-balancer IPs: externalTrafficPolicy, and who is exempt from it.

    Local holds for traffic that comes to the node from elsewhere. Processes of the node, and pods on it
    if there is a local detector, get Cluster semantics: their traffic stands for a trip to the load balancer
    and back (Service API reference, `externalTrafficPolicy`).
    """
    if not case.port.external_local:
        return _answered(state, case, selection.cluster, selection.cluster_why)
    local_source = case.client.process or is_local_source(state.config, case.node, case.client)
    if local_source and case.client.here:
        why = f"traffic of {case.node.name} itself is exempt from Local policy: {selection.cluster_why}"
        return _answered(state, case, selection.cluster, why, keeps_source=True)
    if local_source:
        return _pod_of_another_node(state, case, selection)
    if not selection.local:
        return _dropped(case, f"externalTrafficPolicy Local and no endpoint on {case.node.name}: dropped")
    return _answered(state, case, selection.local, selection.local_why, keeps_source=True)


def _pod_of_another_node(state: ClusterState, case: _Case, selection: Selection) -> Verdict:
    """A pod of another node counts as external: only endpoints of this node may answer.

    A detector that goes by the cluster's CIDR cannot tell it from a local pod, so the node may choose any
    endpoint of the cluster without masquerading. An endpoint elsewhere then replies past this node, from an
    address that the client never dialled, and the client sees silence. The one such flow that works is the
    hairpin, which is masqueraded. Upstream's own tests expect as much: a pod reaches another node's node port
    under Local policy only where that node has an endpoint.
    """
    elsewhere = [record for record in selection.cluster if not state.is_on(record, case.node)]
    hairpin = [record for record in elsewhere if record.endpoint.address in case.client.own]
    if not selection.local and not hairpin:
        return _dropped(case, f"externalTrafficPolicy Local and no endpoint on {case.node.name}: dropped")
    why = f"a pod of another node counts as external: {selection.local_why}"
    answered = _answered(state, case, (*selection.local, *hairpin), why, keeps_source=True)
    if not selection.local:
        answered = either(answered, _dropped(case, f"no endpoint on {case.node.name} is left: dropped"))
    if len(elsewhere) == len(hairpin):
        return replace(answered, is_choice=bool(hairpin))
    return either(answered, _dropped(case, "an endpoint elsewhere may be chosen, whose reply is lost"))


def _answered(
    state: ClusterState, case: _Case, records: Iterable[EndpointRecord], why: str, *, keeps_source: bool = False
) -> Verdict:
    """Each of these endpoints may answer, and one of them must. `keeps_source`: see `masquerade_reason`.

    Silence is allowed where the packet came from elsewhere, keeps its source, and goes on to another node:
    the reply need not pass the translating node again, and then the client cannot recognise it.
    """
    masqueraded = masquerade_reason(
        state.config, case.frontend.kind, case.node, case.client, case.family, keeps_source=keeps_source
    )
    answers: dict[Endpoint, SourceRule] = {}
    lost = False
    for record in records:
        rule = source_rule(state, case.node, case.client, record, masqueraded)
        answers[record.endpoint] = rule
        lost = lost or (rule.kind == "client" and not case.client.here and not state.is_on(record, case.node))
    return Verdict(
        outcomes=frozenset({REPLY, TIMEOUT} if lost else {REPLY}),
        answers=answers,
        service=str(case.port),
        reason=f"{why} may answer" + (", unless the reply bypasses the node" if lost else ""),
        affinity_s=case.port.affinity_s,
    )


def _rejected(case: _Case) -> Verdict:
    """No usable endpoint: ICMP port unreachable, for TCP too, never a reset (RFC 792; RFC 4443, 3.1)."""
    return Verdict(
        outcomes=frozenset({REFUSED}),
        answers={},
        service=str(case.port),
        reason="no usable endpoint anywhere: rejected",
        must_refuse_with=IcmpExpectation(1, 4) if case.family == "IPv6" else IcmpExpectation(3, 3),
        affinity_s=case.port.affinity_s,
    )


def _rejected_or_let_go(case: _Case) -> Verdict:
    """Rejected; but a process's packet to an address from outside may also leave its node for the real balancer.

    Nothing documents that the process's own node has to notice first that the balancer would find no endpoint.
    """
    rejected = _rejected(case)
    if not case.client.process or case.frontend.kind not in (FrontendKind.EXTERNAL_IP, FrontendKind.LOAD_BALANCER):
        return rejected
    let_go = frozenset({REFUSED, UNREACHABLE, TIMEOUT})
    return replace(rejected, outcomes=let_go, must_refuse_with=None, reason=f"{rejected.reason}, or left to others")


def _dropped(case: _Case, reason: str) -> Verdict:
    return Verdict(frozenset({TIMEOUT}), {}, str(case.port), reason, affinity_s=case.port.affinity_s)


def _not_proxied(state: ClusterState, flow: Flow, why: str) -> Verdict:
    """No proxy may answer for this destination: what happens otherwise is the network's business.

    The modes differ (nothing, reject, drop: KEP-3866), so anything but a reply is allowed. A destination that
    is itself an endpoint's address and port answers by ordinary routing, and nothing is promised about it.
    """
    direct = Endpoint(flow.dst, flow.port)
    if direct in state.endpoint_addresses:
        return Verdict(
            outcomes=frozenset({REPLY, REFUSED, UNREACHABLE, RESET, TIMEOUT}),
            answers={direct: SourceRule("any", frozenset(), "dialled directly, not through a Service")},
            service=None,
            reason=f"not proxied: {why}; it is an endpoint's own address and answers by itself",
        )
    return Verdict(frozenset({REFUSED, UNREACHABLE, TIMEOUT}), {}, None, f"not proxied: {why}")
