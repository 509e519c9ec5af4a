# SPDX-License-Identifier: Apache-2.0
"""Each assertion about captured packets can hold, and can fail, with a sentence that says whose field is wrong."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters.agent.client import CapturedPacket
from clusters.api import Link, Vantage
from plugins.flows import ViolationError
from plugins.packets import Layers, error_about, icmp, ip, tcp, udp
from plugins.record import Record
from plugins.settle import Deadlines, Settler
from plugins.wire import Seen, Wire
from plugins.world import World
from tests.plugin.fake_cluster import FakeCluster
from tests.plugin.fake_flows import CLIENT_MAC, NODE_MAC
from tests.plugin.fake_proxy import FakeProxy
from tests.plugin.miniature import HEAD
from tests.plugin.runs import Finished, runs

CLIENT, NODE, POD, VIP = "10.244.0.4", "172.18.0.10", "10.244.1.2", "10.96.0.9"
CLIENT6, POD6, VIP6 = "fd00:10:244::4", "fd00:10:244:1::2", "fd00:10:96::9"
NAMES = {CLIENT: "client", NODE: "node-a", POD: "endpoint", VIP: "dialled", CLIENT6: "client", VIP6: "dialled"}


def captured(packet: Layers, direction: str = "host", interface: str = "eth0") -> CapturedPacket:
    from scapy.layers.l2 import Ether

    data = bytes(Ether(src=NODE_MAC, dst=CLIENT_MAC) / packet)
    return CapturedPacket(1.0, interface, direction, data, len(data))


class Taken:
    """A capture that is over."""

    def __init__(self, *packets: CapturedPacket) -> None:
        self.packets = packets
        self.dropped = 0

    def close(self) -> None:
        """Nothing runs."""


def wire(*packets: CapturedPacket) -> Wire:
    record = Record("topic.what", "extended", "It MUST be so.", "test", {})
    place = Vantage("node-b.pod-1", "pod", "node-b", {"IPv4": POD, "IPv6": POD6}, None)
    taken: Any = Taken(*packets)
    return Wire({"endpoint": place}, NAMES, record, {"endpoint": taken})


def arrived(*packets: Layers) -> Seen:
    return wire(*map(captured, packets)).at("endpoint")


REQUEST = ip(src=NODE, dst=POD, ttl=62) / udp(sport=2000, dport=8080) / b"?x 0"


def test_a_packet_that_is_as_expected() -> None:
    seen = arrived(ip(src=VIP, dst=CLIENT) / tcp(), REQUEST, REQUEST)
    found = seen.must_have(ip(src=NODE, ttl=62) / udp(dport=8080), times=2)
    assert bytes(found) == bytes(REQUEST)
    assert seen.record.expected == "at endpoint node-b.pod-1: IP / UDP 172.18.0.10:domain > 127.0.0.1:8080"
    assert seen.record.observed == "3 packets"
    assert seen.record.where == "at endpoint node-b.pod-1"


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (ip(src=CLIENT) / udp(), "IP.src is 172.18.0.10 (node-a), expected 10.244.0.4 (client) (in IP / UDP"),
        (
            ip(dst=VIP, ttl=63) / udp(dport=8080),
            "IP.ttl is 62, expected 63; IP.dst is 10.244.1.2 (endpoint), expected 10.96.0.9 (dialled)",
        ),
        (ip(dst="192.0.2.7"), "IP.dst is 10.244.1.2 (endpoint), expected 192.0.2.7 (in "),
        (ip(src=NODE) / tcp(), "layer is UDP, expected TCP (in "),
        (ip(src=CLIENT6), "layer is IP, expected IPv6 (in "),
        (ip(src=NODE) / udp() / tcp(), "layer is Raw, expected TCP"),
    ],
)
def test_no_packet_is_as_expected(expected: Layers, words: str) -> None:
    with pytest.raises(ViolationError) as caught:
        arrived(REQUEST).must_have(expected)
    assert words in str(caught.value)
    assert str(caught.value).startswith("at endpoint node-b.pod-1: ")


def test_the_packet_that_comes_nearest_is_shown() -> None:
    other = ip(src=VIP, dst=CLIENT, ttl=9) / udp(sport=7, dport=9)
    with pytest.raises(ViolationError, match=r"UDP\.dport is 8080, expected 8081 \(in "):
        arrived(other, REQUEST, other).must_have(ip(src=NODE, dst=POD) / udp(sport=2000, dport=8081))


def test_no_packet_at_all() -> None:
    with pytest.raises(ViolationError, match=r"at endpoint node-b\.pod-1: no packet at all, expected IP / UDP"):
        arrived().must_have(ip(src=NODE) / udp())


def test_too_few_packets() -> None:
    with pytest.raises(ViolationError, match=r"1 packets are IP / UDP .*, expected 2"):
        arrived(REQUEST).must_have(ip(src=NODE) / udp(), times=2)


def test_packets_that_must_not_be_there() -> None:
    seen = arrived(REQUEST, REQUEST)
    seen.must_not_have(ip(dst=VIP))
    with pytest.raises(
        ViolationError, match=r"2 packets that must not be there, the first of them IP / UDP .* \(from node-a to endp"
    ):
        seen.must_not_have(ip(dst=POD))
    with pytest.raises(ViolationError, match=r"\(of nobody known\)"):
        arrived(ip(src="192.0.2.1", dst="192.0.2.2") / udp()).must_not_have(ip(src="192.0.2.1"))


def test_every_packet_must_be_so() -> None:
    seen = arrived(REQUEST, ip(src=CLIENT, dst=POD) / udp(dport=8080))
    seen.must_be(ip(dst=POD) / udp(dport=8080))
    seen.every(ip(src=NODE)).must_be(ip(src=NODE, dst=POD))
    with pytest.raises(ViolationError, match=r"IP\.src is 10\.244\.0\.4 \(client\), expected 172"):
        seen.must_be(ip(src=NODE))
    with pytest.raises(ViolationError, match="no packet at all"):
        seen.every(ip(src=VIP)).must_be(ip(src=NODE))


def test_packets_may_be_so_long() -> None:
    seen = arrived(REQUEST)
    seen.must_not_exceed(32)
    with pytest.raises(ViolationError, match="a packet of 32 bytes, expected at most 31"):
        seen.must_not_exceed(31)
    with pytest.raises(ViolationError, match="no packet at all, expected at most 31"):
        arrived().must_not_exceed(31)


def test_packets_by_what_they_carry() -> None:
    assert len(arrived(REQUEST, ip(src=NODE, dst=POD) / udp()).carrying(b"?x 0")) == 1


def test_the_way_back() -> None:
    assert arrived(REQUEST).link_to(ip(src=NODE)) == Link("eth0", NODE_MAC)
    with pytest.raises(LookupError, match=r"at endpoint node-b\.pod-1: no packet is "):
        arrived(REQUEST).link_to(ip(src=VIP))


def test_directions_and_interfaces_are_told_apart() -> None:
    seen = wire(
        captured(REQUEST),
        captured(REQUEST, "outgoing", "pod-1"),
        captured(REQUEST, "outgoing"),
        captured(REQUEST, "otherhost"),
        captured(REQUEST, "outgoing", "lo"),
        captured(REQUEST, "host", "lo"),
        CapturedPacket(1.0, "eth0", "host", b"\xff" * 12 + b"\x08\x06" + bytes(28), 42),
    )
    assert len(seen.at("endpoint").packets) == 1
    assert len(seen.leaving("endpoint").packets) == 2
    assert len(seen.at("endpoint", interface="lo").packets) == 1
    by_one = seen.leaving("endpoint", interface="pod-1")
    assert len(by_one.packets) == 1
    assert by_one.where == "leaving endpoint node-b.pod-1 by pod-1"


# What an error quotes, and its checksums.


@pytest.mark.parametrize(("client", "pod", "family"), [(CLIENT, POD, "IPv4"), (CLIENT6, POD6, "IPv6")])
@pytest.mark.parametrize("kind", ["port-unreachable", "too-big", "time-exceeded"])
def test_an_error_is_known_by_what_it_quotes(client: str, pod: str, family: Any, kind: Any) -> None:
    sent = ip(src=client, dst=pod) / udp(sport=2000, dport=8080) / b"?x 0"
    error = type(sent)(error_about(sent, kind, by=pod, mtu=1300))
    seen = arrived(error)
    seen.must_have(ip(src=pod, dst=client) / icmp(kind, family) / ip(src=client, dst=pod) / udp(sport=2000))
    if kind == "too-big":
        seen.must_have(ip(dst=client) / icmp(kind, family, mtu=1300))
        with pytest.raises(ViolationError, match=r"mtu is 1300, expected 1400"):
            seen.must_have(ip(dst=client) / icmp(kind, family, mtu=1400))
    with pytest.raises(ViolationError, match=r"quoted UDP\.dport is 8080, expected 80 \(in "):
        seen.must_have(ip(dst=client) / icmp(kind, family) / ip(src=client) / udp(dport=80))
    with pytest.raises(ViolationError, match=r"quoted IPv?6?\.dst is .*, expected .* \(dialled\)"):
        seen.must_have(ip(dst=client) / icmp(kind, family) / ip(dst=VIP6 if family == "IPv6" else VIP) / udp())
    with pytest.raises(ViolationError, match="quoted layer is UDP, expected TCP"):
        seen.must_have(ip(dst=client) / icmp(kind, family) / ip(dst=pod) / tcp())


@pytest.mark.parametrize(
    ("at", "layer"), [(10, r"IP\.checksum"), (22, r"ICMP\.checksum"), (38, r"quoted IP\.checksum.*ICMP\.checksum")]
)
def test_a_wrong_checksum_of_an_error_is_seen(at: int, layer: str) -> None:
    sent = ip(src=CLIENT, dst=POD) / udp(sport=2000, dport=8080)
    error = bytearray(error_about(sent, "port-unreachable", by=POD))
    error[at] ^= 0x55
    with pytest.raises(ViolationError, match=f"{layer} is wrong, expected right"):
        arrived(type(sent)(bytes(error))).must_have(ip(dst=CLIENT) / icmp("port-unreachable", "IPv4"))


def test_a_wrong_checksum_of_an_icmpv6_error_is_seen() -> None:
    sent = ip(src=CLIENT6, dst=POD6) / udp(sport=2000, dport=8080)
    error = bytearray(error_about(sent, "too-big", by=POD6, mtu=1300))
    error[-1] ^= 0x55
    with pytest.raises(ViolationError, match=r"ICMPv6PacketTooBig\.checksum is wrong, expected right"):
        arrived(type(sent)(bytes(error))).must_have(ip(dst=CLIENT6) / icmp("too-big", "IPv6"))


def test_an_icmpv6_error_whose_checksum_is_left_to_the_card_is_right() -> None:
    sent = ip(src=CLIENT6, dst=POD6) / udp(sport=2000, dport=8080)
    error = bytearray(error_about(sent, "too-big", by=POD6, mtu=1300))
    words = struct.unpack("!16H", bytes(error[8:40]))
    total = sum(words) + len(error) - 40 + 58
    error[42:44] = struct.pack("!H", (total & 0xFFFF) + (total >> 16))
    arrived(type(sent)(bytes(error))).must_have(ip(dst=CLIENT6) / icmp("too-big", "IPv6"))


def test_other_checksums_are_the_cards() -> None:
    arrived(ip(src=NODE, dst=POD) / udp(dport=8080, chksum=0x1234)).must_have(ip(src=NODE) / udp(dport=8080))


# The world's part: captures by role, and flows that are watched at both ends.


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeCluster(3, 4, lies=frozenset(), seed=1, directory=tmp_path) as cluster:
        settler = Settler(cluster, FakeProxy(cluster, "ordered"), Deadlines())
        settler.create_sentinel()
        made = World(cluster, settler, families=("IPv4", "IPv6"), probe_timeout=1.0, after_settling=lambda: None)
        made.record = Record("topic.what", "core", "It MUST be so.", "test", {})
        yield made


def test_roles_name_addresses_and_nodes_have_their_names(world: World) -> None:
    service = world.service(endpoints=world.backends(1))
    frontend = service.cluster_ip("IPv6")
    client, endpoint = world.vantage("pod@second"), world.backends(1)[0]
    with world.watching(client=client, endpoint=endpoint, node=world.nodes[2], vip=frontend) as seen:
        assert list(seen.captures) == ["client", "endpoint", "node"]
    assert seen.names[client.vantage.addresses["IPv4"]] == "client"
    assert seen.names[endpoint.addresses["IPv6"]] == "endpoint"
    assert seen.names[world.nodes[2].addresses["IPv4"]] == "node"
    assert seen.names[world.nodes[0].addresses["IPv4"]] == "node-a"
    assert seen.names[frontend.ip] == "vip"


def test_a_talk_says_what_its_packets_must_be(world: World) -> None:
    service = world.service(endpoints=world.backends(1))
    frontend, backend = service.cluster_ip("IPv4"), world.backends(1)[0]
    with world.talking(world.vantage("pod@second"), frontend, "TCP", backend) as talk:
        talk.exchange()
        seen = talk.flow.first
    assert seen.src
    assert seen.client_seen
    assert (talk.family, talk.from_client().dst) == ("IPv4", frontend.ip)
    assert talk.to_client(flags="FA", ttl=3).payload.flags == "FA"
    assert talk.to_client(ttl=3).ttl == 3
    assert talk.to_client().payload.dport == seen.src.port
    assert (talk.to_endpoint().dst, talk.to_endpoint().payload.dport) == (backend.addresses["IPv4"], 8080)
    assert talk.from_endpoint().dst == seen.client_seen.ip
    assert bytes(talk.answered.payload.payload) == b"!answer"


def test_a_talk_with_somebody_else_is_a_violation(world: World) -> None:
    service = world.service(endpoints=world.backends(1))
    frontend, other = service.cluster_ip("IPv4"), world.backends(2)[1]
    with pytest.raises(ViolationError), world.talking(world.vantage("pod@second"), frontend, "UDP", other):
        raise AssertionError


# What is left of it when a test fails.

WATCHES = (
    HEAD
    + """
from plugins.packets import ip, tcp

def served(world):
    return world.service(endpoints=world.backends(1))

@req("mini.watched", arrange=served)
def test_watched(world, service):
    client, endpoint = world.vantage("pod@first"), service.endpoints[0].backend
    with world.watching(client=client, endpoint=endpoint) as wire:
        client.open(service.cluster_ip("IPv4"), "TCP")
    answer = ip(src=endpoint.addresses["IPv4"], dst=world.nodes[0].addresses["IPv4"]) / tcp(sport=8080)
    wire.leaving("endpoint").must_have(answer)
"""
)


@runs(files={"test_watched.py": WATCHES})
def test_a_failure_says_whose_field_it_is_and_keeps_both_sides(finished: Finished) -> None:
    (failure,) = finished.failures()
    assert failure["expected"].startswith("leaving endpoint node-a.pod-1: IP / TCP 10.244.0.2:")
    assert "IP.dst is 10.244.0.4 (client), expected 172.18.0.10 (node-a)" in failure["observed"]
    assert failure["where"].startswith("leaving endpoint node-a.pod-1")
    (record,) = finished.records
    kept = {Path(path).name: finished.report / path for path in record["artefacts"]}
    shown = kept["endpoint-node-a.pod-1.packets.txt"].read_text(encoding="utf-8")
    assert "eth0      outgoing  IP / TCP 10.244.0.2:" in shown
    assert kept["endpoint-node-a.pod-1.packets.pcap"].stat().st_size > 24
    assert "node-a.packets.txt" in kept
