# SPDX-License-Identifier: Apache-2.0
"""ICMP errors through translation, in both directions: who speaks, to whom, and the packet that is quoted."""

from typing import Any

import pytest

from tests.datapath.bench import Bench
from tests.datapath.network import PODS, UPLINK
from tests.datapath.node import MARK, NEXT, PASS
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
# Bytes of the transport part that the error quotes: the least of RFC 792, TCP with and without its checksum, all.
QUOTED = pytest.mark.parametrize("kept", [8, 12, 18, 20, None])
KINDS = {
    "IPv4": [(3, 0), (3, 1), (3, 3), (3, 4), (11, 0), (12, 0)],
    "IPv6": [(1, 0), (1, 4), (2, 0), (3, 0), (4, 1)],
}
EVERY_KIND = pytest.mark.parametrize(
    ("family", "kind"), [(family, kind) for family, kinds in KINDS.items() for kind in kinds]
)
End = tuple[str, int]


def error(source: str, destination: str, kind: tuple[int, int], quoted: bytes) -> bytes:
    """An ICMP error with four bytes of its own (an MTU, say), about this packet."""
    s = scapy()
    head: Any = bytes([*kind, 0, 0, 0, 0, 5, 0x78])
    ip = internet(source, destination, **({"nh": 58} if ":" in source else {"proto": 1}))
    layer = s.ICMPv6Unknown(head) if ":" in source else s.ICMP(head)
    if ":" in source:
        layer = s.ICMPv6Unknown(type=kind[0], code=kind[1], msgbody=head[4:] + quoted)
        return frame(ip / layer)
    layer.chksum = None
    return frame(ip / layer / s.Raw(quoted))


def about(one: End, other: End, protocol: str, kept: int | None, *, ttl: int = 3, **fields: Any) -> bytes:
    """The IP packet from one to the other as far as an error quotes it."""
    whole = bytes(internet(one[0], other[0], ttl=ttl) / transport(protocol, one[1], other[1], **fields))
    return whole[: len(whole) if kept is None else (40 if ":" in one[0] else 20) + kept]


def begun(node: Bench, family: str, protocol: str) -> tuple[End, End, End, End]:
    """A masqueraded flow from outside to a node port: client, what it dialled, as whom the pod sees it, the pod."""
    roles = ROLES[family]
    client, dialled = (roles.outside, SPORT), (roles.node, NODE_PORT)
    endpoint = node.endpoint(roles.pod, TARGET)
    node.frontend(
        None, NODE_PORT, protocol, cluster=[endpoint], kind="NODE_PORT", family=4 if family == "IPv4" else 6
    )
    node.send(packet(*client, *dialled, protocol))
    port = int(node.verdict["client_port"]) or next(
        int(key["destination_port"]) for key, value in node.flows if value["flags"] & 1
    )
    return client, dialled, (roles.node, port), (roles.pod, TARGET)


def without_sctp_checksum(data: bytes, family: str, protocol: str) -> bytes:
    """An SCTP checksum in a quoted packet stays as it was: nobody looks at it, and the ICMP checksum covers it."""
    if protocol != "SCTP":
        return data
    at = 14 + (40 + 8 + 40 if family == "IPv6" else 20 + 8 + 20)
    return data[:at + 8] + data[at + 12:]  # fmt: skip


@BOTH
@ALL
@QUOTED
@pytest.mark.parametrize("speaker", ["endpoint", "router"])
def test_an_error_about_what_the_endpoint_was_sent(
    node: Bench, family: str, protocol: str, kept: int | None, speaker: str
) -> None:
    client, dialled, seen, pod = begun(node, family, protocol)
    router = "10.244.0.9" if family == "IPv4" else "fd00:10:244::9"
    kind = KINDS[family][2]
    says, then = (pod[0], dialled[0]) if speaker == "endpoint" else (router, router)

    sent = node.send(error(says, seen[0], kind, about(seen, pod, protocol, kept)), by=PODS)

    expected = error(then, client[0], kind, about(client, dialled, protocol, kept))
    if protocol == "SCTP":
        assert (
            without_sctp_checksum(sent.packet, family, protocol)[60:]
            == (without_sctp_checksum(expected, family, protocol)[60:])
        )
        assert _icmp_is_consistent(sent.packet)
    else:
        same(sent.packet, expected)
    assert (sent.action, sent.mark) == (PASS, MARK)
    assert node.counted == {"FLOWS_OPENED": 1, "ERRORS_TRANSLATED": 1}


@BOTH
@ALL
@QUOTED
@pytest.mark.parametrize("speaker", ["client", "router"])
def test_an_error_about_what_the_client_was_sent(
    node: Bench, family: str, protocol: str, kept: int | None, speaker: str
) -> None:
    client, dialled, seen, pod = begun(node, family, protocol)
    router = "192.0.2.1" if family == "IPv4" else "2001:db8::1"
    kind = KINDS[family][3]
    says, then = (client[0], seen[0]) if speaker == "client" else (router, router)

    sent = node.send(error(says, dialled[0], kind, about(dialled, client, protocol, kept)), by=UPLINK)

    expected = error(then, pod[0], kind, about(pod, seen, protocol, kept))
    if protocol == "SCTP":
        assert _icmp_is_consistent(sent.packet)
    else:
        same(sent.packet, expected)
    assert node.counted["ERRORS_TRANSLATED"] == 1


def _icmp_is_consistent(data: bytes) -> bool:
    """The ICMP checksum, computed anew over all that follows it."""
    s = scapy()
    parsed = s.Ether(data)
    ip = parsed.payload
    raw = bytearray(bytes(ip.payload))
    was, raw[2:4] = bytes(raw[2:4]), b"\0\0"
    if isinstance(ip, s.IPv6):
        return bool(s.in6_chksum(58, ip, bytes(raw)).to_bytes(2, "big") == was)
    from scapy.utils import checksum

    return bool(checksum(bytes(raw)).to_bytes(2, "big") == was)


@EVERY_KIND
def test_every_kind_of_error_is_translated(node: Bench, family: str, kind: tuple[int, int]) -> None:
    client, dialled, seen, pod = begun(node, family, "TCP")

    sent = node.send(error(pod[0], seen[0], kind, about(seen, pod, "TCP", None)), by=PODS)

    same(sent.packet, error(dialled[0], client[0], kind, about(client, dialled, "TCP", None)))


@BOTH
def test_an_echo_is_no_error(node: Bench, family: str) -> None:
    _, _, seen, pod = begun(node, family, "TCP")
    data = error(pod[0], seen[0], (8, 0) if family == "IPv4" else (128, 0), about(seen, pod, "TCP", None))

    assert node.send(data, by=PODS).action == NEXT
    assert node.counted == {"FLOWS_OPENED": 1}


@BOTH
def test_an_error_about_a_strangers_packet_is_left_alone(node: Bench, family: str) -> None:
    client, dialled, seen, pod = begun(node, family, "TCP")
    for one, two in ((pod, seen), (client, dialled), (seen, (pod[0], pod[1] + 1)), ((seen[0], 5), pod)):
        data = error(pod[0], seen[0], KINDS[family][2], about(one, two, "TCP", None))
        sent = node.send(data, by=PODS)
        assert (sent.action, sent.packet) == (NEXT, data)


@BOTH
def test_an_error_about_an_error_is_left_alone(node: Bench, family: str) -> None:
    _, _, seen, pod = begun(node, family, "TCP")
    inner = error(seen[0], pod[0], KINDS[family][2], about(pod, seen, "TCP", None))[14:]
    data = error(pod[0], seen[0], KINDS[family][2], inner)

    assert node.send(data, by=PODS).packet == data


@BOTH
def test_a_datagram_without_a_checksum_is_quoted_without(node: Bench, family: str) -> None:
    client, dialled, seen, pod = begun(node, family, "UDP")

    sent = node.send(error(pod[0], seen[0], KINDS[family][2], about(seen, pod, "UDP", None, chksum=0)), by=PODS)

    same(sent.packet, error(dialled[0], client[0], KINDS[family][2], about(client, dialled, "UDP", None, chksum=0)))


@BOTH
@ALL
def test_an_error_reaches_a_process_of_the_node(node: Bench, family: str, protocol: str) -> None:
    """The endpoint's refusal of what one of the node's own processes sent to a ClusterIP."""
    roles = ROLES[family]
    node.frontend(roles.cluster_ip, PORT, protocol, cluster=[node.endpoint(roles.pod, TARGET)])
    node.send(packet(roles.node, SPORT, roles.cluster_ip, PORT, protocol), out=True)
    own, pod, dialled = (roles.node, SPORT), (roles.pod, TARGET), (roles.cluster_ip, PORT)

    sent = node.send(error(pod[0], own[0], KINDS[family][2], about(own, pod, protocol, 8)), by=PODS)

    same(sent.packet, error(dialled[0], own[0], KINDS[family][2], about(own, dialled, protocol, 8)))
    assert (sent.action, sent.mark) == (PASS, MARK)
