# SPDX-License-Identifier: Apache-2.0
"""What the datapath makes of packets, by example: addresses, ports and checksums, both ways, to the byte."""

from dataclasses import dataclass

import pytest

from tests.datapath.bench import Bench, Sent
from tests.datapath.network import NEIGHBOUR_MAC, PODS, PODS_MAC, UPLINK
from tests.datapath.node import DROP, MARK, NEXT, PASS, REDIRECT
from tests.datapath.packets import (
    FAMILIES,
    NODE_PORT,
    PORT,
    PROTOCOLS,
    ROLES,
    SPORT,
    TARGET,
    frame,
    internet,
    packet,
    recomputed,
    same,
    scapy,
    transport,
)

MASQUERADE = range(61000, 65536)
BOTH = pytest.mark.parametrize("family", FAMILIES)
ALL = pytest.mark.parametrize("protocol", PROTOCOLS)


@dataclass(frozen=True)
class Way:
    """Who dials what, and whom the endpoint sees: the role's name, with a port of its own or one of the node's."""

    client: str
    frontend: str
    seen: str
    masqueraded: bool = False
    kind: str = "CLUSTER_IP"
    own: bool = False
    policy: tuple[str, ...] = ()

    @property
    def port(self) -> int:
        return NODE_PORT if self.kind == "NODE_PORT" else PORT


WAYS = {
    "pod to ClusterIP": Way("other_pod", "cluster_ip", "other_pod"),
    "hairpin": Way("pod", "cluster_ip", "node", masqueraded=True),
    "outside to ClusterIP": Way("outside", "cluster_ip", "node", masqueraded=True),
    "outside to node port": Way("outside", "node", "node", masqueraded=True, kind="NODE_PORT"),
    "outside to externalIP": Way("outside", "external_ip", "node", masqueraded=True, kind="EXTERNAL_IP"),
    "outside, Local policy": Way("outside", "node", "outside", kind="NODE_PORT", policy=("EXTERNAL_LOCAL",)),
    "pod, external, Local policy": Way(
        "other_pod", "external_ip", "other_pod", kind="EXTERNAL_IP", policy=("EXTERNAL_LOCAL",)
    ),
    "own process to ClusterIP": Way("node", "cluster_ip", "node", own=True),
    "own process, other address": Way("second", "cluster_ip", "node", masqueraded=True, own=True),
    "own process to node port": Way("node", "node", "node", kind="NODE_PORT", own=True),
}
EVERY_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def install(node: Bench, way: Way, family: str, protocol: str) -> int:
    """A Service with one endpoint, the pod."""
    endpoint = node.endpoint(ROLES[family].pod, TARGET)
    address = None if way.kind == "NODE_PORT" else getattr(ROLES[family], way.frontend)
    version = 4 if family == "IPv4" else 6
    node.frontend(
        address, way.port, protocol, cluster=[endpoint], kind=way.kind, family=version, flags=way.policy
    )  # fmt: skip
    return endpoint


def interface(way: Way) -> str:
    return PODS if way.client in ("pod", "other_pod") else UPLINK


def port_seen(node: Bench, way: Way) -> int:
    """The source port that the endpoint sees: the client's own, or one of those set aside."""
    [replies] = [key for key, value in node.flows if value["flags"] & node.flags("flow_flag", "REPLY")]
    port = int(replies["destination_port"])
    assert port in MASQUERADE if way.masqueraded else port == SPORT
    return port


@BOTH
@ALL
@EVERY_WAY
def test_a_packet_and_its_reply_are_rewritten(node: Bench, way: Way, family: str, protocol: str) -> None:
    roles = ROLES[family]
    client, dialled, seen = (getattr(roles, role) for role in (way.client, way.frontend, way.seen))
    install(node, way, family, protocol)

    there = node.send(packet(client, SPORT, dialled, way.port, protocol), by=interface(way), out=way.own)
    port = port_seen(node, way)
    same(there.packet, packet(seen, port, roles.pod, TARGET, protocol), macs=not way.own)
    back = node.send(packet(roles.pod, TARGET, seen, port, protocol, flags="SA"), by=PODS)
    same(back.packet, packet(dialled, way.port, client, SPORT, protocol, flags="SA"), macs=way.frontend != "node")

    assert there.action == (REDIRECT if way.own else PASS)
    assert there.mark == back.mark == MARK
    assert node.counted == {"FLOWS_OPENED": 1}
    assert len(node.flows) == 2


@BOTH
@ALL
def test_an_own_process_is_sent_on_to_the_endpoints_neighbour(node: Bench, family: str, protocol: str) -> None:
    way, roles = WAYS["own process to ClusterIP"], ROLES[family]
    install(node, way, family, protocol)

    sent = node.send(packet(roles.node, SPORT, roles.cluster_ip, PORT, protocol), out=True)

    expected = internet(roles.node, roles.pod) / transport(protocol, SPORT, TARGET)
    same(sent.packet, frame(expected, source=PODS_MAC, destination=NEIGHBOUR_MAC))


@BOTH
@ALL
def test_straight_on_counts_a_hop_and_goes_to_the_neighbour(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    install(node, WAYS["outside, Local policy"], family, protocol)
    node.configure("STRAIGHT")

    sent = node.send(packet(roles.outside, SPORT, roles.node, NODE_PORT, protocol))

    expected = internet(roles.outside, roles.pod, ttl=63) / transport(protocol, SPORT, TARGET)
    same(sent.packet, frame(expected, source=PODS_MAC, destination=NEIGHBOUR_MAC))
    assert sent.action == REDIRECT


@BOTH
@ALL
def test_xdp_forwards_what_tc_has_begun(node: Bench, family: str, protocol: str) -> None:
    """The endpoint is on another node, by the uplink again: the same packet as tc makes."""
    roles = ROLES[family]
    endpoint = node.endpoint(roles.remote_pod, TARGET)
    node.frontend(
        None, NODE_PORT, protocol, cluster=[endpoint], kind="NODE_PORT", family=4 if family == "IPv4" else 6
    )
    node.configure("STRAIGHT")
    first = packet(roles.outside, SPORT, roles.node, NODE_PORT, protocol)
    before = node.loaded.programs["plumbline_xdp"].run(first)
    by_tc = node.send(first)

    after = node.loaded.programs["plumbline_xdp"].run(first)

    assert (before.retval, before.data) == (2, first)
    same(after.data, by_tc.packet)
    assert recomputed(after.data) == after.data
    assert after.retval == 4  # XDP_REDIRECT: a run comes in by lo, and the way is the uplink
    assert node.counted == {"FLOWS_OPENED": 1, "XDP_FORWARDED": 1}


@BOTH
def test_udp_without_a_checksum_stays_without(node: Bench, family: str) -> None:
    """Over IPv4 it says "none" (RFC 768); over IPv6 it means nothing, and is not made to mean something."""
    way, roles = WAYS["outside to node port"], ROLES[family]
    install(node, way, family, "UDP")
    node.configure("STRAIGHT")
    bare = packet(roles.outside, SPORT, roles.node, NODE_PORT, "UDP", chksum=0)

    sent = node.send(bare)

    assert scapy().Ether(sent.packet)[scapy().UDP].chksum == 0


@BOTH
def test_a_udp_checksum_of_zero_is_sent_as_ones(node: Bench, family: str) -> None:
    """Chosen so that the rewritten packet's sum is zero, which stands for "none" (RFC 768; RFC 8200, 8.1)."""
    way, roles = WAYS["pod to ClusterIP"], ROLES[family]
    install(node, way, family, "UDP")
    plain = internet(roles.other_pod, roles.pod) / transport("UDP", SPORT, TARGET, payload=b"\0\0")
    missing = scapy().Ether(frame(plain))[scapy().UDP].chksum.to_bytes(2, "big")
    expected = packet(roles.other_pod, SPORT, roles.pod, TARGET, "UDP", payload=missing)
    assert scapy().Ether(expected)[scapy().UDP].chksum == 0xFFFF

    sent = node.send(packet(roles.other_pod, SPORT, roles.cluster_ip, PORT, "UDP", payload=missing), by=PODS)

    same(sent.packet, expected)


@BOTH
@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
def test_a_wrong_checksum_stays_wrong(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    install(node, WAYS["pod to ClusterIP"], family, protocol)
    damaged = bytearray(packet(roles.other_pod, SPORT, roles.cluster_ip, PORT, protocol))
    damaged[-1] ^= 0x55

    sent = node.send(bytes(damaged), by=PODS)

    repaired = bytearray(sent.packet)
    repaired[-1] ^= 0x55
    same(bytes(repaired), packet(roles.other_pod, SPORT, roles.pod, TARGET, protocol))


@BOTH
@ALL
def test_frames_padded_to_the_least_of_ethernet(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    install(node, WAYS["pod to ClusterIP"], family, protocol)
    short = packet(roles.other_pod, SPORT, roles.cluster_ip, PORT, protocol, payload=b"")
    padding = b"\xa5" * 23

    sent = node.send(short + padding, by=PODS)

    same(sent.packet, packet(roles.other_pod, SPORT, roles.pod, TARGET, protocol, payload=b"") + padding)


@ALL
@pytest.mark.parametrize("words", range(1, 11))
def test_ipv4_options(node: Bench, protocol: str, words: int) -> None:
    roles = ROLES["IPv4"]
    install(node, WAYS["pod to ClusterIP"], "IPv4", protocol)
    options = [scapy().IPOption(b"\x01" * (4 * words))] if words else []

    def layers(destination: str, port: int) -> bytes:
        return frame(internet(roles.other_pod, destination, options=options) / transport(protocol, SPORT, port))

    sent = node.send(layers(roles.cluster_ip, PORT), by=PODS)

    same(sent.packet, layers(roles.pod, TARGET))


@ALL
@pytest.mark.parametrize("count", range(1, 6))
def test_ipv6_extension_headers(node: Bench, protocol: str, count: int) -> None:
    s, roles = scapy(), ROLES["IPv6"]
    install(node, WAYS["pod to ClusterIP"], "IPv6", protocol)

    extensions = [
        s.IPv6ExtHdrHopByHop(),
        s.IPv6ExtHdrDestOpt(),
        s.IPv6ExtHdrDestOpt(options=[s.PadN(optdata=bytes(20))]),
        s.IPv6ExtHdrFragment(id=5),
        s.IPv6ExtHdrDestOpt(),
    ]

    def layers(destination: str, port: int) -> bytes:
        result = internet(roles.other_pod, destination)
        for extension in extensions[:count]:
            result /= extension
        return frame(result / transport(protocol, SPORT, port))

    sent = node.send(layers(roles.cluster_ip, PORT), by=PODS)

    same(sent.packet, layers(roles.pod, TARGET))


@BOTH
@ALL
def test_a_packet_that_was_seen_before_is_left_alone(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    install(node, WAYS["pod to ClusterIP"], family, protocol)
    data = packet(roles.other_pod, SPORT, roles.cluster_ip, PORT, protocol)

    assert node.send(data, by=PODS, mark=MARK | 5) == Sent(NEXT, data, MARK | 5)


@BOTH
@ALL
def test_the_protocol_is_part_of_what_is_dialled(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    install(node, WAYS["pod to ClusterIP"], family, protocol)
    for wrong in set(PROTOCOLS) - {protocol}:
        data = packet(roles.other_pod, SPORT, roles.cluster_ip, PORT, wrong)
        assert node.send(data, by=PODS) == Sent(NEXT, data, MARK)
    data = packet(roles.other_pod, SPORT, roles.cluster_ip, PORT + 1, protocol)
    assert node.send(data, by=PODS).action == NEXT
    assert node.counted == {}


@BOTH
@ALL
@EVERY_WAY
def test_only_deciding_changes_nothing(node: Bench, way: Way, family: str, protocol: str) -> None:
    roles = ROLES[family]
    install(node, way, family, protocol)
    node.configure("ONLY_DECIDE")
    data = packet(getattr(roles, way.client), SPORT, getattr(roles, way.frontend), way.port, protocol)

    sent = node.send(data, by=interface(way), out=way.own)

    assert sent == Sent(NEXT, data, 0)
    assert node.verdict["outcome"] == "ANSWERED_BY"
    assert (node.verdict["source"] == "MASQUERADED") == way.masqueraded
    assert (node.flows, node.counted) == ([], {})


@BOTH
@ALL
def test_source_ranges_guard_a_load_balancers_ip_in_silence(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    endpoint = node.endpoint(roles.pod, TARGET)
    flags, kind = ("RESTRICTED",), "LOAD_BALANCER"
    node.frontend(roles.external_ip, PORT, protocol, cluster=[endpoint], kind=kind, flags=flags, source_ranges=3)
    node.restrict(3, f"{roles.outside}/{'32' if family == 'IPv4' else '128'}")
    node.restrict(4, "0.0.0.0/0", "::/0")

    inside = node.send(packet(roles.outside, SPORT, roles.external_ip, PORT, protocol))
    refused = node.send(packet(roles.other_pod, SPORT, roles.external_ip, PORT, protocol), by=PODS)

    assert (inside.action, refused.action) == (PASS, DROP)
    assert node.counted == {"FLOWS_OPENED": 1, "DROPPED_SOURCE_RANGES": 1}
    assert len(node.flows) == 2


@BOTH
@ALL
@pytest.mark.parametrize(
    ("kind", "policy", "counter"),
    [
        ("CLUSTER_IP", "INTERNAL_LOCAL", "DROPPED_INTERNAL_LOCAL"),
        ("EXTERNAL_IP", "EXTERNAL_LOCAL", "DROPPED_EXTERNAL_LOCAL"),
    ],
)
def test_a_local_policy_without_an_endpoint_here_drops(
    node: Bench, family: str, protocol: str, kind: str, policy: str, counter: str
) -> None:
    roles = ROLES[family]
    endpoint = node.endpoint(roles.remote_pod, TARGET, "SERVING", "IN_CLUSTER")
    node.frontend(roles.external_ip, PORT, protocol, cluster=[endpoint], local=[], kind=kind, flags=[policy])

    assert node.send(packet(roles.outside, SPORT, roles.external_ip, PORT, protocol)).action == DROP
    assert node.counted == {counter: 1}
    assert node.flows == []
