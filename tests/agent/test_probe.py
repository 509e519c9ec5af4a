# SPDX-License-Identifier: Apache-2.0
"""Probes: what each thing a network can do to a fresh flow looks like as an Observation."""

import dataclasses
from typing import Any

import pytest

from clusters.agent.client import AgentClient
from clusters.agent.netns import without
from clusters.errors import PlumblineError
from clusters.observation import Address, FlowOutcome, Icmp, Protocol
from tests.agent.conftest import CLOSED_PORT, TCP_PORT, TWO_RETRANSMISSIONS, UDP_PORT, World, one, run

BOTH_PROTOCOLS = pytest.mark.parametrize("protocol", ["TCP", "UDP"])
BOTH_FAMILIES = pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
# Shorter than the 1 s after which TCP repeats its SYN: what is seen within it was seen at the first packet.
BEFORE_THE_SECOND_SYN = 0.8


def port_unreachable(six: bool, sender: str) -> Icmp:
    return Icmp(1, 4, sender) if six else Icmp(3, 3, sender)


@BOTH_PROTOCOLS
@BOTH_FAMILIES
def test_a_reply_names_both_ends_as_each_saw_them(
    agent: AgentClient, world: World, protocol: Protocol, six: bool
) -> None:
    server_ip = world.ip6 if six else world.ip
    client_ip = world.client_ip6 if six else world.client_ip
    seen = one(agent, world.request(protocol, server_ip))

    assert (seen.outcome, seen.backend, seen.errno, seen.icmp) == (FlowOutcome.REPLY, "web", None, None)
    assert seen.served_at == seen.dst == seen.reply_src
    assert seen.src == seen.client_seen
    assert seen.src is not None
    assert seen.src.ip == client_ip
    assert seen.family == ("IPv6" if six else "IPv4")
    assert seen.t_first_byte is not None
    assert 0 < seen.t_first_byte < 1
    if protocol == "TCP":
        assert seen.t_connect is not None
        assert 0 < seen.t_connect <= seen.t_first_byte
    else:
        assert seen.t_connect is None


@BOTH_FAMILIES
def test_a_reset_to_the_syn_is_refused_without_icmp(agent: AgentClient, world: World, six: bool) -> None:
    seen = one(agent, world.request("TCP", world.ip6 if six else world.ip, CLOSED_PORT))
    assert (seen.outcome, seen.errno, seen.icmp) == (FlowOutcome.REFUSED, "ECONNREFUSED", None)
    assert seen.src is not None
    assert seen.src.port > 0


@BOTH_FAMILIES
@pytest.mark.parametrize("connected", [False, True], ids=["unconnected", "connected"])
def test_a_closed_udp_port_is_refused_by_icmp(agent: AgentClient, world: World, six: bool, connected: bool) -> None:
    ip = world.ip6 if six else world.ip
    seen = one(agent, world.request("UDP", ip, CLOSED_PORT, connected=connected))
    assert (seen.outcome, seen.errno) == (FlowOutcome.REFUSED, "ECONNREFUSED")
    assert seen.icmp == port_unreachable(six, ip)
    assert seen.src is not None
    assert seen.src.ip == (world.client_ip6 if six else world.client_ip)


@BOTH_PROTOCOLS
@BOTH_FAMILIES
@pytest.mark.parametrize("where", ["server", "client"])
def test_a_firewall_that_rejects_is_refused_at_once(
    agent: AgentClient, world: World, protocol: Protocol, six: bool, where: str
) -> None:
    """Rejected in the client's own OUTPUT, the ICMP error arrives while the socket is still sending (and UDP's
    sendto says EPERM), which is what a client on a node meets for a Service without endpoints."""
    ip = world.ip6 if six else world.ip
    netns, chain = (world.server, "input") if where == "server" else (world.client, "output")
    port = TCP_PORT if protocol == "TCP" else UDP_PORT
    with world.rules(netns, chain, f"{protocol.lower()} dport {port} reject with icmpx port-unreachable"):
        seen = one(agent, world.request(protocol, ip), BEFORE_THE_SECOND_SYN)

    assert (seen.outcome, seen.errno) == (FlowOutcome.REFUSED, "ECONNREFUSED")
    assert seen.icmp is not None
    assert (seen.icmp.type, seen.icmp.code) == ((1, 4) if six else (3, 3))


@BOTH_PROTOCOLS
@BOTH_FAMILIES
def test_any_other_icmp_error_is_unreachable(agent: AgentClient, world: World, protocol: Protocol, six: bool) -> None:
    ip = world.ip6 if six else world.ip
    with world.rules(world.server, "input", "meta l4proto { tcp, udp } reject with icmpx admin-prohibited"):
        seen = one(agent, world.request(protocol, ip), BEFORE_THE_SECOND_SYN)
    assert seen.outcome is FlowOutcome.UNREACHABLE
    assert seen.icmp == (Icmp(1, 1, ip) if six else Icmp(3, 13, ip))


@BOTH_PROTOCOLS
@BOTH_FAMILIES
def test_no_route_is_unreachable_without_icmp(
    agent: AgentClient, world: World, protocol: Protocol, six: bool
) -> None:
    seen = one(agent, world.request(protocol, "fd99::1" if six else "10.99.0.1"))
    assert (seen.outcome, seen.errno, seen.icmp) == (FlowOutcome.UNREACHABLE, "ENETUNREACH", None)


def test_a_datagram_dropped_on_its_way_out_is_unreachable(agent: AgentClient, world: World) -> None:
    with world.rules(world.client, "output", f"udp dport {UDP_PORT} drop"):
        seen = one(agent, world.request("UDP"))
    assert (seen.outcome, seen.errno, seen.icmp) == (FlowOutcome.UNREACHABLE, "EPERM", None)


@BOTH_PROTOCOLS
def test_silence_is_a_timeout(agent: AgentClient, world: World, protocol: Protocol) -> None:
    with world.rules(world.server, "input", "meta l4proto { tcp, udp } drop"):
        seen = one(agent, world.request(protocol), 0.1)
    assert (seen.outcome, seen.errno, seen.icmp, seen.t_connect) == (FlowOutcome.TIMEOUT, None, None, None)
    assert seen.src is not None
    assert seen.src.ip == world.client_ip


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
@BOTH_FAMILIES
def test_an_agent_never_takes_its_own_slowness_for_silence(
    server: AgentClient, world: World, protocol: Protocol, six: bool
) -> None:
    """One agent is both ends of a thousand flows, which take it far longer than they are waited for."""
    seen = server.probe(
        [world.request(protocol, world.ip6 if six else world.ip)] * 1000, timeout=0.001, concurrency=512
    )

    assert {flow.outcome for flow in seen} == {FlowOutcome.REPLY}
    assert max(flow.t_first_byte or 0 for flow in seen) > 0.005


def test_a_reset_after_the_handshake_is_a_reset(agent: AgentClient, world: World) -> None:
    rule = f"tcp dport {TCP_PORT} tcp flags & psh == psh reject with tcp reset"
    with world.rules(world.server, "input", rule):
        seen = one(agent, world.request("TCP"))
    assert (seen.outcome, seen.errno) == (FlowOutcome.RESET, "ECONNRESET")
    assert seen.t_connect is not None


def test_icmp_after_the_handshake_does_not_end_the_connection(agent: AgentClient, world: World) -> None:
    """RFC 1122, 4.2.3.9: an established connection does not end because of a soft error."""
    rule = f"tcp dport {TCP_PORT} tcp flags & psh == psh reject with icmpx port-unreachable"
    with world.rules(world.server, "input", rule):
        seen = one(agent, world.request("TCP"), TWO_RETRANSMISSIONS)
    assert (seen.outcome, seen.errno) == (FlowOutcome.TIMEOUT, "ECONNREFUSED")
    assert seen.t_connect is not None


@BOTH_PROTOCOLS
def test_a_fixed_source_port_can_be_used_again_at_once(agent: AgentClient, world: World, protocol: Protocol) -> None:
    request = world.request(protocol, sport=23456)
    for seen in agent.probe([request] * 50, concurrency=1):
        assert seen.outcome is FlowOutcome.REPLY
        assert seen.client_seen == Address(world.client_ip, 23456)


def test_a_fixed_source_port_in_use_is_named(agent: AgentClient, world: World) -> None:
    with agent.hold(world.request("UDP", sport=23457)) as held:
        assert held.first.outcome is FlowOutcome.REPLY
        seen = one(agent, world.request("UDP", sport=23457))
    assert (seen.outcome, seen.errno) == (FlowOutcome.UNREACHABLE, "EADDRINUSE")


@BOTH_PROTOCOLS
def test_a_flow_leaves_from_the_address_asked_for(agent: AgentClient, world: World, protocol: Protocol) -> None:
    request = dataclasses.replace(world.request(protocol, src=world.other_ip), netns=world.server)
    seen = one(agent, request)
    assert seen.outcome is FlowOutcome.REPLY
    assert seen.client_seen == seen.src
    assert seen.src is not None
    assert seen.src.ip == world.other_ip


@BOTH_PROTOCOLS
def test_every_flow_has_a_source_port_of_its_own(agent: AgentClient, world: World, protocol: Protocol) -> None:
    seen = agent.probe([world.request(protocol)] * 3000)
    assert {flow.outcome for flow in seen} == {FlowOutcome.REPLY}
    # The kernel's own walk, which TCP relies on, begins somewhere else every ten seconds
    # (EPHEMERAL_PORT_SHUFFLE_PERIOD in net/core/secure_seq.c), and may then meet ports it has been at.
    assert len({flow.src for flow in seen}) >= {"UDP": 3000, "TCP": 1500}[protocol]


@pytest.mark.parametrize(
    ("reserved", "left"),
    [
        ("", (range(10, 20),)),
        ("12", (range(10, 12), range(13, 20))),
        ("1-5,8-11,15-16,30-40", (range(12, 15), range(17, 20))),
        ("18-99", (range(10, 18),)),
        ("1-99", (range(10, 20),)),
    ],
)
def test_ports_that_are_set_aside_are_left_out(reserved: str, left: tuple[range, ...]) -> None:
    assert without(range(10, 20), reserved) == left


@BOTH_PROTOCOLS
def test_no_flow_leaves_from_a_port_that_is_set_aside(agent: AgentClient, world: World, protocol: Protocol) -> None:
    name = world.client.rpartition("/")[2]
    try:
        run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ip_local_reserved_ports=1024-60000")
        seen = agent.probe([world.request(protocol)] * 50)
    finally:
        run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ip_local_reserved_ports=")
    assert all(flow.src is not None and flow.src.port > 60000 for flow in seen)


def test_a_udp_reply_from_elsewhere_is_a_reply_that_says_so(agent: AgentClient, world: World) -> None:
    rule = f"udp sport {UDP_PORT} ip saddr set {world.other_ip}"
    with world.rules(world.server, "output", rule):
        unconnected = one(agent, world.request("UDP"))
        connected = one(agent, world.request("UDP", connected=True), 0.1)
    assert unconnected.outcome is FlowOutcome.REPLY
    assert unconnected.reply_src == Address(world.other_ip, UDP_PORT)
    assert connected.outcome is not FlowOutcome.REPLY


def test_padding_travels_both_ways(agent: AgentClient, world: World) -> None:
    for protocol, size in (("TCP", 60_000), ("UDP", 60_000), ("UDP", 1)):
        request = world.request("TCP" if protocol == "TCP" else "UDP")
        (seen,) = agent.probe([request], reply_padding=size, request_size=size)
        assert seen.outcome is FlowOutcome.REPLY


def test_an_orderly_close_leaves_the_server_a_fin(agent: AgentClient, world: World) -> None:
    with agent.capture(world.server, "eth0") as capture:
        (seen,) = agent.probe([world.request("TCP")], close="fin")
        (reset,) = agent.probe([world.request("TCP")], close="rst")
    assert seen.outcome is reset.outcome is FlowOutcome.REPLY
    # The TCP flags of what the client sent: byte 13 of a header that follows 14 bytes of Ethernet and 20 of IPv4.
    flags = [packet.data[47] for packet in capture.packets if packet.direction == "host" and packet.data[23] == 6]
    assert sum(bool(flag & 0x01) for flag in flags) == 1
    assert sum(bool(flag & 0x04) for flag in flags) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"netns": "/run/netns/nobody"}, "no network namespace '/run/netns/nobody'"),
        ({"netns": "/proc/self/status"}, "'/proc/self/status' is not a network namespace"),
        ({"dst": Address("10.0.0.256", 80)}, "'10.0.0.256' is not an IP address"),
        ({"dst": Address("example.org", 80)}, "'example.org' is not an IP address"),
        ({"dst": Address("10.77.0.2", 0)}, "0 is not a port"),
        ({"dst": Address("fe80::1", 80)}, "link-local"),
        ({"protocol": "ICMP"}, "not 'ICMP'"),
        ({"src": "10.200.0.1"}, "no flow can leave 10.200.0.1"),
        ({"src": "fd77::1"}, "different families"),
        ({"sport": 65536}, "65536 is not a port"),
    ],
)
def test_an_impossible_flow_is_one_sentence(
    agent: AgentClient, world: World, change: dict[str, Any], sentence: str
) -> None:
    good = world.request("TCP")
    bad = dataclasses.replace(good, **change)
    with pytest.raises(PlumblineError, match=sentence) as caught:
        agent.probe([good, bad])
    assert "\n" not in str(caught.value)
    assert one(agent, good).outcome is FlowOutcome.REPLY


def test_a_large_batch_comes_back_complete_and_in_order(agent: AgentClient, world: World) -> None:
    """More flows than one request carries, of kinds that end at different times."""
    kinds = (
        world.request("UDP"),
        world.request("UDP", world.ip6, CLOSED_PORT),
        world.request("TCP", port=CLOSED_PORT),
        world.request("TCP", world.ip6),
    )
    seen = agent.probe([kinds[number % 4] for number in range(12_000)])
    expected = (FlowOutcome.REPLY, FlowOutcome.REFUSED, FlowOutcome.REFUSED, FlowOutcome.REPLY)
    assert [flow.outcome for flow in seen] == [expected[number % 4] for number in range(12_000)]
    assert [flow.dst for flow in seen] == [kinds[number % 4].dst for number in range(12_000)]


def test_no_flows_are_no_observations(agent: AgentClient) -> None:
    assert agent.probe([]) == []
