# SPDX-License-Identifier: Apache-2.0
"""Packets that tests make are what they say, byte for byte as scapy reads them."""

import pytest

from clusters.agent.client import CapturedPacket, Recording
from plugins.packets import (
    BEYOND,
    Layers,
    again,
    as_pcap,
    as_text,
    differences,
    echo_reply,
    echo_request,
    far_ahead,
    fragments_of,
    icmp,
    ip,
    network_of,
    tcp,
    udp,
    with_options,
    without_checksum,
)

ENDS = {"IPv4": ("10.0.0.1", "10.0.0.2"), "IPv6": ("fd00::1", "fd00::2")}
BOTH = pytest.mark.parametrize("family", ENDS)


def whole(family: str, transport: Layers | None = None, payload: bytes = b"?x 0") -> Layers:
    source, destination = ENDS[family]
    packet = ip(src=source, dst=destination) / (transport or udp(sport=2000, dport=80)) / payload
    return type(packet)(bytes(packet))


def is_right(packet: Layers) -> bool:
    """Whether its checksums are what scapy computes anew."""
    fresh = packet.copy()
    for layer in (fresh, fresh.payload):
        for field in ("chksum", "cksum"):
            layer.fields.pop(field, None)
    return bytes(fresh) == bytes(packet)


@BOTH
def test_again_with_other_fields(family: str) -> None:
    packet = again(whole(family), ttl=7, sport=2001, payload=b"other")
    assert not differences(ip(src=ENDS[family][0], ttl=7) / udp(sport=2001, dport=80, len=13), packet)
    assert bytes(packet).endswith(b"other")
    assert is_right(packet)


@BOTH
def test_what_a_card_would_have_filled_in(family: str) -> None:
    taken = whole(family)
    taken.payload.chksum = 0x1234
    assert is_right(again(taken))


@BOTH
def test_a_segment_far_ahead(family: str) -> None:
    packet = far_ahead(whole(family, tcp(sport=1, dport=2, seq=5, flags="PA")), flags="R")
    assert (packet.payload.seq, packet.payload.flags) == (5 + BEYOND, "R")
    assert not packet.payload.payload
    assert is_right(packet)


def test_a_datagram_without_a_checksum() -> None:
    packet = without_checksum(whole("IPv4"))
    assert packet.payload.chksum == 0
    assert not differences(ip(src=ENDS["IPv4"][0]) / udp(dport=80), packet)


@BOTH
def test_options_before_the_transport(family: str) -> None:
    plain = whole(family)
    packet = with_options(plain)
    assert len(bytes(packet)) > len(bytes(plain))
    assert not differences(ip(src=ENDS[family][0]) / udp(sport=2000, dport=80), packet)
    assert bytes(packet).endswith(b"?x 0")


@BOTH
def test_fragments_are_a_packet_in_pieces(family: str) -> None:
    pieces = [type(whole(family))(piece) for piece in fragments_of(whole(family, payload=b"x" * 3000), 1000)]
    assert len(pieces) > 2
    assert not differences(ip(src=ENDS[family][0]) / udp(dport=80), pieces[0])
    assert all(differences(ip(src=ENDS[family][0]) / udp(dport=80), piece) for piece in pieces[1:])


@BOTH
def test_a_ping_and_its_answer(family: str) -> None:
    source, destination = ENDS[family]
    ping = type(whole(family))(echo_request(source, destination))
    assert is_right(ping)
    assert differences(echo_reply(source), ping)
    assert not differences(echo_reply(destination), type(ping)(bytes(echo_reply(destination))))


def test_an_address_says_the_family() -> None:
    with pytest.raises(ValueError, match="give src or dst"):
        ip(ttl=3)
    assert icmp("too-big", "IPv6", mtu=1300).mtu == 1300


def test_a_recording_in_words_and_as_a_file() -> None:
    from scapy.layers.l2 import Ether

    data = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / whole("IPv4"))
    packet = CapturedPacket(12.5, "eth0", "outgoing", data, len(data))
    line = "    0.000 ms  eth0      outgoing  IP / UDP 10.0.0.1:2000 > 10.0.0.2:"
    first, second, last = as_text(Recording((packet, packet), dropped=2)).splitlines()
    assert first == second
    assert first.startswith(line)
    assert last == "2 later ones found no room"
    assert len(as_pcap(Recording((packet,), 0))) == 24 + 16 + len(data)
    assert bytes(network_of(packet) or b"") == data[14:]
