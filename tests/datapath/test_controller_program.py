# SPDX-License-Identifier: Apache-2.0
"""How the maps change: numbers that last, nothing half made, only what is new, full maps, and restarts."""

import random
from typing import Any

import pytest

from dataplane_ref.controller.allocate import Extents, FullError, Numbers
from tests.datapath.cluster import CODEC, SIZES, FakeNode, endpoint, endpoint_slice, service

VIP = "10.96.0.1"


def numbers(node: FakeNode) -> dict[str, int]:
    return {node.address_of(number): number for number in node.numbers(VIP)}


def test_endpoints_keep_their_numbers_while_others_come_and_go() -> None:
    node = FakeNode()
    node.serve(service(), endpoint_slice("10.1.0.1", "10.1.0.2"))
    before = numbers(node)
    node.serve(service(), endpoint_slice("10.1.0.0", "10.1.0.2", "10.1.0.3"))
    after = numbers(node)
    assert after["10.1.0.2"] == before["10.1.0.2"]
    assert after.keys() == {"10.1.0.0", "10.1.0.2", "10.1.0.3"}
    gone = node.endpoint(before["10.1.0.1"])
    assert (gone["flags"], gone["generation"]) == (0, 1)


def test_a_number_that_is_used_anew_has_another_generation() -> None:
    node = FakeNode({**SIZES, "endpoints": 2})
    node.serve(service(), endpoint_slice("10.1.0.1", "10.1.0.2"))
    node.serve(service(), endpoint_slice("10.1.0.1"))
    node.serve(service(), endpoint_slice("10.1.0.1", "10.1.0.3"))
    assert node.endpoint(numbers(node)["10.1.0.3"])["generation"] == 1
    assert node.endpoint(numbers(node)["10.1.0.1"])["generation"] == 0


def test_what_is_new_is_written_before_the_switch_and_what_is_old_after_it() -> None:
    node = FakeNode()
    node.serve(service(), endpoint_slice("10.1.0.1"))
    node.history.clear()
    node.serve(service(), endpoint_slice("10.1.0.2"))
    assert [name for name, _, _ in node.history] == ["endpoints", "members", "frontends", "endpoints"]


def test_no_moment_of_a_change_names_an_endpoint_that_is_not_there() -> None:
    """Every single write leaves every frontend with whole sets of endpoints that are flagged as members."""
    chance = random.Random(4)
    node = FakeNode(SIZES | {"members": 64})

    def look(name: str, what: str, key: bytes) -> None:
        for value in node.maps["frontends"].entries.values():
            found = CODEC.layouts["frontend"].unpack(value)
            for which, flag in (("cluster", "IN_CLUSTER"), ("local", "IN_LOCAL")):
                extent: Any = found[which]
                for place in range(extent["first"], extent["first"] + extent["count"]):
                    number = int.from_bytes(node.maps["members"].entries[place.to_bytes(4, "little")], "little")
                    listed = node.endpoint(number)
                    assert listed["service_port"] == found["service_port"], (name, what, key)
                    assert flag in node.flags(number), (name, what, key)

    class Watched(list[tuple[str, str, bytes]]):
        def append(self, entry: tuple[str, str, bytes]) -> None:
            look(*entry)

    for each in node.maps.values():
        each.history = Watched()
    for _ in range(300):
        name = chance.choice(["web", "api"])
        # With hints an endpoint may enter one set as it leaves the other.
        hints = [{"zones": ["zone-1"]}, {"zones": ["zone-2"]}] if chance.random() < 0.5 else [{}]
        listed = [
            endpoint(
                f"10.1.0.{number}",
                chance.choice(["node-a", "node-b"]),
                ready=chance.random() < 0.7,
                **chance.choice(hints),
            )
            for number in chance.sample(range(1, 9), chance.randrange(6))
        ]
        vip = VIP if name == "web" else "10.96.0.2"
        if chance.random() < 0.1:
            node.remove("services", name)
        else:
            node.serve(service(name, ips=(vip,)), endpoint_slice(*listed, of=name, name=name))


def test_only_what_changed_is_written() -> None:
    node = FakeNode()
    for number in range(5):
        of = f"web-{number}"
        node.serve(service(of, ips=(f"10.96.0.{number}",)), endpoint_slice(f"10.1.0.{number}", of=of, name=of))
    node.history.clear()
    node.serve(service("web-3", ips=("10.96.0.3",)), endpoint_slice("10.1.0.3", of="web-3", name="web-3"))
    assert node.history == []
    node.serve(service("web-3", ips=("10.96.0.3",)), endpoint_slice("10.1.0.3", "10.1.0.9", of="web-3", name="web-3"))
    assert [name for name, _, _ in node.history] == ["endpoints", "members", "members", "frontends"]


def test_a_change_of_zone_chooses_anew() -> None:
    from tests.datapath.cluster import node as node_object

    node = FakeNode()
    node.serve(
        service(), endpoint_slice(endpoint("10.1.0.1", zones=["zone-1"]), endpoint("10.1.0.2", zones=["zone-2"]))
    )
    moved = node_object(**{"topology.kubernetes.io/zone": "zone-2"})
    node.apply("nodes", moved)
    node.datapath.program()
    assert node.addresses(VIP) == ["10.1.0.2"]


def test_a_service_without_room_is_left_out_said_once_and_served_when_there_is_room() -> None:
    node = FakeNode({**SIZES, "endpoints": 3})
    node.serve(service(), endpoint_slice("10.1.0.1", "10.1.0.2"))
    late = service("late", ips=("10.96.0.2",))
    node.serve(late, endpoint_slice("10.1.1.1", "10.1.1.2", of="late", name="late"))
    node.serve(late)
    full = "the map `endpoints` is full (3 entries): Service default/late is left out until there is room"
    assert node.said == [full]
    assert node.frontend("10.96.0.2") is None
    node.serve(service(), endpoint_slice("10.1.0.1"))
    assert node.addresses("10.96.0.2") == ["10.1.1.1", "10.1.1.2"]
    assert node.said[1:] == ["there is room for Service default/late again"]


def test_a_service_that_outgrows_the_map_loses_no_endpoint_it_had() -> None:
    node = FakeNode({**SIZES, "endpoints": 2})
    node.serve(service(), endpoint_slice("10.1.0.1", "10.1.0.2"))
    node.serve(service(), endpoint_slice("10.1.0.1", "10.1.0.3", "10.1.0.4"))
    assert node.addresses(VIP) == ["10.1.0.1"]
    assert "keeps only the endpoints it had" in node.said[0]
    node.serve(service(), endpoint_slice("10.1.0.1", "10.1.0.3"))
    assert node.addresses(VIP) == ["10.1.0.1", "10.1.0.3"]


@pytest.mark.parametrize("name", ["frontends", "cursors", "members", "source_ranges", "addresses"])
def test_every_full_map_is_named(name: str) -> None:
    node = FakeNode({**SIZES, name: 4 if name == "addresses" else 2})
    for number in range(4):
        of = f"web-{number}"
        balanced: dict[str, Any] = (
            {"type": "LoadBalancer", "ingress": [{"ip": f"198.18.0.{number}"}]} if "s" in name[:1] else {}
        )
        spec: dict[str, Any] = {"loadBalancerSourceRanges": ["203.0.113.0/24"]} | balanced if balanced else {}
        node.serve(service(of, ips=(f"10.96.0.{number}",), **spec), endpoint_slice("10.1.0.1", of=of, name=of))
    assert f"the map `{name}` is full" in node.said[0]


def restarted(node: FakeNode, *objects: tuple[dict[str, Any], list[dict[str, Any]]]) -> FakeNode:
    """Another process over the same maps, which is told of all at once."""
    after = FakeNode(maps=node.maps)
    for each, slices in objects:
        after.apply("services", each)
        after.apply("endpointslices", *slices)
    after.datapath.program()
    return after


def test_a_restart_without_a_change_writes_nothing_about_services() -> None:
    balanced: dict[str, Any] = {
        "type": "LoadBalancer",
        "ingress": [{"ip": "198.18.0.1"}],
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
    }
    web = service(ports=[{"port": 80, "nodePort": 30080}], **balanced)
    other = service("other", ips=("10.96.0.2",), annotations={"plumbline.dev/scheduler": "maglev"})
    slices = [endpoint_slice("10.1.0.1", endpoint("10.1.0.2", "node-a"))]
    others = [endpoint_slice("10.1.0.7", "10.1.0.8", of="other", name="other")]
    node = FakeNode({**SIZES, "members": 2048})
    node.serve(other, *others)
    node.serve(web, *slices)
    after = restarted(node, (web, slices), (other, others))
    assert {name for name, _, _ in after.history} <= {"config"}
    assert after.numbers("10.96.0.2")
    after.serve(other, endpoint_slice("10.1.0.8", "10.1.0.9", of="other", name="other"))
    assert after.endpoint(max(after.numbers("10.96.0.2")))["generation"] == 0


def test_after_a_restart_endpoints_keep_their_numbers_and_what_went_meanwhile_is_gone() -> None:
    node = FakeNode()
    node.serve(service("gone", ips=("10.96.0.9",)), endpoint_slice("10.1.0.9", of="gone", name="gone"))
    node.serve(service(), endpoint_slice("10.1.0.1", "10.1.0.2"))
    before = numbers(node)
    after = restarted(node, (service(), [endpoint_slice("10.1.0.2", "10.1.0.3")]))
    assert numbers(after)["10.1.0.2"] == before["10.1.0.2"]
    assert after.frontend("10.96.0.9") is None
    assert after.address_flags("10.96.0.9") == set()
    for number in (0, before["10.1.0.1"]):
        assert (after.endpoint(number)["flags"], after.endpoint(number)["generation"]) == (0, 1)
    after.serve(service(), endpoint_slice(*(f"10.1.0.{number}" for number in range(1, 60))))
    everybody = after.numbers(VIP)
    assert len(set(everybody)) == len(everybody) == 59


def test_a_restart_fits_where_the_maps_are_almost_full() -> None:
    sizes = {**SIZES, "frontends": 3, "endpoints": 3, "members": 4, "cursors": 3, "addresses": 5}
    node = FakeNode(sizes)
    objects = [
        (service(f"w{n}", ips=(f"10.96.0.{n}",)), [endpoint_slice(f"10.1.0.{n}", of=f"w{n}", name=f"w{n}")])
        for n in (1, 2, 3)
    ]
    for each, slices in objects:
        node.serve(each, *slices)
    assert node.said == []
    after = restarted(node, *objects)
    assert after.said == []
    assert {name for name, _, _ in after.history} <= {"config"}


def test_numbers_are_used_again_only_after_release_and_late() -> None:
    numbers = Numbers("things", 4)
    assert list(numbers.take(2)) == [0, 1]
    numbers.give_back([0])
    assert list(numbers.take(2)) == [2, 3]
    with pytest.raises(FullError, match=r"`things` is full \(4 entries\)"):
        numbers.take(1)
    numbers.release()
    assert list(numbers.take(1)) == [0]


def test_extents_never_overlap_and_find_room_in_pieces() -> None:
    chance = random.Random(7)
    extents = Extents("members", 200)
    owned: list[tuple[int, int]] = []
    for _ in range(3000):
        if owned and chance.random() < 0.5:
            extents.give_back(*owned.pop(chance.randrange(len(owned))))
            extents.release()
            continue
        count = chance.randrange(1, 12)
        try:
            first = extents.take(count)
        except FullError:
            assert sum(length for _, length in owned) + count > 60  # not while most of it is free
            continue
        assert first + count <= 200
        assert all(first + count <= other or other + length <= first for other, length in owned)
        owned.append((first, count))
    for extent in owned:
        extents.give_back(*extent)
    extents.release()
    assert extents.take(200) == 0
