# SPDX-License-Identifier: Apache-2.0
"""judge() and the words of a verdict: each kind of violation has its own sentence, and nothing else has one."""

from typing import Any

import pytest

from clusters.observation import Address, FlowOutcome, Icmp
from dataplane_ref.model import Flow, Verdict, judge, verdict
from tests.model.cluster import (
    CLUSTER_IP,
    CLUSTER_IP6,
    NODE_IP,
    NODE_PORT,
    OUTSIDE,
    POD,
    SECONDARY,
    at,
    cluster,
    endpoint_slice,
    from_pod,
    service,
)

DIALLED = Address(CLUSTER_IP, 80)
FLOW = Flow(from_pod("a1"), "TCP", CLUSTER_IP, 80)
ANSWERED = verdict(cluster(service(), endpoint_slice("a1", "b1")), FLOW)
REJECTED = verdict(cluster(service()), FLOW)
DROPPED = verdict(cluster(service(internalTrafficPolicy="Local"), endpoint_slice("b1")), FLOW)
NOT_PROXIED = verdict(cluster(), FLOW)


def observed(item: Verdict, **changes: Any) -> list[str]:
    """Judge a good reply from b1 with some fields changed."""
    good: dict[str, Any] = {
        "outcome": FlowOutcome.REPLY,
        "served_at": Address(POD["b1"][0], 8080),
        "client_seen": Address(POD["a1"][0], 40000),
        "reply_src": DIALLED,
        "dst": DIALLED,
        "icmp": None,
    }
    return judge(item, **{**good, **changes})


def nothing(item: Verdict, outcome: str, **changes: Any) -> list[str]:
    """Judge a flow that no endpoint saw."""
    return observed(
        item, **{"outcome": outcome, "served_at": None, "client_seen": None, "reply_src": None, **changes}
    )


def test_a_reply_within_the_verdict_has_no_violation() -> None:
    assert observed(ANSWERED) == []
    assert observed(ANSWERED, served_at=at("b1"), client_seen=Address(POD["a1"][0], 1)) == []


def test_the_outcome() -> None:
    assert nothing(ANSWERED, "timeout") == [
        "observed outcome timeout, but should be reply (every ready endpoint may answer)"
    ]
    assert nothing(NOT_PROXIED, "reset") == [
        (
            "observed outcome reset, but should be refused or timeout or unreachable "
            "(not proxied: 10.96.0.10 belongs neither to a Service nor to a node)"
        )
    ]


def test_the_endpoint() -> None:
    assert observed(ANSWERED, served_at=Address(POD["c1"][0], 8080)) == [
        (
            "observed endpoint 10.244.2.2:8080, but should be 10.244.0.2:8080 or 10.244.1.2:8080 "
            "(every ready endpoint may answer)"
        )
    ]
    assert len(observed(ANSWERED, served_at=Address(POD["b1"][0], 8081))) == 1


def test_the_endpoint_is_judged_even_without_a_reply() -> None:
    """A node that drops must not have forwarded: a packet at a remote endpoint is wrong although no reply came."""
    assert nothing(DROPPED, "timeout") == []
    assert nothing(DROPPED, "timeout", served_at=Address(POD["b1"][0], 8080)) == [
        (
            "observed endpoint 10.244.1.2:8080, but should be no endpoint at all "
            "(internalTrafficPolicy Local and no endpoint on node-a: dropped)"
        )
    ]


def test_the_client_address() -> None:
    assert observed(ANSWERED, client_seen=Address(NODE_IP["node-a"], 40000)) == [
        (
            "observed client address 172.18.0.10 at 10.244.1.2:8080, "
            "but should be 10.244.0.2 (the client's own address: not masqueraded)"
        )
    ]
    hairpin = observed(ANSWERED, served_at=Address(POD["a1"][0], 8080))
    assert hairpin == [
        (
            "observed client address 10.244.0.2 at 10.244.0.2:8080, "
            "but should be 172.18.0.10 or 172.19.0.10 (hairpin: masqueraded to the node's address)"
        )
    ]


@pytest.mark.parametrize("node_address", [NODE_IP["node-a"], SECONDARY["node-a"]])
@pytest.mark.parametrize("port", [1, 40000, 65535])
def test_a_hairpin_may_show_any_address_of_the_node_and_any_port(node_address: str, port: int) -> None:
    hairpin = {"served_at": Address(POD["a1"][0], 8080), "client_seen": Address(node_address, port)}

    assert observed(ANSWERED, **hairpin) == []


def test_the_source_of_the_reply() -> None:
    for source in (Address(POD["b1"][0], 8080), Address(CLUSTER_IP, 8080), Address(CLUSTER_IP6, 80)):
        assert observed(ANSWERED, reply_src=source) == [
            f"observed a reply from {source}, but should be from 10.96.0.10:80, the address dialled"
        ]


def test_a_reply_must_be_observed_whole() -> None:
    assert observed(ANSWERED, served_at=None, client_seen=None) == [
        (
            "observed a reply that does not say which endpoint sent it, "
            "but should be from 10.244.0.2:8080 or 10.244.1.2:8080"
        )
    ]
    assert observed(ANSWERED, client_seen=None) == [
        (
            "observed no client address at 10.244.1.2:8080, "
            "but should be 10.244.0.2 (the client's own address: not masqueraded)"
        )
    ]
    assert observed(ANSWERED, reply_src=None) == [
        "observed a reply of unknown source, but should be from 10.96.0.10:80, the address dialled"
    ]


def test_the_form_of_a_refusal() -> None:
    sender = NODE_IP["node-a"]

    assert nothing(REJECTED, "refused", icmp=Icmp(3, 3, sender)) == []
    assert nothing(REJECTED, "refused", icmp=Icmp(3, 1, sender)) == [
        "observed a refusal by ICMP type 3 code 1, but should be ICMP type 3 code 3 (port unreachable)"
    ]
    assert nothing(REJECTED, "refused") == [
        "observed a refusal without an ICMP error, but should be ICMP type 3 code 3 (port unreachable)"
    ]


def test_a_refusal_where_nothing_is_proxied_may_have_any_form() -> None:
    assert nothing(NOT_PROXIED, "refused") == []
    assert nothing(NOT_PROXIED, "refused", icmp=Icmp(3, 13, NODE_IP["node-a"])) == []


def test_several_violations_are_all_told() -> None:
    problems = observed(REJECTED, reply_src=Address(POD["b1"][0], 8080))

    assert [problem.split(",")[0] for problem in problems] == [
        "observed outcome reply",
        "observed endpoint 10.244.1.2:8080",
        "observed a reply from 10.244.1.2:8080",
    ]


def test_an_endpoint_dialled_directly_may_see_any_client() -> None:
    direct = Address(POD["b1"][0], 8080)
    item = verdict(cluster(service(), endpoint_slice("b1")), Flow(from_pod("a1"), "TCP", direct.ip, direct.port))

    assert observed(item, dst=direct, reply_src=direct, client_seen=Address("192.0.2.1", 1)) == []


def test_addresses_are_judged_by_value() -> None:
    flow = Flow(from_pod("a1"), "TCP", CLUSTER_IP6, 80)
    item = verdict(cluster(service(), endpoint_slice("b1", family="IPv6")), flow)

    assert (
        judge(
            item,
            outcome="reply",
            served_at=Address("FD00:10:244:1:0::2", 8080),
            client_seen=Address("fd00:10:244:0:0:0:0:2", 5),
            reply_src=Address("fd00:10:96:0::10", 80),
            dst=Address(CLUSTER_IP6, 80),
            icmp=None,
        )
        == []
    )


def test_explain_lists_every_allowed_answer() -> None:
    assert ANSWERED.explain().splitlines() == [
        "default/web:80: every ready endpoint may answer",
        "outcome: reply",
        "answer: 10.244.0.2:8080, seeing 172.18.0.10 or 172.19.0.10 (hairpin: masqueraded to the node's address)",
        "answer: 10.244.1.2:8080, seeing 10.244.0.2 (the client's own address: not masqueraded)",
    ]


def test_explain_says_how_to_refuse_and_that_nobody_may_answer() -> None:
    assert REJECTED.explain().splitlines() == [
        "default/web:80: no usable endpoint anywhere: rejected",
        "outcome: refused",
        "a refusal must be ICMP type 3 code 3 (port unreachable)",
        "answer: from no endpoint",
    ]
    assert NOT_PROXIED.explain().startswith("no Service: not proxied: ")


def test_a_flow_reads_well() -> None:
    flow = Flow(OUTSIDE, "UDP", CLUSTER_IP6, 53, via="node-b")

    assert str(flow) == "UDP from outside through node-b to [fd00:10:96::10]:53"
    assert str(Flow(from_pod("a1"), "TCP", NODE_IP["node-b"], NODE_PORT)) == (
        "TCP from a pod on node-a to 172.18.0.11:30080"
    )
