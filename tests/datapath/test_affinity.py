# SPDX-License-Identifier: Apache-2.0
"""ClientIP affinity: with whom a client stays, for how long, and what ends it."""

import pytest

from tests.datapath.bench import Bench, text_of
from tests.datapath.network import PODS
from tests.datapath.packets import FAMILIES, PORT, PROTOCOLS, ROLES, SPORT, TARGET, packet
from tests.datapath.talk import Talk, serve, two

BOTH = pytest.mark.parametrize("family", FAMILIES)
ALL = pytest.mark.parametrize("protocol", PROTOCOLS)


@BOTH
@ALL
def test_affinity_sticks(node: Bench, family: str, protocol: str) -> None:
    serve(node, family, protocol, list(two(node, family)), affinity_seconds=60)

    assert len({Talk(node, family, protocol, SPORT + number).says() for number in range(40)}) == 1
    assert node.verdict["by_affinity"] == 1


@BOTH
def test_affinity_ends_with_its_time(node: Bench, family: str) -> None:
    one, other = two(node, family)
    serve(node, family, "TCP", [one, other], affinity_seconds=60)
    first = Talk(node, family, "TCP").says()
    rest = [other] if first == ROLES[family].pod else [one]
    node.expire("affinities")
    serve(node, family, "TCP", rest, affinity_seconds=60)

    assert Talk(node, family, "TCP", SPORT + 1).says() != first


@BOTH
def test_affinity_is_counted_from_the_last_new_connection(node: Bench, family: str) -> None:
    serve(node, family, "TCP", list(two(node, family)), affinity_seconds=60)
    talk = Talk(node, family, "TCP")
    first = talk.says()
    node.expire("affinities", at=node.now + 30_000_000_000)

    def left() -> float:
        [(_, value)] = node.entries("affinities", "affinity_key", "affinity")
        return (int(value["expires"]) - node.now) / 1e9

    talk.says("A")
    assert left() < 31  # a packet of an old connection does not count
    assert Talk(node, family, "TCP", SPORT + 1).says() == first
    assert 59 < left() <= 60.1


@BOTH
@pytest.mark.parametrize("how", ["left the set", "another generation"])
def test_affinity_ends_when_its_endpoint_may_not_be_chosen(node: Bench, family: str, how: str) -> None:
    one, other = two(node, family)
    serve(node, family, "TCP", [one], affinity_seconds=60)
    Talk(node, family, "TCP").says()
    if how == "left the set":
        node.endpoint(ROLES[family].pod, TARGET, "SERVING", number=one)
    else:
        node.endpoint(ROLES[family].pod, TARGET, number=one, generation=2)
    serve(node, family, "TCP", [other], affinity_seconds=60)

    assert Talk(node, family, "TCP", SPORT + 1).says() == ROLES[family].remote_pod
    assert node.verdict["by_affinity"] == 0


@BOTH
def test_affinity_is_per_client(node: Bench, family: str) -> None:
    roles = ROLES[family]
    serve(node, family, "UDP", list(two(node, family)), affinity_seconds=60)
    seen = set()
    for number in range(60):
        client = f"{roles.other_pod[:-1]}{10 + number}"
        node.send(packet(client, SPORT, roles.cluster_ip, PORT, "UDP"), by=PODS)
        seen.add(node.verdict["endpoint"])

    assert seen == {0, 1}
    assert {text_of(key["client"]) for key, _ in node.entries("affinities", "affinity_key", "affinity")} >= {client}
