# SPDX-License-Identifier: Apache-2.0
"""What holds for every cluster and every flow: generated Services, slices, policies, configurations, clients."""

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clusters.observation import Address, Icmp
from dataplane_ref.model import ClusterState, Endpoint, Entry, Flow, ProxyConfig, Verdict, judge, verdict
from tests.model.cluster import (
    CLUSTER_CIDRS,
    CLUSTER_IP,
    CLUSTER_IP6,
    EXTERNAL_IP,
    LB_IP,
    NODE_IP,
    NODE_IP6,
    NODE_PORT,
    OUTSIDE,
    POD,
    SECONDARY,
    cluster,
    endpoint,
    endpoint_slice,
    from_node,
    from_pod,
    service,
)

OUTCOMES = {"reply", "refused", "unreachable", "reset", "timeout"}
FAMILIES = st.sampled_from(["IPv4", "IPv6"])
POLICIES = st.sampled_from(["Cluster", "Local"])
PLACES = st.sampled_from([*POD, *NODE_IP])
FLAGS = st.sampled_from([True, False, None])
HINTS = st.lists(st.sampled_from(["zone-1", "zone-2"]), max_size=2)
ENTRIES: st.SearchStrategy[Entry] = st.one_of(
    st.sampled_from(list(POD)).map(from_pod), st.sampled_from(list(NODE_IP)).map(from_node), st.just(OUTSIDE)
)
CONFIGS = st.builds(
    ProxyConfig,
    cluster_cidrs=st.sampled_from([(), CLUSTER_CIDRS, CLUSTER_CIDRS[:1]]),
    masquerade_all=st.booleans(),
    node_port_addresses=st.sampled_from([None, ("primary",), ("172.18.0.0/16",), ("172.19.0.0/16",)]),
    localhost_node_ports=st.sampled_from([None, False, True]),
    detect_local=st.sampled_from(["ClusterCIDR", "NodeCIDR", "InterfaceNamePrefix"]),
)
DESTINATIONS = st.sampled_from(
    [
        *((address, 80) for address in (CLUSTER_IP, CLUSTER_IP6, EXTERNAL_IP, LB_IP)),
        *((address, NODE_PORT) for nodes in (NODE_IP, NODE_IP6, SECONDARY) for address in nodes.values()),
        (CLUSTER_IP, 81),
        ("10.96.0.99", 80),
        ("127.0.0.1", NODE_PORT),
        (POD["b1"][0], 8080),
    ]
)
SERVICES = st.builds(
    service,
    internalTrafficPolicy=POLICIES,
    externalTrafficPolicy=POLICIES,
    externalIPs=st.just([EXTERNAL_IP]),
    status=st.just({"loadBalancer": {"ingress": [{"ip": LB_IP}]}}),
    loadBalancerSourceRanges=st.sampled_from([None, ["172.18.0.0/16"], ["10.244.0.0/24"]]),
)


@st.composite
def slices(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to four slices of the Service, of both families, with any conditions and hints, duplicates included."""
    result = []
    for number in range(draw(st.integers(0, 4))):
        family = draw(FAMILIES)
        items = [
            endpoint(
                draw(PLACES),
                family=family,
                ready=draw(FLAGS),
                serving=draw(FLAGS),
                terminating=draw(FLAGS),
                zones=draw(HINTS),
                nodes=draw(st.lists(st.sampled_from(list(NODE_IP)), max_size=1)),
            )
            for _ in range(draw(st.integers(0, 5)))
        ]
        ports = [{"name": "", "port": draw(st.sampled_from([8080, 9090]))}]
        result.append(endpoint_slice(*items, family=family, name=f"web-{number}", ports=ports))
    return result


@dataclass(frozen=True)
class Question:
    """A cluster and a flow to ask about."""

    state: ClusterState
    flow: Flow

    @property
    def answer(self) -> Verdict:
        return verdict(self.state, self.flow)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Any question about a cluster with one Service."""
    dst, port = draw(DESTINATIONS)
    flow = Flow(draw(ENTRIES), "TCP", dst, port, via=draw(st.sampled_from(list(NODE_IP))))
    return Question(cluster(draw(SERVICES), *draw(slices()), config=draw(CONFIGS)), flow)


def with_slices(question: Question, items: list[Any]) -> Question:
    """The same question with other slices."""
    state = question.state
    return Question(ClusterState.from_objects(state.nodes, state.services, items, state.config), question.flow)


@given(questions())
def test_a_verdict_is_never_empty_and_replies_go_with_answers(question: Question) -> None:
    result = question.answer

    assert result.outcomes
    assert result.outcomes <= OUTCOMES
    assert ("reply" in result.outcomes) == bool(result.answers)
    assert all(rule.allowed or rule.kind == "any" for rule in result.answers.values())
    assert result.reason in result.explain()
    assert all(str(place) in result.explain() for place in result.answers)


@given(questions())
def test_a_flow_stays_in_its_family(question: Question) -> None:
    is_ipv6 = ":" in question.flow.dst

    for place, rule in question.answer.answers.items():
        assert (":" in place.address) == is_ipv6
        assert all((":" in address) == is_ipv6 for address in rule.allowed)


@given(questions(), st.randoms(use_true_random=False))
def test_the_order_of_objects_does_not_matter(question: Question, random: Any) -> None:
    shuffled = [
        {**item, "endpoints": random.sample(item["endpoints"], len(item["endpoints"]))}
        for item in question.state.endpoint_slices
    ]
    random.shuffle(shuffled)

    assert with_slices(question, shuffled).answer == question.answer


@given(questions())
def test_how_endpoints_are_spread_over_slices_does_not_matter(question: Question) -> None:
    one_each = [
        {**item, "endpoints": [single]} for item in question.state.endpoint_slices for single in item["endpoints"]
    ]

    assert with_slices(question, one_each).answer == question.answer


@given(questions(), FAMILIES, st.sampled_from([True, False]))
def test_a_new_endpoint_that_is_not_ready_changes_nothing(question: Question, family: str, serving: bool) -> None:
    """New: its address is no other endpoint's. A reused address is a different matter, see test_endpoints."""
    address = "10.244.0.200" if family == "IPv4" else "fd00:10:244::200"
    unready = endpoint(address, node="node-a", ready=False, serving=serving)
    extra = endpoint_slice(unready, family=family, name="web-new")

    assert with_slices(question, [*question.state.endpoint_slices, extra]).answer == question.answer


@given(questions())
def test_slices_of_the_other_family_change_nothing(question: Question) -> None:
    assume((question.flow.dst, question.flow.port) != (POD["b1"][0], 8080))
    family = "IPv6" if ":" in question.flow.dst else "IPv4"
    own = [item for item in question.state.endpoint_slices if item["addressType"] == family]

    assert with_slices(question, own).answer == question.answer


@given(questions())
def test_a_not_ready_endpoint_that_is_not_terminating_never_answers(question: Question) -> None:
    state, result = question.state, question.answer
    assume(result.service is not None)
    usable = {
        Endpoint(item["addresses"][0], part["ports"][0]["port"])
        for part in state.endpoint_slices
        for item in part["endpoints"]
        if item["conditions"]["ready"] is not False
        or (item["conditions"]["terminating"] is True and item["conditions"]["serving"] is not False)
    }

    assert set(result.answers) <= usable


@given(questions())
def test_cluster_policy_answers_wherever_local_policy_does(question: Question) -> None:
    state = question.state
    relaxed = [
        {**item, "spec": {**item["spec"], "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster"}}
        for item in state.services
    ]
    cluster_policy = replace(state, services=tuple(relaxed))

    if "reply" in question.answer.outcomes:
        assert "reply" in verdict(cluster_policy, question.flow).outcomes


def observe(result: Verdict, place: Endpoint, client: str, dst: Address, **changes: Any) -> list[str]:
    """Judge a reply from `place`, which saw `client`, with some fields changed."""
    seen: dict[str, Any] = {
        "outcome": "reply",
        "served_at": place,
        "client_seen": Address(client, 40000),
        "reply_src": dst,
        "dst": dst,
        "icmp": None,
    }
    return judge(result, **{**seen, **changes})


@settings(max_examples=200)
@given(questions())
def test_judge_accepts_every_allowed_reply_and_no_other(question: Question) -> None:
    result, dst = question.answer, Address(question.flow.dst, question.flow.port)
    stranger = "fd00:dead::1" if ":" in dst.ip else "192.0.2.254"
    for place, rule in result.answers.items():
        for client in rule.allowed or {stranger}:
            assert observe(result, place, client, dst) == []
            assert observe(result, place, client, dst, reply_src=Address(stranger, dst.port))
            assert observe(result, place, client, dst, reply_src=Address(dst.ip, dst.port % 65535 + 1))
            assert observe(result, place, client, dst, served_at=Address(stranger, place.port))
            assert observe(result, place, client, dst, served_at=Address(place.address, 1))
            assert rule.kind == "any" or observe(result, place, stranger, dst)


@settings(max_examples=200)
@given(questions(), st.sampled_from(sorted(OUTCOMES - {"reply"})))
def test_judge_accepts_exactly_the_allowed_outcomes_without_reply(question: Question, outcome: str) -> None:
    result, dst = question.answer, Address(question.flow.dst, question.flow.port)
    form = result.must_refuse_with
    icmp = Icmp(form.type, form.code, dst.ip) if form and outcome == "refused" else None

    problems = judge(result, outcome=outcome, served_at=None, client_seen=None, reply_src=None, dst=dst, icmp=icmp)

    assert (problems == []) == (outcome in result.outcomes)
