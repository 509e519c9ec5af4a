# SPDX-License-Identifier: Apache-2.0
"""Each assertion about clients under session affinity can hold, and can fail."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.flows import ViolationError
from plugins.pins import Pins, TooSlowError
from plugins.record import Record
from plugins.services import Service
from plugins.settle import Clock, Deadlines, Settler
from plugins.world import World
from tests.plugin.fake_cluster import FakeCluster
from tests.plugin.fake_proxy import FakeProxy

TIMEOUT = 10


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeCluster(3, 4, lies=frozenset(), seed=1, directory=tmp_path) as cluster:
        settler = Settler(cluster, FakeProxy(cluster, "ordered"), Deadlines(), clock=cluster.clock)
        made = World(cluster, settler, families=("IPv4", "IPv6"), probe_timeout=1.0, after_settling=lambda: None)
        made.record = Record("topic.what", "core", "It MUST be so.", "test", {})
        yield made


def lie(world: World, *lies: str) -> None:
    assert isinstance(world.cluster, FakeCluster)
    world.cluster.lies = frozenset(lies)


def sticky(world: World, endpoints: int = 6) -> Service:
    return world.service(
        endpoints=world.backends(endpoints),
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": TIMEOUT}},
    )


def pins(world: World, service: Service) -> Pins:
    return world.pin(world.crowd("pod", "node").lines(service.every_cluster_ip()))


def test_clients_must_stay(world: World) -> None:
    found = pins(world, sticky(world))
    found.must_hold()
    world.idle(TIMEOUT)
    with pytest.raises(ViolationError, match="must not have answered"):
        found.must_hold()


def test_each_look_is_a_connection(world: World) -> None:
    found = pins(world, sticky(world))
    for _ in range(3):
        world.idle(TIMEOUT - 1)
        found.must_hold(within=TIMEOUT)
    lie(world, "affinity-from-first")
    world.idle(TIMEOUT - 1)
    found.must_hold(within=TIMEOUT)
    world.idle(TIMEOUT - 1)
    with pytest.raises(ViolationError):
        found.must_hold(within=TIMEOUT)


def test_who_comes_back_too_late_judges_nothing(world: World) -> None:
    found = pins(world, sticky(world))
    world.idle(TIMEOUT)
    with pytest.raises(TooSlowError, match=r"came back after 10\.0 s, but should within 10\.0 s"):
        found.must_hold(within=TIMEOUT)


def test_clients_may_be_followed_elsewhere(world: World) -> None:
    service = sticky(world)
    clients = world.crowd("pod", "node")
    found = world.pin(clients.lines(service.every_cluster_ip("TCP")))
    found.elsewhere(clients.lines(service.every_cluster_ip("TCP"))).must_hold()
    with pytest.raises(ViolationError, match="must not have answered"):
        found.elsewhere(clients.lines(service.every_cluster_ip("UDP"))).must_hold()
    with pytest.raises(ValueError, match="other clients"):
        found.elsewhere(world.crowd("outside").lines(service.every_cluster_ip("TCP")))


def test_clients_must_be_let_go(world: World) -> None:
    found = pins(world, sticky(world))
    with pytest.raises(ViolationError, match="all 12 clients were served by the endpoints they were with before"):
        found.must_let_go()
    world.idle(TIMEOUT)
    found.must_let_go()


def test_one_frontend_that_holds_on_is_enough(world: World) -> None:
    """Who forgets all but one family's clients, or all but one protocol's, has not forgotten."""
    short, eternal = sticky(world), world.service(endpoints=world.backends(6), sessionAffinity="ClientIP")
    targets = [*short.every_cluster_ip(), *eternal.every_cluster_ip("UDP", family="IPv6")]
    found = world.pin(world.crowd("pod", "node").lines(targets))
    world.idle(TIMEOUT)
    with pytest.raises(ViolationError, match="all 12 clients"):
        found.must_let_go()
    assert str(world.record.where).endswith("UDP, IPv6")


def test_clients_must_be_spread(world: World) -> None:
    exposed = world.service(kind="NodePort", endpoints=world.backends(6), sessionAffinity="ClientIP")
    lines = world.crowd("outside", "pod", "node").lines(exposed.every_node_port(world.node_at("first")))
    world.pin(lines).must_be_spread()
    lie(world, "one-client")
    again = world.service(kind="NodePort", endpoints=world.backends(6), sessionAffinity="ClientIP")
    lines = world.crowd("outside", "pod", "node").lines(again.every_node_port(world.node_at("first")))
    with pytest.raises(ViolationError, match=r"all 13 clients of NodePort .* were served by node-"):
        world.pin(lines).must_be_spread()


@pytest.mark.parametrize("endpoints", [1, 2])
def test_what_chance_might_do_is_not_asked(world: World, endpoints: int) -> None:
    found = pins(world, sticky(world, endpoints))
    world.idle(TIMEOUT)
    with pytest.raises(ValueError, match=rf"12 clients and {endpoints} endpoints leave too much to chance"):
        found.must_let_go()
    with pytest.raises(ValueError, match="leave too much to chance"):
        found.must_be_spread()


def test_the_first_connection_must_be_served(world: World) -> None:
    service = sticky(world)
    lie(world, "silent")
    with pytest.raises(ViolationError, match="outcome timeout"):
        pins(world, service)


def test_no_lines_at_all_prove_nothing(world: World) -> None:
    with pytest.raises(ValueError, match="no target"):
        world.pin([])


def test_the_clock_shows_what_passes() -> None:
    clock = Clock()
    began = clock.now()
    clock.let_pass(0.02)
    assert clock.now() - began >= 0.02
