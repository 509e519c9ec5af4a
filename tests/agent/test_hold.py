# SPDX-License-Identifier: Apache-2.0
"""Held flows: the same connection, or the same source port, asked again and again."""

import base64
from time import monotonic

import pytest

from clusters.agent.client import AgentClient, BackendSpec
from clusters.errors import PlumblineError
from clusters.observation import Address, FlowOutcome, Icmp
from plugins.packets import error_about, network_of
from tests.agent.conftest import CLOSED_PORT, TCP_PORT, TWO_RETRANSMISSIONS, UDP_PORT, World


def test_a_held_connection_is_one_connection(server: AgentClient, agent: AgentClient, world: World) -> None:
    before = server.counts(["web"])["web", "TCP", TCP_PORT]
    with agent.hold(world.request("TCP")) as held:
        seen = [held.first, *(held.exchange() for _ in range(4))]
        assert held.exchanges == 5
        assert held.wait_end(0.01) is None
    assert {flow.outcome for flow in seen} == {FlowOutcome.REPLY}
    assert len({flow.client_seen for flow in seen}) == 1
    assert [flow.t_connect is not None for flow in seen] == [True, False, False, False, False]
    assert server.counts(["web"])["web", "TCP", TCP_PORT] == before + 1


def test_a_connection_that_never_came_about_says_so_each_time(agent: AgentClient, world: World) -> None:
    with agent.hold(world.request("TCP", port=CLOSED_PORT)) as held:
        assert held.first.outcome is FlowOutcome.REFUSED
        assert held.exchange().outcome is FlowOutcome.REFUSED
    with (
        world.rules(world.server, "input", "tcp dport 8080 drop"),
        agent.hold(world.request("TCP"), timeout=0.05) as held,
    ):
        assert held.first.outcome is FlowOutcome.TIMEOUT
        assert held.exchange(5.0).outcome is FlowOutcome.TIMEOUT


def test_a_reset_in_the_middle_of_an_exchange_is_seen(server: AgentClient, agent: AgentClient, world: World) -> None:
    rule = f"tcp dport {TCP_PORT} reject with tcp reset"
    with agent.hold(world.request("TCP")) as held:
        with world.rules(world.server, "input", rule):
            seen = held.exchange()
        assert (seen.outcome, seen.errno) == (FlowOutcome.RESET, "ECONNRESET")
        assert seen.src == held.first.src
        assert held.exchange().outcome is FlowOutcome.RESET
        ended = held.wait_end(0.01)
    assert ended is not None
    assert (ended.outcome, ended.errno, ended.src) == (FlowOutcome.RESET, "ECONNRESET", held.first.src)
    assert server.counts(["web"])


def test_a_reset_without_an_exchange_is_seen(server: AgentClient, agent: AgentClient, world: World) -> None:
    server.serve([BackendSpec("doomed", world.server, tcp=[7010])])
    with agent.hold(world.request("TCP", port=7010)) as held:
        server.unserve(["doomed"], established="reset")
        ended = held.wait_end(5.0)
    assert ended is not None
    assert (ended.outcome, ended.errno) == (FlowOutcome.RESET, "ECONNRESET")


def test_an_established_connection_outlives_icmp_errors(agent: AgentClient, world: World) -> None:
    """RFC 1122, 4.2.3.9. The lost line is repeated by TCP itself and its late answer is nobody's mistake."""
    rule = f"tcp dport {TCP_PORT} reject with icmpx port-unreachable"
    with agent.hold(world.request("TCP")) as held:
        with world.rules(world.server, "input", rule):
            lost = held.exchange(TWO_RETRANSMISSIONS)
        again = held.exchange(5.0)
        assert held.exchanges == 3
    assert (lost.outcome, lost.errno) == (FlowOutcome.TIMEOUT, "ECONNREFUSED")
    assert (again.outcome, again.errno) == (FlowOutcome.REPLY, None)


def test_a_udp_flow_keeps_its_source_port_through_icmp_and_silence(agent: AgentClient, world: World) -> None:
    with agent.hold(world.request("UDP", sport=23500)) as held:
        with world.rules(world.server, "input", f"udp dport {UDP_PORT} reject with icmpx port-unreachable"):
            refused = held.exchange()
        with world.rules(world.server, "input", f"udp dport {UDP_PORT} drop"):
            silent = held.exchange(0.05)
        again = held.exchange()
    assert held.first.outcome is again.outcome is FlowOutcome.REPLY
    assert again.client_seen == Address(world.client_ip, 23500)
    assert (refused.outcome, refused.icmp) == (FlowOutcome.REFUSED, Icmp(3, 3, world.ip))
    assert (silent.outcome, silent.errno, silent.icmp) == (FlowOutcome.TIMEOUT, None, None)


def test_an_error_about_an_earlier_datagram_does_not_keep_the_next_from_being_sent(
    agent: AgentClient, world: World
) -> None:
    with agent.capture(world.client, "eth0") as capture, agent.hold(world.request("UDP")) as held:
        capture.close()
        sent = next(network_of(one) for one in capture.packets if one.direction == "outgoing")
        error = base64.b64encode(error_about(sent, "port-unreachable", by=world.ip)).decode("ascii")
        # Both requests at once: the agent has no time to read the error before it sends.
        agent._transport.send("inject", {"netns": world.server, "packet": error}, 5.0)
        assert held.exchange().outcome == FlowOutcome.REPLY


def test_a_released_flow_is_gone(agent: AgentClient, world: World) -> None:
    with agent.hold(world.request("TCP")) as held:
        pass
    with pytest.raises(PlumblineError, match="holds no flow"):
        held.exchange()


def test_many_are_held_at_once(agent: AgentClient, world: World) -> None:
    held = [agent.hold(world.request("TCP")) for _ in range(50)]
    try:
        assert len({connection.first.src for connection in held}) == 50
        assert {connection.exchange().outcome for connection in held} == {FlowOutcome.REPLY}
    finally:
        for connection in held:
            connection.close()


def test_flows_held_at_once_are_asked_at_once(agent: AgentClient, world: World) -> None:
    """Silence is waited for once, however many flows it is kept from."""
    silence = 0.3
    with world.rules(world.server, "input", f"udp dport {UDP_PORT} drop"):
        began = monotonic()
        held = agent.hold_each([world.request("UDP") for _ in range(10)], silence)
        for flow in held:
            flow.ask()
        seen = [flow.answer() for flow in held]
        elapsed = monotonic() - began
    again = [flow.exchange() for flow in held]
    for flow in held:
        flow.close()
    assert {flow.first.outcome for flow in held} == {one.outcome for one in seen} == {FlowOutcome.TIMEOUT}
    assert 2 * silence <= elapsed < 4 * silence
    assert {one.outcome for one in again} == {FlowOutcome.REPLY}
    assert [one.src for one in again] == [flow.first.src for flow in held]
    assert len({one.src for one in again}) == 10


def test_where_one_flow_cannot_be_held_none_is(agent: AgentClient, world: World) -> None:
    requests = [world.request("UDP", sport=23501), world.request("UDP", sport=23502), world.request("UDP", ip="x")]
    with pytest.raises(PlumblineError, match="'x' is not an IP address"):
        agent.hold_each(requests)
    for held in agent.hold_each(requests[:2]):  # their ports are free again
        assert held.first.outcome is FlowOutcome.REPLY
        held.close()


def test_only_what_was_asked_is_answered(agent: AgentClient, world: World) -> None:
    with agent.hold(world.request("UDP")) as held, pytest.raises(ValueError, match="was not asked"):
        held.answer()
