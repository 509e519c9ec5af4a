# SPDX-License-Identifier: Apache-2.0
"""SCTP from raw sockets: associations between two agents, and how they fail."""

import pytest

from clusters.agent import sctp
from clusters.agent.client import AgentClient, BackendSpec, ProbeRequest
from clusters.agent.crc32c import crc32c
from clusters.errors import PlumblineError
from clusters.observation import Address, FlowOutcome, Icmp
from tests.agent.conftest import CLOSED_PORT, SCTP_PORT, World, one

FAMILIES = pytest.mark.parametrize("ip", [World.ip, World.ip6], ids=["IPv4", "IPv6"])
TO_WEB = f"sctp dport {SCTP_PORT}"


@FAMILIES
def test_an_association_is_made_and_answered(server: AgentClient, agent: AgentClient, world: World, ip: str) -> None:
    before = server.counts(["web"])["web", "SCTP", SCTP_PORT]
    seen = one(agent, world.request("SCTP", ip))
    assert (seen.outcome, seen.errno, seen.backend) == (FlowOutcome.REPLY, None, "web")
    assert seen.reply_src == seen.served_at == Address(ip, SCTP_PORT)
    assert seen.client_seen == seen.src
    assert seen.t_connect is not None
    assert server.counts(["web"])["web", "SCTP", SCTP_PORT] == before + 1


def test_a_flow_leaves_from_where_it_is_told(agent: AgentClient, world: World) -> None:
    seen = one(agent, world.request("SCTP", src=world.client_ip, sport=23600))
    assert seen.client_seen == Address(world.client_ip, 23600)


def test_an_answer_leaves_from_the_address_that_was_dialled(agent: AgentClient, world: World) -> None:
    for ip in (world.other_ip, world.other_ip6):
        assert one(agent, world.request("SCTP", ip)).reply_src == Address(ip, SCTP_PORT)


def test_an_address_may_be_written_in_any_way(agent: AgentClient, world: World) -> None:
    assert one(agent, world.request("SCTP", "FD77:0:0::0002")).outcome is FlowOutcome.REPLY


def test_many_share_a_socket_and_no_port(agent: AgentClient, world: World) -> None:
    seen = agent.probe([world.request("SCTP", ip) for ip in (world.ip, world.ip6) for _ in range(500)])
    assert {flow.outcome for flow in seen} == {FlowOutcome.REPLY}
    assert len({flow.src for flow in seen}) == 1000


@FAMILIES
def test_a_port_that_nobody_serves_refuses_with_abort(agent: AgentClient, world: World, ip: str) -> None:
    seen = one(agent, world.request("SCTP", ip, CLOSED_PORT))
    assert (seen.outcome, seen.errno, seen.icmp) == (FlowOutcome.REFUSED, "ECONNREFUSED", None)


@pytest.mark.parametrize(
    ("ip", "how", "outcome", "errno", "icmp"),
    [
        (World.ip, "port-unreachable", "refused", "ECONNREFUSED", Icmp(3, 3, World.ip)),
        (World.ip6, "port-unreachable", "refused", "ECONNREFUSED", Icmp(1, 4, World.ip6)),
        (World.ip, "no-route", "unreachable", "ENETUNREACH", Icmp(3, 0, World.ip)),
        (World.ip6, "no-route", "unreachable", "ENETUNREACH", Icmp(1, 0, World.ip6)),
    ],
)
def test_icmp_errors_are_told(
    agent: AgentClient, world: World, ip: str, how: str, outcome: str, errno: str, icmp: Icmp
) -> None:
    with world.rules(world.server, "input", f"{TO_WEB} reject with icmpx {how}"):
        seen = agent.probe([world.request("SCTP", ip)] * 20)
    assert {(str(flow.outcome), flow.errno, flow.icmp) for flow in seen} == {(outcome, errno, icmp)}


def test_a_firewall_of_ones_own_is_told_with_its_icmp_error(agent: AgentClient, world: World) -> None:
    with world.rules(world.client, "output", f"{TO_WEB} reject with icmpx port-unreachable"):
        rejected = agent.probe([world.request("SCTP", ip) for ip in (world.ip, world.ip6)] * 5)
    with world.rules(world.client, "output", f"{TO_WEB} drop"):
        dropped = one(agent, world.request("SCTP"))
    assert {(flow.outcome, flow.errno) for flow in rejected} == {(FlowOutcome.REFUSED, "ECONNREFUSED")}
    assert {flow.icmp and (flow.icmp.type, flow.icmp.code) for flow in rejected} == {(3, 3), (1, 4)}
    assert (dropped.outcome, dropped.errno, dropped.icmp) == (FlowOutcome.UNREACHABLE, "EPERM", None)


def test_silence_is_a_timeout(agent: AgentClient, world: World) -> None:
    with world.rules(world.server, "input", f"{TO_WEB} drop"):
        seen = one(agent, world.request("SCTP"), 0.1)
    assert (seen.outcome, seen.errno) == (FlowOutcome.TIMEOUT, None)
    with world.rules(world.client, "input", f"sctp sport {SCTP_PORT} drop"):
        assert one(agent, world.request("SCTP"), 0.1).outcome is FlowOutcome.TIMEOUT


def test_a_lost_packet_is_sent_again_after_a_second_and_its_loss_shows(agent: AgentClient, world: World) -> None:
    with world.rules(world.server, "input", f"{TO_WEB} quota until 60 bytes drop"):  # the first INIT
        seen = one(agent, world.request("SCTP"), 5.0)
    assert seen.outcome is FlowOutcome.REPLY
    assert seen.t_connect is not None
    assert seen.t_connect > 1.0


def test_an_address_without_any_sctp_is_unreachable(agent: AgentClient, world: World) -> None:
    """The kernel answers for itself: protocol unreachable, or in IPv6 a next header that it does not know."""
    ends = [Address(world.client_ip, CLOSED_PORT), Address(world.client_ip6, CLOSED_PORT)]
    seen = agent.probe([ProbeRequest("back", world.server, None, "direct", "SCTP", end) for end in ends])
    assert [(str(flow.outcome), flow.icmp and (flow.icmp.type, flow.icmp.code)) for flow in seen] == [
        ("unreachable", (3, 2)),
        ("unreachable", (4, 1)),
    ]


def test_a_held_association_is_one(server: AgentClient, agent: AgentClient, world: World) -> None:
    before = server.counts(["web"])["web", "SCTP", SCTP_PORT]
    with agent.hold(world.request("SCTP", sport=23601)) as held:
        seen = [held.first, *(held.exchange(reply_padding=size, request_size=size) for size in (1, 255, 900))]
        assert held.exchanges == 4
        assert held.wait_end(0.01) is None
    assert {(flow.outcome, flow.src, flow.client_seen) for flow in seen} == {
        (FlowOutcome.REPLY, seen[0].src, Address(world.client_ip, 23601))
    }
    assert server.counts(["web"])["web", "SCTP", SCTP_PORT] == before + 1


def test_an_association_outlives_icmp_errors_and_silence(agent: AgentClient, world: World) -> None:
    with agent.hold(world.request("SCTP")) as held:
        with world.rules(world.server, "input", f"{TO_WEB} reject with icmpx port-unreachable"):
            lost = held.exchange(0.05)
        again = held.exchange(5.0)
        assert held.exchanges == 3
    assert (lost.outcome, lost.errno) == (FlowOutcome.TIMEOUT, "ECONNREFUSED")
    assert (again.outcome, again.errno) == (FlowOutcome.REPLY, None)


@pytest.mark.parametrize(("established", "errno"), [("reset", "ECONNRESET"), ("close", None)])
def test_the_end_of_an_association_is_seen(
    server: AgentClient, agent: AgentClient, world: World, established: str, errno: str | None
) -> None:
    server.serve([BackendSpec("mortal", world.server, sctp=[7030])])
    with agent.hold(world.request("SCTP", port=7030)) as held:
        server.unserve(["mortal"], established="reset" if established == "reset" else "close")
        ended = held.wait_end(5.0)
        assert held.exchange().outcome is FlowOutcome.RESET
    assert ended is not None
    assert (ended.outcome, ended.errno, ended.src) == (FlowOutcome.RESET, errno, held.first.src)
    assert one(agent, world.request("SCTP", port=7030)).outcome is FlowOutcome.REFUSED


def test_an_association_may_outlive_its_backend(server: AgentClient, agent: AgentClient, world: World) -> None:
    server.serve([BackendSpec("drained", world.server, sctp=[7031])])
    with agent.hold(world.request("SCTP", port=7031)) as held:
        server.unserve(["drained"], established="keep")
        assert held.exchange().outcome is FlowOutcome.REPLY
        assert one(agent, world.request("SCTP", port=7031)).outcome is FlowOutcome.REFUSED


def test_who_forgot_an_association_says_so(server: AgentClient, agent: AgentClient, world: World) -> None:
    """As a host that has started anew: what belongs to no association is answered with ABORT (RFC 9260, 8.4)."""
    server.serve([BackendSpec("forgetful", world.server, sctp=[7032])])
    with agent.hold(world.request("SCTP", port=7032)) as held:
        with world.rules(world.client, "input", "sctp sport 7032 drop"):
            server.unserve(["forgetful"], established="reset")
        server.serve([BackendSpec("forgetful", world.server, sctp=[7032])])
        seen = held.exchange()
    assert (seen.outcome, seen.errno) == (FlowOutcome.RESET, "ECONNRESET")
    server.unserve(["forgetful"])


def test_a_peer_may_start_anew_from_its_port(server: AgentClient, agent: AgentClient, world: World) -> None:
    server.serve([BackendSpec("patient", world.server, sctp=[7034])])
    request = world.request("SCTP", port=7034, sport=23604)
    with agent.hold(request) as held:
        assert one(server, request).outcome is FlowOutcome.REPLY  # another process on the same host
        assert server.counts(["patient"])["patient", "SCTP", 7034] == 2
        assert held.exchange().outcome is FlowOutcome.RESET  # the association that it knows is no more
        assert one(server, request).outcome is FlowOutcome.REPLY
    server.unserve(["patient"])
    assert one(agent, world.request("SCTP", port=7034)).outcome is FlowOutcome.REFUSED


def test_a_flow_may_end_in_good_order(agent: AgentClient, world: World) -> None:
    with agent.capture(world.client) as capture:
        (seen,) = agent.probe([world.request("SCTP")], close="fin")
        held = agent.hold(world.request("SCTP", sport=23602))
        held.close("fin")
        assert one(agent, world.request("SCTP")).outcome is FlowOutcome.REPLY
    assert seen.outcome is FlowOutcome.REPLY
    packets = [sctp.decode(packet.data[34:]) for packet in capture.packets]
    kinds = [packet.chunks[0].kind for packet in packets if packet and 23602 in packet[:2]]
    assert kinds == [
        sctp.INIT, sctp.INIT_ACK, sctp.COOKIE_ECHO, sctp.COOKIE_ACK,
        sctp.SHUTDOWN, sctp.SHUTDOWN_ACK, sctp.SHUTDOWN_COMPLETE,
    ]  # fmt: skip


def test_a_port_of_ones_own_is_not_given_twice(agent: AgentClient, world: World) -> None:
    with agent.hold(world.request("SCTP", sport=23603)) as held:
        again = one(agent, world.request("SCTP", sport=23603))
        assert held.exchange().outcome is FlowOutcome.REPLY
    assert (again.outcome, again.errno) == (FlowOutcome.UNREACHABLE, "EADDRINUSE")


def test_what_sctp_cannot_do_here_is_said(server: AgentClient, agent: AgentClient, world: World) -> None:
    with pytest.raises(PlumblineError, match="a request over SCTP has at most 1152 bytes"):
        agent.probe([world.request("SCTP")], request_size=2000)
    with pytest.raises(PlumblineError, match="the agent paces TCP and UDP flows, not SCTP ones"):
        agent.paced(world.request("SCTP"), 0.1)
    with pytest.raises(PlumblineError, match=r"cannot listen on SCTP 0\.0\.0\.0 port 8081 .* EADDRINUSE"):
        server.serve([BackendSpec("second", world.server, sctp=[SCTP_PORT])])


def test_the_checksum_is_castagnolis() -> None:
    """RFC 3720, B.4."""
    vectors = {bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, bytes(range(32)): 0x46DD794E}
    assert {data: crc32c(data) for data in vectors} == vectors
