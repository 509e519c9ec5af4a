# SPDX-License-Identifier: Apache-2.0
"""Packets that end early, at every length, through every program."""

from typing import Any

import pytest

from tests.datapath.bench import Bench
from tests.datapath.network import PODS, UPLINK
from tests.datapath.node import DROP, NEXT
from tests.datapath.packets import (
    FAMILIES,
    PORT,
    PROTOCOLS,
    ROLES,
    SPORT,
    TARGET,
    frame,
    internet,
    packet,
    scapy,
    transport,
)
from tests.datapath.test_errors import KINDS, about, error

BOTH = pytest.mark.parametrize("family", FAMILIES)
ETHERNET = 14
HEADERS = {"IPv4": ETHERNET + 20, "IPv6": ETHERNET + 40}


def _with_more_headers(family: str, protocol: str, source: str, destination: str) -> bytes:
    s = scapy()
    layer: Any
    if family == "IPv4":
        layer = internet(source, destination, options=[s.IPOption(b"\x01" * 20)])
    else:
        layer = internet(source, destination) / s.IPv6ExtHdrHopByHop() / s.IPv6ExtHdrDestOpt()
        layer /= s.IPv6ExtHdrFragment(id=1)
    return frame(layer / transport(protocol, SPORT, PORT))


def cases(family: str, protocol: str) -> list[tuple[str, bytes]]:
    roles = ROLES[family]
    quoted = about((roles.other_pod, SPORT), (roles.pod, TARGET), protocol, None)
    return [
        ("plain", packet(roles.other_pod, SPORT, roles.cluster_ip, PORT, protocol)),
        ("more headers", _with_more_headers(family, protocol, roles.other_pod, roles.cluster_ip)),
        ("reply", packet(roles.pod, TARGET, roles.other_pod, SPORT, protocol, flags="SA")),
        ("error", error(roles.pod, roles.other_pod, KINDS[family][2], quoted)),
        ("refused", packet(roles.other_pod, SPORT, roles.external_ip, PORT, protocol)),
    ]


@BOTH
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("program", ["plumbline_ingress", "plumbline_egress", "plumbline_xdp"])
@pytest.mark.parametrize("known", [False, True], ids=["new flow", "known flow"])
def test_a_packet_truncated_at_every_length(
    node: Bench, family: str, protocol: str, program: str, known: bool
) -> None:
    """Whole headers are rewritten, what has not even those stays as it is; nothing is longer than before.

    A run of tc wants an Ethernet and an IP header (the kernel refuses less with EINVAL), one of XDP an Ethernet
    header: shorter frames cannot be tried, and do not reach a program on the wire either.
    """
    roles = ROLES[family]
    node.frontend(roles.cluster_ip, PORT, protocol, cluster=[node.endpoint(roles.pod, TARGET)])
    node.frontend(roles.external_ip, PORT, protocol)
    node.configure("STRAIGHT")
    for name, whole in cases(family, protocol):
        for length in range(len(whole) + 1):
            node.empty("flows")
            if known:
                node.send(packet(roles.other_pod, SPORT, roles.cluster_ip, PORT, protocol), by=PODS)
            opened = len(node.flows)
            data = whole[:length]
            if length < (ETHERNET if program == "plumbline_xdp" else HEADERS[family]):
                with pytest.raises(OSError, match="Invalid argument"):
                    node.loaded.programs[program].run(data)
                continue
            result = node.loaded.programs[program].run(data)
            where = f"{name}, {length} of {len(whole)} bytes: {result.retval}"
            if length < HEADERS[family] + 4 or result.retval in (NEXT, 2):
                assert result.data == data or result.retval == DROP, where
            if result.retval == NEXT:
                assert len(node.flows) == opened, where
            if name != "refused":
                assert len(result.data) == length, where


@BOTH
def test_a_tcp_head_without_its_flags_is_left_alone(node: Bench, family: str) -> None:
    roles = ROLES[family]
    node.frontend(roles.cluster_ip, PORT, cluster=[node.endpoint(roles.pod, TARGET)])
    whole = packet(roles.outside, SPORT, roles.cluster_ip, PORT)

    results = {length: node.send(whole[:length], by=UPLINK).action for length in range(HEADERS[family], len(whole))}

    assert {results[HEADERS[family] + length] for length in range(14)} == {NEXT}
    assert node.counted["DROPPED_REWRITE"] == 4  # the ports are there, the checksum is not
