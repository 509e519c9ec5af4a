# SPDX-License-Identifier: Apache-2.0
"""Each assertion about flows that are held can hold, and can fail."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clusters.observation import FlowOutcome
from plugins.flows import ViolationError
from plugins.held import HeldFlows, held
from plugins.record import Record
from plugins.services import Port, Service
from plugins.settle import Deadlines, Settler
from plugins.slices import not_ready, terminating
from plugins.world import World
from tests.plugin.fake_cluster import FakeCluster
from tests.plugin.fake_proxy import FakeProxy


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeCluster(3, 4, lies=frozenset(), seed=1, directory=tmp_path) as cluster:
        settler = Settler(cluster, FakeProxy(cluster, "ordered"), Deadlines())
        made = World(cluster, settler, families=("IPv4", "IPv6"), probe_timeout=1.0, after_settling=lambda: None)
        made.record = Record("topic.what", "core", "It MUST be so.", "test", {})
        yield made


def lie(world: World, *lies: str) -> None:
    assert isinstance(world.cluster, FakeCluster)
    world.cluster.lies = frozenset(lies)
    world.cluster._believed = None


def with_every_frontend(world: World, count: int) -> Service:
    return world.service(
        kind="LoadBalancer",
        endpoints=world.backends(count),
        ingress=world.virtual_ips(),
        externalIPs=world.virtual_ips(through="second"),
    )


def test_flows_go_everywhere(world: World) -> None:
    service = with_every_frontend(world, 1)
    with world.hold_everywhere("UDP", service) as flows:
        kinds = [(flow.prober.kind, flow.target[0].kind) for flow in flows.flows]
        assert {flow.target[1] for flow in flows.flows} == {"UDP"}
    assert kinds.count(("outside", "ClusterIP")) == 0
    assert kinds.count(("pod", "ClusterIP")) == kinds.count(("node", "ClusterIP")) == 3 * 2
    assert kinds.count(("outside", "NodePort")) == 3 * 2
    assert kinds.count(("outside", "LoadBalancer")) == kinds.count(("outside", "ExternalIP")) == 2
    assert len(kinds) == 6 * 2 + 7 * (3 * 2 + 2 + 2)


def test_a_service_without_node_ports_has_none(world: World) -> None:
    service = world.service(endpoints=world.backends(1))
    assert world.outer_frontends(service) == []


def test_no_lines_at_all_prove_nothing() -> None:
    with pytest.raises(ValueError, match="no target"), held([]):
        pass


def test_the_first_exchange_is_judged_too(world: World) -> None:
    service = world.service(endpoints=world.backends(1))
    lie(world, "silent")
    with pytest.raises(ViolationError, match="outcome timeout"), world.hold_everywhere("TCP", service):
        pass


def test_flows_must_go_on_where_they_are(world: World) -> None:
    service = world.service(endpoints=world.backends(3))
    with world.hold_everywhere("UDP", service) as flows:
        assert len({flow.backend for flow in flows.flows}) > 1
        flows.must_go_on()
        lie(world, "restless-flows")
        with pytest.raises(ViolationError, match=r"endpoint .*, but should be"):
            flows.must_go_on()


def test_connections_must_not_be_reset(world: World) -> None:
    service = world.service(endpoints=world.backends(2))
    with world.hold_everywhere("TCP", service) as connections:
        service.set_endpoints([])
        connections.must_go_on()
        lie(world, "cuts-connections")
        with pytest.raises(ViolationError, match="outcome reset, but should be reply"):
            connections.must_go_on()


def test_connections_must_be_answered(world: World) -> None:
    """The model cannot say whether an endpoint is alive: the requirement does."""
    service = world.service(endpoints=world.backends(1))
    with world.hold_everywhere("TCP", service) as connections:
        (flow, *_) = connections.flows
        silent = replace(flow.connection.first, outcome=FlowOutcome.TIMEOUT, backend=None, served_at=None)
        flow.connection._last = silent  # type: ignore[attr-defined]
        with pytest.raises(ViolationError, match=r"never reached: node-a\.pod-1"):
            connections.must_go_on()


def test_flows_must_reach_nobody(world: World) -> None:
    service = world.service(endpoints=world.backends(1), ports=[Port(80, 8080, "UDP")])
    with world.hold_everywhere("UDP", service) as flows:
        with pytest.raises(ViolationError, match="must not have answered"):
            flows.must_reach_nobody()
        service.set_endpoints([])
        flows.must_reach_nobody()
        service.set_endpoints(world.backends(1))
        flows.must_be_served_by(world.backends(1)[0])
        lie(world, "stale-flows")
        service.set_endpoints([])
        with pytest.raises(ViolationError, match="outcome reply, but should be refused"):
            flows.must_reach_nobody()


def test_flows_must_reach_all_that_is_allowed(world: World) -> None:
    node = world.node_at("first")
    service = world.service(endpoints=[node.backends[0]], internalTrafficPolicy="Local")
    with world.hold_everywhere("UDP", service) as flows:
        flows.must_reach_all_that_is_allowed()
        service.set_endpoints([world.node_at("second").backends[0]])
        flows.must_reach_all_that_is_allowed()
        lie(world, "ignores-internal-policy")
        with pytest.raises(ViolationError, match="outcome reply, but should be timeout"):
            flows.must_reach_all_that_is_allowed()


def served(flows: HeldFlows) -> set[str | None]:
    return {flow.backend for flow in flows.flows}


def test_a_flow_stays_with_an_endpoint_that_serves(world: World) -> None:
    """New flows would be served by the other one; this is not one of them."""
    first, other = world.backends(2)
    service = world.service(endpoints=[first])
    with world.hold_everywhere("UDP", service) as flows:
        service.set_endpoints([terminating(first), other])
        flows.must_be_served_by(first)
        service.set_endpoints([not_ready(first), other])
        flows.must_be_served_by(other)
    assert served(flows) == {other.name}


def test_a_flow_that_was_left_alone_may_return_or_move(world: World) -> None:
    """An endpoint that was gone and is back: nobody says whether the flow is with it still."""
    first, other = world.backends(2)
    service = world.service(endpoints=[first])
    with world.hold_everywhere("UDP", service) as flows:
        service.set_endpoints([])
        flows.must_reach_nobody()
        service.set_endpoints([first, other])
        for flow in flows.flows:
            assert flow.past is not None
            assert flow.past.is_broken
            flow.judged(flow.connection.exchange()).must_stay_within_the_verdict()
    assert served(flows) <= {first.name, other.name}
