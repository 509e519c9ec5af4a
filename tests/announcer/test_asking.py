# SPDX-License-Identifier: Apache-2.0
"""Questions on a LAN and what is made of the answers: packets by scapy, and who may announce an address."""

from collections.abc import Sequence

import pytest

from clusters.agent.client import CapturedPacket
from clusters.api import Backend, Vantage
from plugins.announcing import Answer, Answers, may_announce
from plugins.flows import ViolationError
from plugins.packets import Claim, claims, who_has
from plugins.services import Mirror, Service
from plugins.slices import Endpoint, Slice
from tests.announcer.announcer import ALL_NODES, BROADCAST, advertisement, answer, arp, unasked
from tests.announcer.announcer import Announcer as Ours

ASKER, ASKER_MAC = {4: "172.18.0.2", 6: "fd00:172:18::2"}, "02:00:00:00:00:02"
MAC, VIP, VIP6 = "02:00:00:00:00:0a", "172.18.200.7", "fd00:172:18::c8:7"
RAW = bytes.fromhex(MAC.replace(":", ""))
CLASS = "example.org/ours"


def frame(packet: bytes, to: str, kind: int) -> bytes:
    """As the kernel sends it."""
    ends = bytes.fromhex((to + ASKER_MAC).replace(":", ""))
    return ends + kind.to_bytes(2, "big") + packet


def captured(data: bytes, direction: str = "host") -> CapturedPacket:
    return CapturedPacket(1.5, "eth0", direction, data, len(data))


def announcer(*mine: str) -> Ours:
    return Ours("node-a", RAW, CLASS, "", {}, frozenset(), mine=frozenset(mine))


@pytest.mark.parametrize(
    ("ip", "kind", "to"), [(VIP, 0x0806, "ff:ff:ff:ff:ff:ff"), (VIP6, 0x86DD, "33:33:ff:c8:00:07")]
)
def test_a_question_is_answered_by_whose_address_it_is(ip: str, kind: int, to: str) -> None:
    packet, receiver = who_has(ip, ASKER[6 if ":" in ip else 4], ASKER_MAC)
    assert receiver == to

    reply = answer(frame(packet, receiver, kind), announcer(ip))

    assert reply is not None
    assert reply[:6].hex(":") == ASKER_MAC
    assert claims([captured(reply)]) == [Claim(1.5, ip, MAC, asked=True)]
    assert answer(frame(packet, receiver, kind), announcer()) is None


def test_a_solicitation_is_valid() -> None:
    """RFC 4861, 7.1.1: hop limit 255, a right checksum, to the solicited-node address, and from where."""
    from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6

    packet, _ = who_has(VIP6, ASKER[6], ASKER_MAC)
    seen = IPv6(packet)
    assert (seen.hlim, seen.dst, seen[ICMPv6ND_NS].tgt) == (255, "ff02::1:ffc8:7", VIP6)
    assert seen[ICMPv6NDOptSrcLLAddr].lladdr == ASKER_MAC
    right = seen.copy()
    del right[ICMPv6ND_NS].cksum
    assert bytes(right) == packet


def test_what_is_said_unasked_is_no_answer() -> None:
    said = [captured(one, "broadcast") for one in unasked(RAW, [VIP, VIP6])]
    assert claims(said) == [Claim(1.5, ip, MAC, asked=False) for ip in (VIP, VIP6)]
    gratuitous_reply = arp(RAW, VIP, BROADCAST, VIP, reply=True)
    assert claims([captured(gratuitous_reply, "broadcast")]) == [Claim(1.5, VIP, MAC, asked=False)]


def test_own_packets_and_questions_claim_nothing() -> None:
    question, to = who_has(VIP, ASKER[4], ASKER_MAC)
    sent = advertisement(RAW, VIP6, ALL_NODES, "ff02::1", solicited=False)
    assert claims([captured(frame(question, to, 0x0806)), captured(sent, "outgoing")]) == []


def backend(node: str) -> Backend:
    vantage = Vantage(f"{node}.pod-1", "pod", node, {"IPv4": "10.0.0.1"}, None)
    return Backend(vantage.name, node, vantage.addresses, (8080,), vantage)


def service(
    name: str, endpoints: Sequence[Endpoint], policy: str = "Cluster", balancer_class: str = CLASS
) -> Service:
    spec = {"loadBalancerClass": balancer_class, "externalTrafficPolicy": policy}
    mirror = Mirror(services={name: {"spec": spec}})
    return Service(name, None, mirror, (), spec, {}, ("IPv4",), (Slice(endpoints),))  # type: ignore[arg-type]


NODES = ("node-a", "node-b", "node-c")
READY, GONE = Endpoint(backend("node-a")), Endpoint(backend("node-b"), ready=False, serving=False)
ENDING = Endpoint(backend("node-b"), ready=False, serving=True, terminating=True)


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ([service("a", [READY])], set(NODES)),
        ([service("a", [])], set()),
        ([service("a", [GONE])], set()),
        ([service("a", [ENDING])], set(NODES)),
        ([service("a", [READY, GONE], "Local")], {"node-a"}),
        ([service("a", [READY, ENDING], "Local")], {"node-a", "node-b"}),
        ([service("a", [], "Local"), service("b", [READY], "Local")], {"node-a"}),
        ([service("a", [READY], balancer_class="example.org/others")], set()),
    ],
)
def test_who_may_announce(services: list[Service], expected: set[str]) -> None:
    assert may_announce(services, NODES, CLASS) == expected


def test_nobody_may_for_a_deleted_service_or_where_no_announcer_runs() -> None:
    deleted = service("a", [READY])
    deleted.mirror.services.clear()
    assert may_announce([deleted], NODES, CLASS) == set()
    assert may_announce([service("a", [READY], "Local")], ["node-b"], CLASS) == set()


@pytest.mark.parametrize(
    ("nodes", "allowed", "is_right"),
    [
        (("node-a",), {"node-a", "node-b"}, True),
        ((), set(), True),
        ((), {"node-a"}, False),
        (("node-a",), set(), False),
        (("node-a", "node-b"), {"node-a", "node-b"}, False),
        (("node-c",), {"node-a"}, False),
        (("a stranger (02:ff:00:00:00:01)",), {"node-a"}, False),
    ],
)
def test_answers_are_right_or_a_violation(nodes: tuple[str, ...], allowed: set[str], is_right: bool) -> None:
    answers = Answers((Answer(VIP, "svc-1", nodes, frozenset(allowed)),))
    assert (answers.wrong() == {}) is is_right
    if is_right:
        answers.must_be_right()
        return
    with pytest.raises(ViolationError, match=f"answers for {VIP}, but must be so that"):
        answers.must_be_right()


def test_nothing_asked_proves_nothing() -> None:
    with pytest.raises(ValueError, match="nothing is proved"):
        Answers(()).must_be_right()
