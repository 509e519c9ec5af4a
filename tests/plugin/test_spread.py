# SPDX-License-Identifier: Apache-2.0
"""Each assertion about a spread can hold, and fails on a sample that is bent."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from clusters.agent.client import ProbeRequest
from clusters.errors import PlumblineError
from clusters.observation import Address, FlowOutcome, Observation
from dataplane_ref.model import Endpoint
from plugins.flows import ViolationError
from plugins.record import Record
from plugins.services import Service, Target
from plugins.settle import Deadlines, Settler
from plugins.spread import (
    must_be_even,
    must_be_independent,
    must_follow,
    must_have_counts,
    must_keep_most,
    open_again,
)
from plugins.statistics import ALPHA, fewest, same_endpoint
from plugins.world import World
from tests.plugin.fake_cluster import FakeCluster
from tests.plugin.fake_proxy import FakeProxy
from tests.plugin.fake_schedulers import Schedulers

Choose = Callable[[Sequence[Endpoint]], Endpoint]


class Bent(Schedulers):
    """Chooses as a test says; fairly where it says nothing."""

    bend: Choose | None = None

    def choose(
        self, services: object, endpoints: Sequence[Endpoint], request: ProbeRequest, src: Address
    ) -> Endpoint:
        return self.bend(endpoints) if self.bend else super().choose(services, endpoints, request, src)  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeCluster(3, 4, lies=frozenset(), seed=1, directory=tmp_path) as cluster:
        cluster.schedulers = Bent(cluster.schedulers._chance)
        settler = Settler(cluster, FakeProxy(cluster, "ordered"), Deadlines())
        settler.create_sentinel()
        made = World(cluster, settler, families=("IPv4", "IPv6"), probe_timeout=1.0, after_settling=lambda: None)
        made.record = Record("topic.what", "core", "It MUST be so.", "test", {})
        yield made


@pytest.fixture
def service(world: World) -> Service:
    return world.service(endpoints=world.backends(3))


def bend(world: World, choose: Choose) -> None:
    assert isinstance(world.cluster, FakeCluster)
    assert isinstance(world.cluster.schedulers, Bent)
    world.cluster.schedulers.bend = choose


def in_turn(*places: int) -> Choose:
    """These places, again and again."""
    count = -1

    def choose(endpoints: Sequence[Endpoint]) -> Endpoint:
        nonlocal count
        count += 1
        return endpoints[places[count % len(places)]]

    return choose


def target(service: Service) -> Target:
    return service.every_cluster_ip()[0]


def test_a_fair_choice_is_even_and_independent(world: World, service: Service) -> None:
    must_be_even(world.vantage("pod"), service.every_cluster_ip(), "half")
    must_be_independent(world.vantage("pod"), service.every_cluster_ip())
    assert "991 flows notice one endpoint with half" not in str(world.record.expected), "the latest probe speaks"
    assert "independent choices; half as many repeats" in str(world.record.expected)


@pytest.mark.parametrize("places", [(0, 0, 1, 1, 2), (0, 1), (2,)])
def test_an_uneven_one_is_not_even(places: tuple[int, ...], world: World, service: Service) -> None:
    bend(world, in_turn(*places))
    with pytest.raises(ViolationError, match=r"endpoints got \d+, \d+, \d+ of 991 flows, which a fair choice gives"):
        must_be_even(world.vantage("pod"), [target(service)], "half")
    assert "even shares; 991 flows notice one endpoint with half of each other's share" in str(world.record.expected)


def test_turns_are_even_and_not_independent(world: World, service: Service) -> None:
    bend(world, in_turn(0, 1, 2))
    must_be_even(world.vantage("pod"), [target(service)], "half")
    with pytest.raises(ViolationError, match="0 of 656 flows had the endpoint of the flow before"):
        must_be_independent(world.vantage("pod"), [target(service)])


def test_silence_is_no_share(world: World) -> None:
    nobody = world.service(endpoints=[], kind="NodePort")
    with pytest.raises((ViolationError, ValueError, ZeroDivisionError)):
        must_be_even(world.vantage("pod"), [target(nobody)], "half")


def test_choices_must_follow_a_rule(world: World, service: Service) -> None:
    bend(world, in_turn(0, 1, 2))
    client = world.vantage("pod")
    must_follow([client.open(*target(service), count=22)], fewest, "turns")
    bend(world, in_turn(0, 1, 1, 2))
    flows = [client.open(*target(service)), client.open(*target(service), count=3)]
    with pytest.raises(ViolationError, match=r"flow 3 went to \S+ when .* had 1, 1, 0 flows, which is not turns"):
        must_follow(flows, fewest, "turns")


def test_checks_are_recorded(world: World, service: Service) -> None:
    bend(world, in_turn(0, 1, 2))
    client = world.vantage("pod")
    must_follow([client.open(*target(service), count=24)], fewest, "turns")
    with pytest.raises(ViolationError):
        must_follow([client.open(*target(service), count=24)], same_endpoint, "one endpoint")
    with pytest.raises(ViolationError):
        must_have_counts([client.open(*target(service), count=3)], [0, 1, 2], "by weight")
    with pytest.raises(ViolationError):
        must_be_independent(client, [target(service)])
    found = world.record.as_dict()["checks"]
    assert [(one["model"], one["flows"], one["chance"]) for one in found[:3]] == [
        ("turns", 24, 1.0),
        ("one endpoint", 24, 0.0),
        ("by weight", 3, 0.0),
    ]
    assert [one["model"] for one in found[3:]] == ["independent choices"]
    assert found[3]["chance"] < ALPHA
    assert found[0]["notices"] == "a random choice, which follows with a chance of 6e-06"


def test_counts_must_be_these(world: World, service: Service) -> None:
    bend(world, in_turn(0, 1, 1))
    client = world.vantage("pod")
    must_have_counts([client.open(*target(service), count=6)], [0, 4, 2])
    must_have_counts([client.open(*target(service), count=1), client.open(*target(service), count=2)], [0, 1, 2])
    with pytest.raises(ViolationError, match="endpoints got 0, 2, 4 flows, but should 2, 2, 2"):
        must_have_counts([client.open(*target(service), count=6)], [2, 2, 2])


def test_flows_must_stay(world: World, service: Service) -> None:
    client = world.vantage("pod")
    bend(world, in_turn(0, 1))
    before = client.open(*target(service), count=8)
    again = open_again(client, target(service), before)
    assert [seen.src for seen in again] == [seen.src for seen in before]
    must_keep_most(before, again, least=1)
    bend(world, in_turn(0, 0, 0, 1))
    with pytest.raises(ViolationError, match=r"6 of 8 flows .* but should 100%"):
        must_keep_most(before, open_again(client, target(service), before), least=1)
    must_keep_most(before, open_again(client, target(service), before), least=0.75)


def test_flows_whose_source_port_is_shared_are_left_out(
    world: World, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = world.vantage("pod")
    bend(world, in_turn(0, 1))
    before = client.open(*target(service), count=10)
    probe = world.cluster.probe
    taken = {2}

    def share(requests: Sequence[ProbeRequest], **options: float) -> list[Observation]:
        seen = probe(requests, **options)  # type: ignore[arg-type]
        lost = {"outcome": FlowOutcome.UNREACHABLE, "errno": "EADDRINUSE", "src": None, "backend": None}
        return [replace(one, **lost) if number in taken else one for number, one in enumerate(seen)]  # type: ignore[arg-type]

    monkeypatch.setattr(world.cluster, "probe", share)
    again = open_again(client, target(service), before)
    assert [seen.src for seen in again] == [seen.src for number, seen in enumerate(before) if number != 2]
    must_keep_most(before, again, least=1)
    taken.add(5)
    with pytest.raises(PlumblineError, match="2 of 10 source ports are taken by other connections"):
        open_again(client, target(service), before)


def test_flows_whose_endpoint_is_gone_do_not_count(world: World, service: Service) -> None:
    client = world.vantage("pod")
    bend(world, in_turn(0, 1))
    before = client.open(*target(service), count=8)
    service.set_endpoints(world.backends(3)[1:])
    bend(world, in_turn(0))
    must_keep_most(before, open_again(client, target(service), before), least=1)
    bend(world, in_turn(1))
    with pytest.raises(ViolationError, match="0 of 4 flows whose endpoint is still there kept it"):
        must_keep_most(before, open_again(client, target(service), before), least=0.75)
