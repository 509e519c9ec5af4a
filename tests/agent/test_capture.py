# SPDX-License-Identifier: Apache-2.0
"""Captures: exactly the packets that passed, from the moment the capture was asked for."""

import dataclasses
import time

import pytest

from clusters.agent.client import AgentClient, CapturedPacket
from clusters.errors import PlumblineError
from clusters.observation import FlowOutcome
from tests.agent.conftest import UDP_PORT, World, one

IPV4 = 0x0800
IPV6 = 0x86DD


def udp_ports(packet: CapturedPacket) -> tuple[int, int]:
    """Source and destination port of a UDP packet over IPv4 without options."""
    return int.from_bytes(packet.data[34:36], "big"), int.from_bytes(packet.data[36:38], "big")


@pytest.mark.parametrize("where", ["client", "server"])
def test_a_capture_sees_exactly_the_packets(agent: AgentClient, world: World, where: str) -> None:
    netns = world.client if where == "client" else world.server
    begin = time.monotonic()
    with agent.capture(netns, "eth0", ethertypes=[IPV4]) as capture:
        seen = one(agent, world.request("UDP", sport=23700))
    end = time.monotonic()
    assert seen.outcome is FlowOutcome.REPLY
    request, reply = capture.packets
    assert udp_ports(request) == (23700, UDP_PORT)
    assert udp_ports(reply) == (UDP_PORT, 23700)
    directions = ("outgoing", "host") if where == "client" else ("host", "outgoing")
    assert (request.direction, reply.direction) == directions
    assert {packet.interface for packet in capture.packets} == {"eth0"}
    # Half a millisecond for two clocks that are read one after the other.
    assert begin - 0.0005 <= request.t <= reply.t <= end + 0.0005
    assert capture.dropped == 0


def test_a_capture_of_all_interfaces_names_each(agent: AgentClient, world: World) -> None:
    with agent.capture(world.server) as capture:
        one(agent, world.request("UDP"))
        one(agent, dataclasses.replace(world.request("UDP"), netns=world.server))
    assert {packet.interface for packet in capture.packets} == {"eth0", "lo"}


def test_ethertypes_narrow_a_capture(agent: AgentClient, world: World) -> None:
    with agent.capture(world.client, "eth0", ethertypes=[IPV6]) as capture:
        one(agent, world.request("UDP"))
        one(agent, world.request("UDP", world.ip6))
    assert len(capture.packets) == 2
    assert {packet.data[12:14] for packet in capture.packets} == {b"\x86\xdd"}


def test_snaplen_cuts_and_tells_the_true_length(agent: AgentClient, world: World) -> None:
    with agent.capture(world.client, "eth0", snaplen=60, ethertypes=[IPV4]) as capture:
        agent.probe([world.request("UDP")], request_size=1000)
    request = capture.packets[0]
    assert len(request.data) == 60
    assert request.wire_length == 14 + 20 + 8 + 1000


def test_a_burst_is_kept_and_what_exceeds_the_limit_is_counted(agent: AgentClient, world: World) -> None:
    requests = [world.request("UDP")] * 2000
    with agent.capture(world.client, "eth0", ethertypes=[IPV4]) as capture:
        agent.probe(requests)
    assert (len(capture.packets), capture.dropped) == (4000, 0)
    with agent.capture(world.client, "eth0", limit=100, ethertypes=[IPV4]) as capture:
        agent.probe(requests)
    assert (len(capture.packets), capture.dropped) == (100, 3900)


def test_an_interface_that_is_not_there_is_one_sentence(agent: AgentClient, world: World) -> None:
    with pytest.raises(PlumblineError, match="there is no interface 'eth7'"):
        agent.capture(world.client, "eth7")
