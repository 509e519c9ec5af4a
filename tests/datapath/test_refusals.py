# SPDX-License-Identifier: Apache-2.0
"""Refusals to the byte: ICMP port unreachable, what it quotes, and where it goes."""

from typing import Any

import pytest

from tests.datapath.bench import Bench
from tests.datapath.network import NEIGHBOUR_MAC, PODS, UPLINK, UPLINK_MAC
from tests.datapath.node import DROP, MARK, REDIRECT
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
    same,
    scapy,
    transport,
)

BOTH = pytest.mark.parametrize("family", FAMILIES)
ALL = pytest.mark.parametrize("protocol", PROTOCOLS)
ETHERNET = 14
# RFC 1812, 4.3.2.3, and RFC 4443, 2.4: an error is at most so long; what is quoted is so much less.
MOST_QUOTED = {"IPv4": 576 - 28, "IPv6": 1280 - 48}
NO_MACS = {"source": "00:00:00:00:00:00", "destination": "00:00:00:00:00:00"}
BACK = {"source": UPLINK_MAC, "destination": NEIGHBOUR_MAC}


def refusal(family: str, client: str, quoted: bytes, expired: bool = False, /, **macs: str) -> bytes:
    """What a host without a listener would say (or a router, `expired`), quoting this IP packet in steps of four."""
    s, node = scapy(), ROLES[family].node
    kept = quoted[: min(len(quoted), MOST_QUOTED[family]) // 4 * 4]
    error: Any = s.ICMP(type=11, code=0) if expired else s.ICMP(type=3, code=3)
    if family == "IPv6":
        error = s.ICMPv6TimeExceeded(code=0) if expired else s.ICMPv6DestUnreach(code=4)
    head = internet(node, client, **({} if family == "IPv6" else {"id": 0}))
    return frame(head / error / s.Raw(kept), **macs)


@BOTH
@ALL
@pytest.mark.parametrize("frontend", ["cluster_ip", "external_ip", "node"])
def test_no_usable_endpoint_is_refused(node: Bench, family: str, protocol: str, frontend: str) -> None:
    roles, is_node_port = ROLES[family], frontend == "node"
    address = None if is_node_port else getattr(roles, frontend)
    kind = {"cluster_ip": "CLUSTER_IP", "external_ip": "EXTERNAL_IP", "node": "NODE_PORT"}[frontend]
    port = NODE_PORT if is_node_port else PORT
    flags = ["INTERNAL_LOCAL", "EXTERNAL_LOCAL"]
    node.frontend(address, port, protocol, kind=kind, flags=flags, family=4 if family == "IPv4" else 6)
    data = packet(roles.outside, SPORT, getattr(roles, frontend), port, protocol)

    sent = node.send(data)

    same(sent.packet, refusal(family, roles.outside, data[ETHERNET:], **BACK))
    assert (sent.action, sent.mark) == (REDIRECT, MARK)
    assert node.counted == {"REFUSALS_SENT": 1}
    assert node.verdict["outcome"] == "REFUSED"
    assert node.flows == []


@BOTH
@ALL
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 500, 520, 521, 1150, 1190, 1400])
def test_what_is_quoted(node: Bench, family: str, protocol: str, length: int) -> None:
    roles = ROLES[family]
    node.frontend(roles.cluster_ip, PORT, protocol)
    payload = (bytes(range(256)) * 6)[:length]
    data = packet(roles.other_pod, SPORT, roles.cluster_ip, PORT, protocol, payload=payload)

    sent = node.send(data, by=PODS)

    same(sent.packet, refusal(family, roles.other_pod, data[ETHERNET:], **BACK))


@BOTH
@ALL
def test_a_process_of_the_node_is_refused_on_loopback(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    node.frontend(roles.cluster_ip, PORT, protocol)
    data = packet(roles.node, SPORT, roles.cluster_ip, PORT, protocol)

    sent = node.send(data, out=True)

    same(sent.packet, refusal(family, roles.node, data[ETHERNET:], **NO_MACS))
    assert (sent.action, sent.mark) == (REDIRECT, MARK)


@BOTH
def test_an_unused_port_of_a_cluster_ip_is_refused(node: Bench, family: str) -> None:
    roles = ROLES[family]
    node.know(roles.cluster_ip, "IS_CLUSTER_IP", "IS_VIRTUAL")
    data = packet(roles.other_pod, SPORT, roles.cluster_ip, PORT + 1, "UDP")

    same(node.send(data, by=PODS).packet, refusal(family, roles.other_pod, data[ETHERNET:], **BACK))


@BOTH
def test_padding_is_not_quoted(node: Bench, family: str) -> None:
    roles = ROLES[family]
    node.frontend(roles.cluster_ip, PORT, "UDP")
    data = packet(roles.other_pod, SPORT, roles.cluster_ip, PORT, "UDP", payload=b"")

    sent = node.send(data + b"\xa5" * 30, by=PODS)

    same(sent.packet, refusal(family, roles.other_pod, data[ETHERNET:], **BACK))


def test_options_are_quoted(node: Bench) -> None:
    roles = ROLES["IPv4"]
    node.frontend(roles.cluster_ip, PORT)
    options = [scapy().IPOption(b"\x01" * 40)]
    data = frame(internet(roles.other_pod, roles.cluster_ip, options=options) / transport("TCP", SPORT, PORT))

    same(node.send(data, by=PODS).packet, refusal("IPv4", roles.other_pod, data[ETHERNET:], **BACK))


def test_extension_headers_are_quoted(node: Bench) -> None:
    roles, s = ROLES["IPv6"], scapy()
    node.frontend(roles.cluster_ip, PORT)
    layers = internet(roles.other_pod, roles.cluster_ip) / s.IPv6ExtHdrHopByHop() / s.IPv6ExtHdrDestOpt()
    data = frame(layers / transport("TCP", SPORT, PORT))

    same(node.send(data, by=PODS).packet, refusal("IPv6", roles.other_pod, data[ETHERNET:], **BACK))


@BOTH
def test_what_is_not_wholly_there_is_dropped_instead(node: Bench, family: str) -> None:
    """Its length says more than there is, so that nothing could be quoted truthfully."""
    roles = ROLES[family]
    node.frontend(roles.cluster_ip, PORT)
    data = packet(roles.other_pod, SPORT, roles.cluster_ip, PORT)[:-5]

    assert node.send(data, by=PODS).action == DROP
    assert node.counted == {"DROPPED_REWRITE": 1}


@BOTH
def test_an_endpoint_here_that_comes_back_is_no_longer_refused(node: Bench, family: str) -> None:
    roles = ROLES[family]
    node.frontend(roles.cluster_ip, PORT, "UDP")
    data = packet(roles.outside, SPORT, roles.cluster_ip, PORT, "UDP")
    assert node.send(data, by=UPLINK).action == REDIRECT
    node.frontend(roles.cluster_ip, PORT, "UDP", cluster=[node.endpoint(roles.pod, TARGET)])

    assert node.send(data, by=UPLINK).action == 0
    assert node.counted == {"REFUSALS_SENT": 1, "FLOWS_OPENED": 1}


@BOTH
@ALL
@pytest.mark.parametrize("known", [True, False])
def test_a_packet_that_ends_here_is_answered_as_a_router_would(
    node: Bench, family: str, protocol: str, known: bool
) -> None:
    roles = ROLES[family]
    endpoint = node.endpoint(roles.remote_pod, TARGET)
    node.frontend(
        None, NODE_PORT, protocol, cluster=[endpoint], kind="NODE_PORT", family=4 if family == "IPv4" else 6
    )
    if known:
        node.send(packet(roles.outside, SPORT, roles.node, NODE_PORT, protocol))
    data = packet(roles.outside, SPORT, roles.node, NODE_PORT, protocol, ttl=1)

    sent = node.send(data)

    same(sent.packet, refusal(family, roles.outside, data[ETHERNET:], True, **BACK))
    assert (sent.action, sent.mark) == (REDIRECT, MARK)


@BOTH
def test_a_packet_for_an_endpoint_on_this_node_has_arrived_whatever_it_has_left(node: Bench, family: str) -> None:
    roles = ROLES[family]
    endpoint = node.endpoint(roles.node, TARGET, "ON_HOST")
    node.frontend(roles.cluster_ip, PORT, cluster=[endpoint])

    sent = node.send(packet(roles.other_pod, SPORT, roles.cluster_ip, PORT, ttl=1), by=PODS)

    assert node.counted == {"FLOWS_OPENED": 1}
    assert scapy().Ether(sent.packet).payload.dst == roles.node
