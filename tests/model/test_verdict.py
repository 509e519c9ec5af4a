# SPDX-License-Identifier: Apache-2.0
"""The union of two verdicts: everything either allows, and only the demands on which both agree."""

from dataclasses import replace

import pytest

from dataplane_ref.model import Endpoint, Flow, IcmpExpectation, SourceRule, Verdict, verdict
from dataplane_ref.model.verdict import either
from tests.model.cluster import NODE_PORT, OUTSIDE, SECONDARY, cluster, endpoint_slice, service

B1, C1 = Endpoint("10.244.1.2", 8080), Endpoint("10.244.2.2", 8080)
CLIENT = SourceRule("client", frozenset({"10.244.0.2"}), "not masqueraded")
NODE = SourceRule("node", frozenset({"172.18.0.10"}), "masqueraded")
ANY = SourceRule("any", frozenset(), "direct")
ANSWERED = Verdict(frozenset({"reply"}), {B1: CLIENT}, "default/web:80", "one", affinity_s=60)
DROPPED = Verdict(frozenset({"timeout"}), {}, "default/web:80", "two", affinity_s=60)
PORT_UNREACHABLE = IcmpExpectation(3, 3)
REJECTED = Verdict(frozenset({"refused"}), {}, "default/web:80", "three", PORT_UNREACHABLE, 60)


def test_outcomes_and_answers_are_joined() -> None:
    joined = either(ANSWERED, replace(ANSWERED, answers={C1: NODE}, outcomes=frozenset({"reply", "timeout"})))

    assert joined.outcomes == {"reply", "timeout"}
    assert joined.answers == {B1: CLIENT, C1: NODE}


def test_a_verdict_joined_with_itself_is_itself() -> None:
    for item in (ANSWERED, DROPPED, REJECTED):
        assert either(item, item) == item


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (CLIENT, CLIENT, CLIENT),
        (
            CLIENT,
            NODE,
            SourceRule("client", CLIENT.allowed | NODE.allowed, "not masqueraded, or else masqueraded"),
        ),
        (
            NODE,
            replace(NODE, allowed=frozenset({"172.18.0.11"})),
            SourceRule("node", frozenset({"172.18.0.10", "172.18.0.11"}), "masqueraded"),
        ),
        (CLIENT, ANY, SourceRule("any", frozenset(), "not masqueraded, or else direct")),
    ],
    ids=["same", "kinds", "addresses", "any"],
)
def test_an_endpoint_in_both_may_see_what_either_allows(
    one: SourceRule, other: SourceRule, expected: SourceRule
) -> None:
    joined = either(replace(ANSWERED, answers={B1: one}), replace(ANSWERED, answers={B1: other}))

    assert joined.answers == {B1: expected}


def test_the_form_of_a_refusal_stays_unless_the_other_verdict_leaves_it_open() -> None:
    assert either(REJECTED, DROPPED).must_refuse_with == PORT_UNREACHABLE
    assert either(DROPPED, REJECTED).must_refuse_with == PORT_UNREACHABLE
    assert either(REJECTED, replace(REJECTED, must_refuse_with=None)).must_refuse_with is None


def test_reasons_services_and_affinity_are_told_once_or_both() -> None:
    other = replace(DROPPED, service="default/other:80", affinity_s=None)

    assert either(ANSWERED, DROPPED).reason == "one; or else two"
    assert (either(ANSWERED, DROPPED).service, either(ANSWERED, DROPPED).affinity_s) == ("default/web:80", 60)
    assert (either(ANSWERED, other).service, either(ANSWERED, other).affinity_s) == (
        "default/web:80 or default/other:80",
        None,
    )


def test_two_verdicts_about_no_service_are_about_no_service() -> None:
    """A Service left to another proxy, asked for at an address where not every mode has node ports."""
    foreign = service(labels={"service.kubernetes.io/service-proxy-name": "other"})
    state = cluster(foreign, endpoint_slice("b1"))

    result = verdict(state, Flow(OUTSIDE, "TCP", SECONDARY["node-a"], NODE_PORT))

    assert result.service is None
    assert result.outcomes == {"refused", "unreachable", "timeout"}
