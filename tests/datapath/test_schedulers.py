# SPDX-License-Identifier: Apache-2.0
"""Each scheduler: whom it chooses of a set, by the numbers of endpoints."""

from collections import Counter
from collections.abc import Sequence

import pytest

from dataplane_ref.controller import maglev
from tests.datapath.bench import Bench
from tests.datapath.network import PODS
from tests.datapath.node import PASS, as_address
from tests.datapath.packets import FAMILIES, PORT, ROLES, SPORT, TARGET, packet

BOTH = pytest.mark.parametrize("family", FAMILIES)
SCHEDULERS = (
    "RANDOM", "ROUND_ROBIN", "WEIGHTED_ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_HASH", "DESTINATION_HASH",
    "SHORTEST_EXPECTED_DELAY", "NEVER_QUEUE", "MAGLEV",
)  # fmt: skip


class Scheduled:
    """A Service with some endpoints under a scheduler, and the clients that dial it."""

    def __init__(
        self, node: Bench, family: str, scheduler: str, count: int = 3, *, set_of: Sequence[int] | None = None,
        weights: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self.node, self.roles, self.scheduler = node, ROLES[family], scheduler
        prefix = self.roles.pod[:-1]
        strangers = node.endpoint(f"{prefix}8", TARGET), node.endpoint(f"{prefix}9", TARGET)
        self.endpoints = [node.endpoint(f"{prefix}{20 + number}", TARGET) for number in range(count)]
        for number, weight in zip(self.endpoints, weights, strict=False):
            self.weigh(number, f"{prefix}{20 + number - len(strangers)}", weight)
        members = self.endpoints if set_of is None else [self.endpoints[place] for place in set_of]
        for address in (self.roles.cluster_ip, self.roles.external_ip):
            node.set_of([strangers[0]])
            node.frontend(address, PORT, "UDP", cluster=members, scheduler=scheduler)
            node.set_of([strangers[1]])

    def weigh(self, number: int, address: str, weight: int) -> None:
        layout, flags = (
            self.node.object.layouts["endpoint"],
            self.node.flags("endpoint_flag", "SERVING", "IN_CLUSTER"),
        )
        value = layout.pack(address=as_address(address), port=TARGET, flags=flags, generation=1, weight=weight)
        self.node.loaded.maps["endpoints"].put(number.to_bytes(4, "little"), value)

    def dial(self, sport: int = SPORT, *, client: int = 3, external: bool = False) -> int:
        """A new flow of a pod: the place of its endpoint."""
        address = self.roles.external_ip if external else self.roles.cluster_ip
        source = f"{self.roles.pod[:-1]}{client}"
        assert self.node.send(packet(source, sport, address, PORT, "UDP"), by=PODS).action == PASS
        return self.endpoints.index(self.node.verdict["endpoint"])

    def dialled(self, count: int) -> list[int]:
        """New flows from ports of their own."""
        return [self.dial(SPORT + number) for number in range(count)]


@BOTH
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_every_choice_is_of_the_set(node: Bench, family: str, scheduler: str, count: int) -> None:
    scheduled = Scheduled(node, family, scheduler, count)

    assert set(scheduled.dialled(60)) <= set(range(count))
    assert node.counted == {"FLOWS_OPENED": 60}


@BOTH
def test_random_reaches_all(node: Bench, family: str) -> None:
    seen = Counter(Scheduled(node, family, "RANDOM").dialled(600))

    assert all(130 < seen[place] < 270 for place in range(3))  # six standard deviations


@BOTH
def test_round_robin_takes_turns(node: Bench, family: str) -> None:
    assert Scheduled(node, family, "ROUND_ROBIN").dialled(7) == [0, 1, 2, 0, 1, 2, 0]


@BOTH
def test_a_turn_is_not_taken_by_a_later_packet(node: Bench, family: str) -> None:
    scheduled = Scheduled(node, family, "ROUND_ROBIN")
    data = packet(scheduled.roles.other_pod, SPORT, scheduled.roles.cluster_ip, PORT, "UDP")
    for _ in range(5):
        node.send(data, by=PODS)

    assert scheduled.dial(SPORT + 1) == 1


@BOTH
def test_weighted_round_robin_takes_the_turns_that_are_laid_out(node: Bench, family: str) -> None:
    scheduled = Scheduled(node, family, "WEIGHTED_ROUND_ROBIN", set_of=[0, 1, 0, 2, 0, 1])

    assert Counter(scheduled.dialled(60)) == {0: 30, 1: 20, 2: 10}


@BOTH
def test_source_hash_goes_by_the_client_alone(node: Bench, family: str) -> None:
    scheduled = Scheduled(node, family, "SOURCE_HASH")

    assert len(set(scheduled.dialled(20)) | {scheduled.dial(SPORT + 50, external=True)}) == 1
    seen = Counter(scheduled.dial(SPORT + 99, client=30 + number) for number in range(60))
    assert set(seen) == {0, 1, 2}


@BOTH
def test_destination_hash_goes_by_what_is_dialled(node: Bench, family: str) -> None:
    scheduled = Scheduled(node, family, "DESTINATION_HASH")

    assert len({scheduled.dial(SPORT + number, client=30 + number) for number in range(30)}) == 1


@BOTH
@pytest.mark.parametrize("scheduler", ["LEAST_CONNECTIONS", "SHORTEST_EXPECTED_DELAY", "NEVER_QUEUE"])
def test_the_idle_are_preferred(node: Bench, family: str, scheduler: str) -> None:
    scheduled = Scheduled(node, family, scheduler)

    assert sorted(scheduled.dialled(3)) == [0, 1, 2]
    assert max(Counter(scheduled.dial(SPORT + 10 + number) for number in range(30)).values()) == 10


@BOTH
@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("LEAST_CONNECTIONS", {0: 30, 1: 10, 2: 10}),
        ("SHORTEST_EXPECTED_DELAY", {0: 30, 1: 10, 2: 10}),
        ("NEVER_QUEUE", {0: 30, 1: 10, 2: 10}),
    ],
)
def test_load_is_by_weight(node: Bench, family: str, scheduler: str, expected: dict[int, int]) -> None:
    seen = Counter(Scheduled(node, family, scheduler, weights=[3, 1, 1]).dialled(50))

    assert all(abs(seen[place] - number) <= 1 for place, number in expected.items())


@BOTH
def test_shortest_expected_delay_lets_the_idle_wait_for_the_strong(node: Bench, family: str) -> None:
    """(active + 1) / weight: the strong one's second flow before a weak one's first."""
    assert Counter(Scheduled(node, family, "SHORTEST_EXPECTED_DELAY", weights=[9, 1, 1]).dialled(8)) == {0: 8}


@BOTH
def test_never_queue_asks_the_idle_first(node: Bench, family: str) -> None:
    scheduled = Scheduled(node, family, "NEVER_QUEUE", weights=[9, 1, 1])

    assert sorted(scheduled.dialled(3)) == [0, 1, 2]
    assert scheduled.dial(SPORT + 9) == 0


@BOTH
def test_maglev_keeps_most_flows_when_an_endpoint_leaves(node: Bench, family: str) -> None:
    scheduled = Scheduled(node, family, "MAGLEV", 5, set_of=_maglev_table(range(5)))
    before = scheduled.dialled(300)
    assert scheduled.dialled(300) == before
    node.reset()
    scheduled = Scheduled(node, family, "MAGLEV", 5, set_of=_maglev_table(range(4)))
    after = scheduled.dialled(300)

    assert set(before) == set(range(5))
    assert set(after) == set(range(4))
    moved = sum(one != two for one, two in zip(before, after, strict=True) if one != 4)
    assert moved < 45  # of 240; a plain hash would move three of four


def _maglev_table(places: Sequence[int]) -> list[int]:
    return maglev.lookup_table([bytes([place]) * 18 for place in places], [1] * len(places), 251)
