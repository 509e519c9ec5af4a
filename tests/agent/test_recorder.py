# SPDX-License-Identifier: Apache-2.0
"""The recorder: the packets of many namespaces since the last rewind, read only on demand."""

from clusters.agent.client import AgentClient
from tests.agent.conftest import TCP_PORT, UDP_PORT, World, one


def test_what_passed_since_the_last_rewind_is_there(agent: AgentClient, world: World) -> None:
    agent.record([world.client, world.server], except_tcp_port=6443)
    one(agent, world.request("UDP", sport=23710))
    agent.rewind()
    one(agent, world.request("UDP", sport=23711))
    seen = agent.recorded([world.client, world.server])
    for recording in seen.values():
        ports = [int.from_bytes(packet.data[34:36], "big") for packet in recording.packets]
        assert ports == [23711, UDP_PORT]
        assert recording.dropped == 0
    assert all(recording.packets == () for recording in agent.recorded([world.client]).values())


def test_one_tcp_port_is_left_out(agent: AgentClient, world: World) -> None:
    agent.record([world.client], except_tcp_port=TCP_PORT)
    one(agent, world.request("TCP"))
    one(agent, world.request("TCP", world.ip6))
    one(agent, world.request("UDP"))
    ethertypes = [packet.data[12:14].hex() for packet in agent.recorded([world.client])[world.client].packets]
    assert ethertypes.count("0800") == 2
    assert ethertypes.count("86dd") > 4


def test_what_finds_no_room_is_counted(agent: AgentClient, world: World) -> None:
    agent.record([world.server], except_tcp_port=6443)
    for _ in range(5):
        agent.probe([world.request("UDP")] * 2000, timeout=1.0)
    recording = agent.recorded([world.server])[world.server]
    assert recording.dropped > 0
    assert len(recording.packets) > 1000
    agent.rewind()
    one(agent, world.request("UDP"))
    assert agent.recorded([world.server])[world.server].dropped == 0
