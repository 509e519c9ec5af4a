# SPDX-License-Identifier: Apache-2.0
"""Mangled packets, some thousands of them (`make fuzz` runs a million), and that their judge can find fault."""

from functools import cache

import pytest

from tests.datapath.bench import Bench
from tests.datapath.fuzz import Fuzzer, main
from tests.datapath.fuzz_check import Check, WrongError, ones, read, sctp_change
from tests.datapath.node import NEXT
from tests.datapath.packets import FAMILIES, NODE_PORT, PORT, PROTOCOLS, ROLES, SPORT, TARGET, packet

BOTH = pytest.mark.parametrize("family", FAMILIES)
ALL = pytest.mark.parametrize("protocol", PROTOCOLS)


def test_mangled_packets_are_rewritten_rightly_or_left_alone(node: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    result = Fuzzer(node, seed=4, epoch=4_000).run(20_000)

    with capsys.disabled():
        print(f"\n{result.report()}")
    assert result.packets == 20_000
    needed = ("new flow", "later packet", "reply", "ICMP error", "later fragment")
    assert all(result.ends[f"rewritten: {end}"] > 5 for end in needed)
    assert result.ends["refused"] > 100
    assert result.ends["XDP: forwarded"] > 5


def test_nobodys_address_is_no_node_port(node: Bench) -> None:
    """The key of a node port has an address of zeros; a packet to "::" is not for it."""
    node.frontend(None, NODE_PORT, cluster=[node.endpoint(ROLES["IPv6"].pod, TARGET)], kind="NODE_PORT", family=6)
    data = packet(ROLES["IPv6"].outside, SPORT, "::", NODE_PORT)

    sent = node.send(data)

    assert (sent.action, sent.packet) == (NEXT, data)
    assert node.flows == []


@cache
def both_ends(family: str, protocol: str) -> tuple[bytes, bytes]:
    """A packet to a ClusterIP, and the same rewritten rightly."""
    roles = ROLES[family]
    before = packet(roles.other_pod, SPORT, roles.cluster_ip, PORT, protocol)
    return before, packet(roles.other_pod, SPORT, roles.pod, TARGET, protocol)


def judged(family: str, protocol: str) -> tuple[Check, bytes, bytearray]:
    """A judge, and what both_ends gives."""
    before, after = both_ends(family, protocol)
    outer, now = read(before)[0], read(after)[0]
    assert outer
    assert now
    number = outer.protocol
    return (
        Check({(outer.destination, PORT, number): {(now.destination, TARGET)}}, range(1, 2)),
        before,
        bytearray(after),
    )


@BOTH
@ALL
def test_the_judge_accepts_what_is_right(family: str, protocol: str) -> None:
    check, before, after = judged(family, protocol)

    assert check.rewritten(before, bytes(after)) == "rewritten: new flow"
    assert check.rewritten(before, bytes(after)) == "rewritten: later packet"


@BOTH
@ALL
def test_the_judge_minds_every_single_bit(family: str, protocol: str) -> None:
    for at in range(14, len(judged(family, protocol)[2])):
        check, before, after = judged(family, protocol)
        after[at] ^= 1
        with pytest.raises(WrongError):
            check.rewritten(before, bytes(after))


@BOTH
def test_the_judge_minds_what_was_not_left_alone(family: str) -> None:
    check, before, after = judged(family, "TCP")
    with pytest.raises(WrongError, match="has changed"):
        check.left_alone(before, bytes(after))
    with pytest.raises(WrongError, match="cannot be read"):
        check.rewritten(before[:40], bytes(after))
    with pytest.raises(WrongError, match="cannot be read"):
        check.unreadable(before[:40])
    with pytest.raises(WrongError, match="bytes and has"):
        check.rewritten(before, bytes(after) + b"\0")
    with pytest.raises(WrongError, match="quote"):
        check.refused(before, bytes(after))


def test_the_judges_sums() -> None:
    """RFC 1071's own example, and CRC32c's change against scapy's whole sum."""
    assert ones(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2
    one, other = (packet("10.0.0.1", sport, "10.0.0.2", PORT, "SCTP")[34:] for sport in (1, 2))
    change = bytes(a ^ b for a, b in zip(one[8:12], other[8:12], strict=True))
    assert int.from_bytes(change, "little") == sctp_change(b"\0\3\0\0", len(one))


def test_a_count_that_makes_no_sense(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--packets", "0"])
    assert "--packets must be at least 1, not 0" in capsys.readouterr().err
