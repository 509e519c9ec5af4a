# SPDX-License-Identifier: Apache-2.0
"""Injected packets arrive exactly as they were given, whatever their header claims."""

import socket
import struct

import pytest

from clusters.agent.client import AgentClient
from clusters.errors import PlumblineError
from tests.agent.conftest import MACS, World, one

NOBODY, NOBODY6 = "192.0.2.77", "2001:db8::77"
PAYLOAD = b"as it is"


def udp4(source: str, destination: str) -> bytes:
    """An IPv4 packet with a UDP datagram without checksum; the kernel fills in the header's own."""
    datagram = struct.pack("!HHHH", 4000, 5000, 8 + len(PAYLOAD), 0) + PAYLOAD
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 7, 0, 64, 17, 0) + addresses + datagram


def udp6(source: str, destination: str) -> bytes:
    datagram = struct.pack("!HHHH", 4000, 5000, 8 + len(PAYLOAD), 0xFFFF) + PAYLOAD
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    return struct.pack("!IHBB", 6 << 28, len(datagram), 17, 64) + addresses + datagram


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_a_packet_arrives_with_a_foreign_source(agent: AgentClient, world: World, family: str) -> None:
    packet = udp6(NOBODY6, world.ip6) if family == "IPv6" else udp4(NOBODY, world.ip)
    with agent.capture(world.server, "eth0") as capture:
        agent.inject(world.client, packet)
        one(agent, world.request("UDP"))  # it comes the same way, afterwards
    arrived = [seen.data[14:] for seen in capture.packets if seen.data.endswith(PAYLOAD)]
    assert [data[12:] if family == "IPv4" else data for data in arrived] == [
        packet[12:] if family == "IPv4" else packet
    ]


def test_a_frame_takes_what_no_route_would(agent: AgentClient, world: World) -> None:
    packet = udp4(NOBODY, "127.0.0.1")
    with agent.capture(world.server, "eth0") as capture:
        agent.inject(world.client, packet, ("eth0", MACS["s"]))
        one(agent, world.request("UDP"))
    (arrived,) = [seen for seen in capture.packets if seen.data.endswith(PAYLOAD)]
    assert arrived.data[14:] == packet
    assert arrived.direction == "host"


@pytest.mark.parametrize("link", [("eth7", MACS["s"]), ("eth0", "no MAC")])
def test_a_link_that_there_is_not_is_one_sentence(agent: AgentClient, world: World, link: tuple[str, str]) -> None:
    with pytest.raises(PlumblineError, match="the packet cannot be sent from "):
        agent.inject(world.client, udp4(NOBODY, world.ip), link)


@pytest.mark.parametrize("packet", [b"", b"\x45", b"\x00" * 60])
def test_what_is_no_packet_is_one_sentence(agent: AgentClient, world: World, packet: bytes) -> None:
    with pytest.raises(PlumblineError, match="the packet to inject is no IPv4 or IPv6 packet"):
        agent.inject(world.client, packet)


def test_arp_takes_a_link_and_nothing_else(agent: AgentClient, world: World) -> None:
    ends = bytes.fromhex(MACS["s"].replace(":", "")), socket.inet_aton(NOBODY)
    packet = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, *ends, *ends)
    with agent.capture(world.server, "eth0") as capture:
        agent.inject(world.client, packet, ("eth0", MACS["s"]))
        one(agent, world.request("UDP"))
    arrived = [seen.data[14:] for seen in capture.packets if seen.data[12:14] == b"\x08\x06"]
    assert packet in arrived
    with pytest.raises(PlumblineError, match="the packet to inject is no IPv4 or IPv6 packet"):
        agent.inject(world.client, packet)
    with pytest.raises(PlumblineError, match="nor ARP for a link"):
        agent.inject(world.client, packet[:20], ("eth0", MACS["s"]))
