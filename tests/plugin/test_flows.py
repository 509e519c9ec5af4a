# SPDX-License-Identifier: Apache-2.0
"""Each assertion about flows can hold, and can fail, with a sentence that says by what."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clusters.agent.client import ProbeRequest
from clusters.observation import Address, Family, FlowOutcome, Icmp, Observation, Protocol
from dataplane_ref.model import Verdict
from plugins.flows import Everywhere, Flows, ViolationError, problems_of, summary
from plugins.packets import icmp_errors
from plugins.record import Record
from plugins.services import Port, Service
from plugins.settle import Deadlines, Settler
from plugins.slices import Slice
from plugins.world import World
from tests.plugin.fake_cluster import FakeCluster
from tests.plugin.fake_flows import FakeHeld
from tests.plugin.fake_proxy import FakeProxy


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world over a fake that tells the truth; tests bend the observations afterwards."""
    with FakeCluster(3, 4, lies=frozenset(), seed=1, directory=tmp_path) as cluster:
        settler = Settler(cluster, FakeProxy(cluster, "ordered"), Deadlines())
        settler.create_sentinel()
        made = World(cluster, settler, families=("IPv4", "IPv6"), probe_timeout=1.0, after_settling=lambda: None)
        made.record = Record("topic.what", "core", "It MUST be so.", "test", {})
        yield made


def opened(world: World, service: Service, *, count: int = 60, kind: str = "pod") -> Flows:
    return world.vantage(kind).open(service.cluster_ip("IPv4"), "TCP", count=count)


def bent(flows: Flows, which: int, **changes: Any) -> Flows:
    """The same flows, one of them (counted from 0) observed otherwise."""
    seen = list(flows.observations)
    seen[which] = replace(seen[which], **changes)
    return replace(flows, observations=tuple(seen))


def silent(flows: Flows, which: int) -> Flows:
    return bent(
        flows, which, outcome=FlowOutcome.TIMEOUT, backend=None, served_at=None, client_seen=None, reply_src=None
    )


# must_stay_within_the_verdict


def test_true_flows_stay_within_the_verdict(world: World) -> None:
    flows = opened(world, world.service(endpoints=world.backends(3)))
    assert flows.must_stay_within_the_verdict() is flows
    assert list(flows) == list(flows.observations)
    assert flows.outcomes == {FlowOutcome.REPLY}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"served_at": Address("10.244.0.9", 8080)}, "endpoint 10.244.0.9:8080, but should be 10.244."),
        ({"served_at": Address("10.244.0.2", 8081)}, "endpoint 10.244.0.2:8081, but should be 10.244."),
        ({"client_seen": Address("172.18.0.11", 5)}, "client address 172.18.0.11 at 10.244."),
        ({"client_seen": None}, "no client address at 10.244."),
        ({"reply_src": Address("10.244.0.2", 8080)}, "a reply from 10.244.0.2:8080, but should be from 10.96."),
        ({"reply_src": None}, "a reply of unknown source"),
        ({"served_at": None}, "a reply that does not say which endpoint sent it"),
        ({"outcome": FlowOutcome.TIMEOUT, "served_at": None}, "outcome timeout, but should be reply"),
        ({"outcome": FlowOutcome.RESET, "served_at": None}, "outcome reset, but should be reply"),
        ({"outcome": FlowOutcome.REFUSED, "served_at": None}, "outcome refused, but should be reply"),
    ],
)
def test_one_flow_outside_the_verdict_is_enough(world: World, changes: dict[str, Any], sentence: str) -> None:
    flows = bent(opened(world, world.service(endpoints=world.backends(3)), count=7), 4, **changes)
    with pytest.raises(ViolationError) as caught:
        flows.must_stay_within_the_verdict()
    assert sentence in str(caught.value)
    assert f"(flow 5 of 7, from {flows.observations[4].src})" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"icmp": None}, "a refusal without an ICMP error, but should be ICMP type 3 code 3"),
        ({"icmp": Icmp(3, 1, "172.18.0.10")}, "a refusal by ICMP type 3 code 1, but should be ICMP type 3 code 3"),
        ({"outcome": FlowOutcome.TIMEOUT}, "outcome timeout, but should be refused"),
        ({"outcome": FlowOutcome.REPLY}, "outcome reply, but should be refused"),
    ],
)
def test_a_refusal_has_a_form(world: World, changes: dict[str, Any], sentence: str) -> None:
    flows = opened(world, world.service(endpoints=[]), count=2)
    flows.must_stay_within_the_verdict()
    with pytest.raises(ViolationError, match=sentence):
        bent(flows, 1, **changes).must_stay_within_the_verdict()


def test_several_problems_of_one_flow_are_all_told(world: World) -> None:
    flows = opened(world, world.service(endpoints=world.backends(2)), count=1)
    seen = replace(flows.observations[0], client_seen=Address("192.0.2.1", 1), reply_src=Address("192.0.2.2", 2))
    assert len(problems_of(seen, flows.verdict)) == 2
    with pytest.raises(ViolationError, match=r"192\.0\.2\.1.*; .*192\.0\.2\.2"):
        replace(flows, observations=(seen,)).must_stay_within_the_verdict()


def test_what_was_judged_is_remembered(world: World) -> None:
    flows = opened(world, world.service(endpoints=world.backends(1)), count=5)
    with pytest.raises(ViolationError):
        silent(flows, 0).must_stay_within_the_verdict()
    record = world.record
    assert "outcome: reply" in str(record.expected)
    assert record.observed == "4 × reply from node-a.pod-1, 1 × timeout"
    assert record.observations[0]["outcome"] == "timeout"


# must_reach_exactly


def test_every_backend_and_no_other_is_reached(world: World) -> None:
    service = world.service(endpoints=world.backends(3))
    flows = opened(world, service)
    assert flows.backends == service.ready_backends
    assert flows.must_reach_exactly(service.ready_backends) is flows


def test_a_backend_that_is_never_reached_is_named(world: World) -> None:
    service = world.service(endpoints=world.backends(3))
    flows = opened(world, service)
    only = replace(flows, observations=tuple(seen for seen in flows if seen.backend != "node-b.pod-1"))
    with pytest.raises(ViolationError) as caught:
        only.must_reach_exactly(service.ready_backends)
    assert str(caught.value) == (
        f"backends that answered {len(only.observations)} flows: node-a.pod-1, node-c.pod-1; "
        "never reached: node-b.pod-1"
    )


def test_a_backend_too_many_is_named(world: World) -> None:
    service = world.service(endpoints=world.backends(2))
    with pytest.raises(ViolationError, match=r"; must not have answered: node-b\.pod-1$"):
        opened(world, service).must_reach_exactly(frozenset({"node-a.pod-1"}))


def test_nobody_at_all_is_named_none(world: World) -> None:
    flows = opened(world, world.service(endpoints=[]), count=2)
    flows.must_reach_exactly(frozenset())
    with pytest.raises(ViolationError, match=r"backends that answered 2 flows: none; never reached: x$"):
        flows.must_reach_exactly(frozenset({"x"}))


def test_reaching_also_means_staying_within_the_verdict(world: World) -> None:
    service = world.service(endpoints=world.backends(2))
    with pytest.raises(ViolationError, match="outcome timeout, but should be reply"):
        silent(opened(world, service), 0).must_reach_exactly(service.ready_backends)


def test_every_flow_must_have_been_answered(world: World) -> None:
    service = world.service(endpoints=world.backends(2))
    flows = opened(world, service)
    lenient = replace(flows.verdict, outcomes=frozenset({"reply", "timeout"}))
    with pytest.raises(ViolationError):
        silent(replace(flows, verdict=lenient), 0).must_reach_exactly(service.ready_backends)


def test_no_flows_at_all_prove_nothing(world: World) -> None:
    flows = opened(world, world.service(endpoints=world.backends(1)), count=0)
    with pytest.raises((ViolationError, ValueError)):
        flows.must_stay_within_the_verdict()


def test_what_a_process_is_told_of_a_drop_is_a_drop(world: World) -> None:
    service = world.service(
        endpoints=world.node_at("second").backends[:1], internalTrafficPolicy="Local", ports=[Port(80, 8080, "UDP")]
    )
    flows = world.vantage("node").open(service.cluster_ip("IPv4"), "UDP", count=2)
    told = bent(flows, 0, outcome=FlowOutcome.UNREACHABLE, errno="EPERM")
    told.must_stay_within_the_verdict()
    for outcome, errno in ((FlowOutcome.UNREACHABLE, "ENETUNREACH"), (FlowOutcome.REFUSED, "ECONNREFUSED")):
        with pytest.raises(ViolationError, match="but should be timeout"):
            bent(flows, 0, outcome=outcome, errno=errno).must_stay_within_the_verdict()


# must_reach_all_that_is_allowed


def test_every_allowed_endpoint_is_reached(world: World) -> None:
    flows = opened(world, world.service(endpoints=world.backends(3)))
    assert flows.must_reach_all_that_is_allowed() is flows


def test_an_allowed_endpoint_that_is_never_reached_is_named(world: World) -> None:
    flows = opened(world, world.service(endpoints=world.backends(3)))
    only = replace(flows, observations=tuple(seen for seen in flows if seen.backend != "node-b.pod-1"))
    with pytest.raises(ViolationError, match=r"never reached in \d+ flows: 10\.244\.1\.2:8080$"):
        only.must_reach_all_that_is_allowed()


def test_reaching_all_also_means_staying_within_the_verdict(world: World) -> None:
    flows = opened(world, world.service(endpoints=world.backends(2)))
    with pytest.raises(ViolationError, match="outcome timeout, but should be reply"):
        silent(flows, 0).must_reach_all_that_is_allowed()
    opened(world, world.service(endpoints=[]), count=2).must_reach_all_that_is_allowed()


# each_must_…


class Bent(FakeCluster):
    """Silent towards one destination, or from one node."""

    deaf: Address | None = None
    deaf_node: str | None = None

    def probe(
        self, requests: Sequence[ProbeRequest], *, timeout: float = 2.0, concurrency: int = 64
    ) -> list[Observation]:
        seen = super().probe(requests, timeout=timeout, concurrency=concurrency)
        unanswered: dict[str, Any] = {"outcome": FlowOutcome.TIMEOUT, "backend": None, "served_at": None}
        return [replace(one, **unanswered) if self._is_deaf(one) else one for one in seen]

    def _is_deaf(self, seen: Observation) -> bool:
        return seen.dst == self.deaf or seen.node == (self.deaf_node or "none")


@pytest.fixture
def deaf(tmp_path: Path) -> Iterator[tuple[World, Service, Everywhere]]:
    """A Service with four targets, of which the last is deaf, and the pods of three nodes."""
    with Bent(3, 4, lies=frozenset(), seed=1, directory=tmp_path) as cluster:
        settler = Settler(cluster, FakeProxy(cluster, "ordered"), Deadlines())
        world = World(cluster, settler, families=("IPv4", "IPv6"), probe_timeout=1.0, after_settling=lambda: None)
        service = world.service(endpoints=world.backends(2))
        frontend, _ = service.every_cluster_ip()[-1]
        cluster.deaf = Address(frontend.ip, frontend.port)
        yield world, service, world.everywhere("pod")


def test_each_target_must_reach_exactly(deaf: tuple[World, Service, Everywhere]) -> None:
    world, service, pods = deaf
    targets = service.every_cluster_ip()
    assert len(targets) == 4
    pods.each_must_reach_exactly(targets[:2], service)
    with pytest.raises(ViolationError, match="outcome timeout"):
        pods.each_must_reach_exactly(targets, service)
    service.slices = (*service.slices, Slice(world.backends(3)[2:]))
    with pytest.raises(ViolationError, match=r"never reached: node-c\.pod-1"):
        pods.each_must_reach_exactly(targets[:2], service)


def test_each_target_must_reach_named_backends(deaf: tuple[World, Service, Everywhere]) -> None:
    world, service, pods = deaf
    targets = service.every_cluster_ip()[:2]
    pods.each_must_reach_exactly(targets, world.backends(2))
    with pytest.raises(ViolationError, match=r"must not have answered: node-b\.pod-1"):
        pods.each_must_reach_exactly(targets, world.backends(1))


def test_each_target_must_reach_all_that_is_allowed(deaf: tuple[World, Service, Everywhere]) -> None:
    _, service, pods = deaf
    targets = service.every_cluster_ip()
    pods.each_must_reach_all_that_is_allowed(targets[:2])
    with pytest.raises(ViolationError, match="outcome timeout"):
        pods.each_must_reach_all_that_is_allowed(targets)
    assert {len(flows.observations) for flows in pods.open_each(targets)} == {service.enough_to_see_every_endpoint()}


def test_each_target_must_stick_to_one(deaf: tuple[World, Service, Everywhere]) -> None:
    world, service, pods = deaf
    sticky = world.service(endpoints=world.backends(3), sessionAffinity="ClientIP")
    pods.each_must_stick_to_one(sticky.every_cluster_ip(), count=30)
    with pytest.raises(ViolationError, match="must not have answered"):
        pods.each_must_stick_to_one(service.every_cluster_ip()[:2], count=30)
    with pytest.raises(ViolationError, match="outcome timeout"):
        pods.each_must_stick_to_one(service.every_cluster_ip()[-1:], count=30)


def test_each_target_must_stay_within_the_verdict(deaf: tuple[World, Service, Everywhere]) -> None:
    _, service, pods = deaf
    targets = service.every_cluster_ip()
    pods.each_must_stay_within_the_verdict(targets[:2], count=2)
    with pytest.raises(ViolationError, match="outcome timeout"):
        pods.each_must_stay_within_the_verdict(targets, count=2)


def test_all_that_was_wrong_is_told(deaf: tuple[World, Service, Everywhere]) -> None:
    """What is wrong first must not hide what is wrong after it; the record speaks of the first."""
    world, service, pods = deaf
    assert isinstance(world.cluster, Bent)
    targets = [*service.every_cluster_ip(), *service.every_cluster_ip()[:2]]
    with pytest.raises(ViolationError) as caught:
        pods.each_must_stay_within_the_verdict(targets, count=2)
    wrong = [probe[0].dst for probe in caught.value.probes]
    assert set(wrong) == {world.cluster.deaf}
    assert len(wrong) == 2 * len(world.nodes), "by TCP and by UDP"
    assert all(len(probe) == 2 for probe in caught.value.probes)
    assert world.record.latest == caught.value.probes[0]


@pytest.mark.parametrize("node", ["node-a", "node-b", "node-c"])
def test_one_node_that_is_wrong_is_enough(node: str, deaf: tuple[World, Service, Everywhere]) -> None:
    """Every node has a proxy of its own."""
    world, service, pods = deaf
    assert isinstance(world.cluster, Bent)
    world.cluster.deaf, world.cluster.deaf_node = None, node
    with pytest.raises(ViolationError, match="outcome timeout"):
        pods.each_must_reach_exactly(service.every_cluster_ip(), service)
    assert str(world.record.where).startswith(f"{node}.pod-3 ")
    with pytest.raises(ViolationError, match="outcome timeout"):
        pods.each_must_stay_within_the_verdict(service.every_cluster_ip(), count=2)


@pytest.mark.parametrize("count", [1])
def test_no_targets_at_all_prove_nothing(count: int, deaf: tuple[World, Service, Everywhere]) -> None:
    with pytest.raises((ViolationError, ValueError)):
        deaf[2].each_must_stay_within_the_verdict([], count=count)


def test_open_each_keeps_vantages_and_targets_apart(deaf: tuple[World, Service, Everywhere]) -> None:
    _, service, pods = deaf
    targets = service.every_cluster_ip()
    flows = pods.open_each(targets, count=3)
    assert [len(one.observations) for one in flows] == [3] * 4 * 3
    first = [one.observations[0] for one in flows]
    assert [(seen.node, seen.dst.ip, seen.protocol) for seen in first] == [
        (node, frontend.ip, protocol) for node in ("node-a", "node-b", "node-c") for frontend, protocol in targets
    ]


def test_held_flows_must_be_served_by_one_backend(world: World) -> None:
    first, second = world.backends(2)
    service = world.service(endpoints=[first])
    with world.everywhere("pod", "node").hold_each(service.every_cluster_ip("UDP")) as flows:
        assert len(flows.flows) == 6 * 2
        flows.must_be_served_by(first)
        with pytest.raises(
            ViolationError, match=r"never reached: node-b\.pod-1; must not have answered: node-a\.pod-1"
        ):
            flows.must_be_served_by(second)
        service.set_endpoints([second])
        flows.must_be_served_by(second)
        world.cluster.lies = frozenset({"stale-flows"})  # type: ignore[attr-defined]
        service.set_endpoints([first])
        with pytest.raises(ViolationError, match=r"endpoint .* but should be"):
            flows.must_be_served_by(first)


def test_held_flows_are_asked_for_as_much_as_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, int]] = []
    ask = FakeHeld.ask

    def noted(held: FakeHeld, **sizes: int) -> None:
        asked.append(sizes)
        ask(held, None, **sizes)

    monkeypatch.setattr(FakeHeld, "ask", noted)
    first, second = world.backends(2)
    service = world.service(endpoints=[first], ports=[Port(80, 8080, "SCTP")])
    with world.at(second.vantage).hold_each(service.every_cluster_ip(family="IPv4")) as flows:
        flows.must_be_served_by(first, size=300)
        flows.must_be_served_by(first)
    assert asked == [{"reply_padding": 300, "request_size": 300}, {"reply_padding": 0, "request_size": 0}]


# Held and captured flows.


def test_a_held_flow_is_judged_by_what_holds_now(world: World) -> None:
    first, second = world.backends(2)
    service = world.service(endpoints=[first])
    frontend, vantage = service.cluster_ip("IPv4"), world.vantage("pod")
    with vantage.hold(frontend, "UDP") as flow:
        service.set_endpoints([second])
        vantage.judged(frontend, "UDP", [flow.exchange()]).must_reach_exactly(frozenset({second.name}))
        with pytest.raises(ViolationError, match=r"endpoint 10\.244\.0\.2:8080, but should be 10\.244\.1\.2:8080"):
            vantage.judged(frontend, "UDP", [flow.first]).must_reach_exactly(frozenset({second.name}))


def test_captures_hold_the_packets_of_their_own_vantage(world: World) -> None:
    service = world.service(endpoints=[])
    flows, packets = world.vantage("pod").captured(service.cluster_ip("IPv6"), "UDP", count=3)
    assert len(packets) == len(flows.observations) == 3
    with world.cluster.capture(world.nodes[1].client) as elsewhere:
        opened(world, service)
    assert elsewhere.packets == ()


@pytest.mark.parametrize(("family", "error"), [("IPv4", (3, 3)), ("IPv6", (1, 4))])
@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
def test_a_refusal_is_found_among_the_packets(
    world: World, family: Family, protocol: Protocol, error: tuple[int, int]
) -> None:
    service = world.service(endpoints=[], ports=[Port(80, 8080, protocol)])
    flows, packets = world.vantage("pod").captured(service.cluster_ip(family), protocol, count=2)
    found = icmp_errors(packets)
    assert [(one.type, one.code) for one in found] == [error, error]
    assert [one.quoted_port for one in found] == [one.src.port for one in flows if one.src]


# In one line.


def seen(**changes: Any) -> Observation:
    plain = Observation("v", None, "f", "TCP", "IPv4", None, Address("10.96.0.1", 80), FlowOutcome.REPLY)
    return replace(plain, **changes)


def test_summary_counts_ends_and_backends() -> None:
    assert summary([]) == ""
    assert summary(
        [
            seen(backend="b"),
            seen(backend="a"),
            seen(backend="a"),
            seen(outcome=FlowOutcome.TIMEOUT),
            seen(outcome=FlowOutcome.REFUSED, errno="ECONNREFUSED", icmp=Icmp(3, 3, "172.18.0.10")),
            seen(outcome=FlowOutcome.REFUSED, errno="ECONNREFUSED"),
        ]
    ) == (
        "1 × refused ECONNREFUSED, 1 × refused ECONNREFUSED ICMP 3/3, 2 × reply from a, 1 × reply from b, 1 × timeout"
    )


def test_a_verdict_explains_itself_in_the_record(world: World) -> None:
    flows = opened(world, world.service(endpoints=world.backends(2)), count=1)
    assert isinstance(flows.verdict, Verdict)
    flows.must_stay_within_the_verdict()
    assert world.record.expected == flows.verdict.explain()
