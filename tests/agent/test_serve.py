# SPDX-License-Identifier: Apache-2.0
"""Backends: who answers, from where, what is counted, and how they end."""

import dataclasses
import socket

import pytest

from clusters.agent.client import AgentClient, BackendSpec
from clusters.agent.launch import agent_process
from clusters.errors import PlumblineError
from clusters.observation import Address, FlowOutcome, Protocol
from tests.agent.conftest import World, one


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_udp_answers_from_the_address_it_was_asked_at(agent: AgentClient, world: World, six: bool) -> None:
    """The kernel alone would answer from the interface's first address."""
    ip = world.other_ip6 if six else world.other_ip
    seen = one(agent, world.request("UDP", ip, connected=True))
    assert seen.outcome is FlowOutcome.REPLY
    assert seen.served_at == seen.reply_src == seen.dst


def test_counts_say_what_reached_which_port(server: AgentClient, agent: AgentClient, world: World) -> None:
    spec = BackendSpec("counted", world.server, tcp=[7001, 7002], udp=[7001])
    assert server.serve([spec]) == 6
    try:
        agent.probe([world.request("TCP", port=7001)] * 3 + [world.request("UDP", world.ip6, 7001)] * 2)
        assert server.counts(["counted"]) == {
            ("counted", "TCP", 7001): 3,
            ("counted", "TCP", 7002): 0,
            ("counted", "UDP", 7001): 2,
        }
        assert ("web", "TCP", 8080) in server.counts()
    finally:
        server.unserve(["counted"])
    with pytest.raises(PlumblineError, match="no backend is named 'counted'"):
        server.counts(["counted"])


def test_a_backend_with_addresses_listens_nowhere_else(server: AgentClient, agent: AgentClient, world: World) -> None:
    server.serve([BackendSpec("narrow", world.server, tcp=[7003], udp=[7003], addresses=[world.other_ip])])
    try:
        protocols: tuple[Protocol, ...] = ("TCP", "UDP")
        for protocol in protocols:
            assert one(agent, world.request(protocol, world.other_ip, 7003)).backend == "narrow"
            assert one(agent, world.request(protocol, world.ip, 7003)).outcome is FlowOutcome.REFUSED
    finally:
        server.unserve(["narrow"])


@pytest.mark.parametrize(
    ("established", "outcome", "errno"),
    [("keep", "reply", None), ("close", "reset", None), ("reset", "reset", "ECONNRESET")],
)
def test_unserve_refuses_new_flows_and_does_with_old_ones_as_told(
    server: AgentClient, agent: AgentClient, world: World, established: str, outcome: str, errno: str | None
) -> None:
    server.serve([BackendSpec("brief", world.server, tcp=[7004])])
    with agent.hold(world.request("TCP", port=7004)) as held:
        server.unserve(["brief"], established=established)  # type: ignore[arg-type]
        assert one(agent, world.request("TCP", port=7004)).outcome is FlowOutcome.REFUSED
        if established != "keep":
            assert held.wait_end(2.0) is not None
        again = held.exchange()
    assert (again.outcome.value, again.errno) == (outcome, errno)


def test_serve_is_all_or_none(server: AgentClient, agent: AgentClient, world: World) -> None:
    good = BackendSpec("good", world.server, tcp=[7005])
    for bad, sentence in (
        (dataclasses.replace(good, name="web"), "'web' is already served"),
        (dataclasses.replace(good, name="two words"), "one ASCII word"),
        (dataclasses.replace(good, name="bad", tcp=[0]), "0 is not a port"),
        (dataclasses.replace(good, name="bad", netns="/run/netns/nobody"), "no network namespace"),
        (dataclasses.replace(good, name="bad", tcp=[8080]), "cannot listen on TCP 0.0.0.0 port 8080"),
        (dataclasses.replace(good, name="bad", addresses=["10.1.1.1"]), "cannot listen on TCP 10.1.1.1"),
    ):
        with pytest.raises(PlumblineError, match=sentence):
            server.serve([good, bad])
        assert one(agent, world.request("TCP", port=7005)).outcome is FlowOutcome.REFUSED


def test_backends_do_not_answer_answers() -> None:
    """Else two backends whose datagrams crossed would talk for ever. On loopback, without privilege."""
    with agent_process() as agent, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as finder:
            finder.bind(("127.0.0.1", 0))
            port = finder.getsockname()[1]
        agent.serve([BackendSpec("b", None, udp=[port], addresses=["127.0.0.1"])])
        client.settimeout(5)
        client.connect(("127.0.0.1", port))
        client.send(b"!t x 1.2.3.4 1 1.2.3.4 2 0 5\n")
        client.send(b"?only-this 0\n")
        assert client.recv(1000).startswith(b"!only-this b 127.0.0.1 ")
        assert agent.counts() == {("b", "UDP", port): 2}


def test_one_connection_answers_many_lines_and_a_slow_reader_gets_them_all() -> None:
    with agent_process() as agent:
        with socket.create_server(("127.0.0.1", 0)) as finder:
            port = finder.getsockname()[1]
        agent.serve([BackendSpec("b", None, tcp=[port], addresses=["127.0.0.1"])])
        lines = 400
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            # Far more answers than both socket buffers hold, all asked for before the first is read.
            client.sendall(b"".join(b"?t%d 60000\n" % number for number in range(lines)))
            # What waits in the accept queue counts: the connection has reached the backend.
            assert agent.counts() == {("b", "TCP", port): 1}
            with client.makefile("rb") as answers:
                for number in range(lines):
                    line = answers.readline()
                    assert line.split()[0] == b"!t%d" % number
                    assert line.split()[6] == b"%d" % (number + 1)
                    assert len(line) > 60000


def test_addresses_are_the_kernel_s_own_spelling(agent: AgentClient, world: World) -> None:
    seen = one(agent, world.request("TCP", "fd77:0:0::2"))
    assert seen.served_at == Address("fd77::2", 8080)
