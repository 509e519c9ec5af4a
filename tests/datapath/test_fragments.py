# SPDX-License-Identifier: Apache-2.0
"""Fragments: the first carries the ports, later ones follow it, and one that overtakes it is counted."""

from typing import Any

import pytest

from tests.datapath.bench import Bench
from tests.datapath.network import PODS, UPLINK
from tests.datapath.node import DROP, NEXT, PASS
from tests.datapath.packets import (
    FAMILIES,
    PORT,
    ROLES,
    SPORT,
    TARGET,
    frame,
    internet,
    same,
    scapy,
    transport,
)

BOTH = pytest.mark.parametrize("family", FAMILIES)
WITH_FRAGMENTS = pytest.mark.parametrize("protocol", ["TCP", "UDP"])
LONG = bytes(range(256)) * 16
SIZE = 1000


def fragments(source: str, sport: int, destination: str, dport: int, protocol: str, **fields: Any) -> list[bytes]:
    """A long packet's fragments, as frames."""
    s = scapy()
    layer = transport(protocol, sport, dport, payload=LONG, **fields)
    if ":" not in source:
        return [frame(part) for part in s.fragment(internet(source, destination) / layer, SIZE)]
    whole = internet(source, destination) / s.IPv6ExtHdrFragment(id=77) / layer
    return [frame(part) for part in s.fragment6(s.IPv6(bytes(whole)), SIZE)]


def install(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    node.frontend(roles.cluster_ip, PORT, protocol, cluster=[node.endpoint(roles.pod, TARGET)])
    node.know(roles.cluster_ip, "IS_CLUSTER_IP", "IS_VIRTUAL")


@BOTH
@WITH_FRAGMENTS
def test_all_fragments_of_both_directions_are_rewritten(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    install(node, family, protocol)
    there = [node.send(part, by=PODS) for part in fragments(roles.other_pod, SPORT, roles.cluster_ip, PORT, protocol)]
    back = [
        node.send(part, by=PODS)
        for part in fragments(roles.pod, TARGET, roles.other_pod, SPORT, protocol, **_flags(protocol))
    ]

    expected = fragments(roles.other_pod, SPORT, roles.pod, TARGET, protocol)
    expected += fragments(roles.cluster_ip, PORT, roles.other_pod, SPORT, protocol, **_flags(protocol))
    assert len(there) > 3
    for sent, part in zip(there + back, expected, strict=True):
        same(sent.packet, part)
        assert sent.action == PASS
    assert node.counted == {"FLOWS_OPENED": 1}


def _flags(protocol: str) -> dict[str, str]:
    return {"flags": "SA"} if protocol == "TCP" else {}


@BOTH
@WITH_FRAGMENTS
def test_a_fragment_that_overtakes_the_first_is_dropped_and_counted(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    install(node, family, protocol)
    first, second, *_ = fragments(roles.other_pod, SPORT, roles.cluster_ip, PORT, protocol)

    overtaking = node.send(second, by=PODS)
    node.send(first, by=PODS)
    again = node.send(second, by=PODS)

    assert (overtaking.action, again.action) == (DROP, PASS)
    assert node.counted == {"FLOWS_OPENED": 1, "DROPPED_FRAGMENT": 1}
    same(again.packet, fragments(roles.other_pod, SPORT, roles.pod, TARGET, protocol)[1])


@BOTH
def test_a_lone_fragment_for_the_node_itself_is_left_alone(node: Bench, family: str) -> None:
    roles = ROLES[family]
    install(node, family, "UDP")
    for destination in (roles.node, roles.pod):
        _, second, *_ = fragments(roles.outside, SPORT, destination, PORT, "UDP")
        sent = node.send(second)
        assert (sent.action, sent.packet) == (NEXT, second)
    assert node.counted == {}


@BOTH
def test_the_ports_of_a_first_fragment_are_forgotten_in_time(node: Bench, family: str) -> None:
    roles = ROLES[family]
    install(node, family, "UDP")
    first, second, *_ = fragments(roles.other_pod, SPORT, roles.cluster_ip, PORT, "UDP")
    node.send(first, by=PODS)
    node.expire("fragments")

    assert node.send(second, by=PODS).action == DROP
    assert node.counted["DROPPED_FRAGMENT"] == 1


@BOTH
@pytest.mark.parametrize("changed", ["identification", "source", "destination", "protocol"])
def test_fragments_of_other_packets_are_told_apart(node: Bench, family: str, changed: str) -> None:
    roles, s = ROLES[family], scapy()
    install(node, family, "UDP")
    node.know(roles.external_ip, "IS_VIRTUAL")
    first, second, *_ = fragments(roles.other_pod, SPORT, roles.cluster_ip, PORT, "UDP")
    node.send(first, by=PODS)
    stranger = s.Ether(second)
    ip = stranger.payload
    if changed == "identification":
        (ip if family == "IPv4" else ip[s.IPv6ExtHdrFragment]).id = 5
    elif changed == "source":
        ip.src = roles.pod
    elif changed == "destination":
        ip.dst = roles.external_ip
    elif family == "IPv4":
        ip.proto = 6
    else:
        ip[s.IPv6ExtHdrFragment].nh = 6
    if family == "IPv4":
        ip.chksum = None

    assert node.send(bytes(stranger), by=PODS).action == DROP
    assert node.counted["DROPPED_FRAGMENT"] == 1


@BOTH
def test_a_fragment_of_sctp_is_dropped_and_counted(node: Bench, family: str) -> None:
    """Its checksum is over the whole packet, and cannot be put right from a part."""
    roles = ROLES[family]
    install(node, family, "SCTP")
    first, second, *_ = fragments(roles.other_pod, SPORT, roles.cluster_ip, PORT, "SCTP")

    assert node.send(first, by=PODS).action == DROP
    assert node.send(second, by=PODS).action == DROP
    assert node.counted == {"DROPPED_SCTP_FRAGMENT": 1, "DROPPED_FRAGMENT": 1}
    assert node.flows == []


@BOTH
def test_a_refused_first_fragment_is_answered_and_its_rest_is_not(node: Bench, family: str) -> None:
    roles = ROLES[family]
    node.frontend(roles.cluster_ip, PORT, "UDP")
    node.know(roles.cluster_ip, "IS_CLUSTER_IP", "IS_VIRTUAL")
    first, second, *_ = fragments(roles.other_pod, SPORT, roles.cluster_ip, PORT, "UDP")

    node.send(first, by=PODS)

    assert node.send(second, by=PODS).action == DROP
    assert node.counted == {"REFUSALS_SENT": 1, "DROPPED_FRAGMENT": 1}


def test_an_atomic_fragment_is_a_whole_packet(node: Bench) -> None:
    """RFC 6946: a fragment header on a packet that is in one piece."""
    roles, s = ROLES["IPv6"], scapy()
    install(node, "IPv6", "SCTP")

    def layers(destination: str, port: int) -> bytes:
        head = internet(roles.other_pod, destination) / s.IPv6ExtHdrFragment(id=9)
        return frame(head / transport("SCTP", SPORT, port))

    same(node.send(layers(roles.cluster_ip, PORT), by=PODS).packet, layers(roles.pod, TARGET))


@BOTH
def test_fragments_of_an_own_process(node: Bench, family: str) -> None:
    roles = ROLES[family]
    install(node, family, "UDP")
    parts = fragments(roles.node, SPORT, roles.cluster_ip, PORT, "UDP")

    sent = [node.send(part, out=True, by=UPLINK) for part in parts]

    expected = fragments(roles.node, SPORT, roles.pod, TARGET, "UDP")
    for each, part in zip(sent, expected, strict=True):
        same(each.packet, part, macs=False)


@BOTH
def test_a_fragment_of_traffic_that_is_no_services_business_passes(node: Bench, family: str) -> None:
    roles = ROLES[family]
    for part in fragments(roles.other_pod, SPORT, roles.remote_pod, PORT, "UDP"):
        assert node.send(part, by=PODS).packet == part
    assert node.counted == {}
