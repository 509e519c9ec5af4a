# SPDX-License-Identifier: Apache-2.0
"""Paced flows: every send has its own fate."""

import itertools
from collections.abc import Callable

import pytest

from clusters.agent.client import AgentClient, BackendSpec, PacedFlow, PacedRecord
from clusters.errors import PlumblineError
from clusters.observation import Address, FlowOutcome, Icmp, Protocol
from tests.agent.conftest import TCP_PORT, UDP_PORT, World

INTERVAL = 0.005


def wait_for(flow: PacedFlow, enough: Callable[[list[PacedRecord]], bool]) -> list[PacedRecord]:
    """Ask until the records are enough; each question waits for the agent, and the flow itself goes on."""
    while True:
        records = flow.records()
        assert len(records) < 5000, "the flow never got there"
        if enough(records):
            return records


def answered(count: int) -> Callable[[list[PacedRecord]], bool]:
    return lambda records: sum(record.outcome is FlowOutcome.REPLY for record in records) >= count


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_a_paced_flow_is_one_flow_at_its_pace(agent: AgentClient, world: World, protocol: Protocol) -> None:
    with agent.paced(world.request(protocol), INTERVAL) as flow:
        wait_for(flow, answered(20))
    records = flow.records()
    assert len(records) >= 20
    assert {record.outcome for record in records} == {FlowOutcome.REPLY}
    assert {record.backend for record in records} == {"web"}
    assert all(0 < (record.latency or 0) < 1 for record in records)
    gaps = [later.t_sent - earlier.t_sent for earlier, later in itertools.pairwise(records)]
    # Never a burst to catch up; the average is kept up to slots skipped on a busy machine.
    assert sum(gaps) / len(gaps) >= INTERVAL * 0.9
    assert flow.src is not None
    assert (flow.src.ip, flow.lost, flow.ended) == (world.client_ip, 0, None)


def test_udp_records_tell_what_happened_when(agent: AgentClient, world: World) -> None:
    with agent.paced(world.request("UDP", sport=23600), INTERVAL, timeout=0.05) as flow:
        assert flow.src == Address(world.client_ip, 23600)
        wait_for(flow, answered(3))
        with world.rules(world.server, "input", f"udp dport {UDP_PORT} reject with icmpx port-unreachable"):
            wait_for(flow, lambda records: records[-1].outcome is FlowOutcome.REFUSED)
        with world.rules(world.server, "input", f"udp dport {UDP_PORT} drop"):
            wait_for(flow, lambda records: any(record.outcome is FlowOutcome.TIMEOUT for record in records))
        before = len(flow.records())
        wait_for(flow, lambda records: answered(3)(records[before:]))
    seen = [record.outcome for record in flow.records()]
    assert seen[0] is seen[-1] is FlowOutcome.REPLY
    # Between the two rules, too, there may have been replies.
    trouble = [outcome for outcome in seen if outcome is not FlowOutcome.REPLY]
    assert [outcome for outcome, _ in itertools.groupby(trouble)] == [FlowOutcome.REFUSED, FlowOutcome.TIMEOUT]
    refused = [record for record in flow.records() if record.outcome is FlowOutcome.REFUSED]
    assert {record.icmp for record in refused} == {Icmp(3, 3, world.ip)}


def test_udp_refused_by_the_own_firewall(agent: AgentClient, world: World) -> None:
    """With an ICMP error it is refused, without one it is what sendto said."""
    for rule, outcome, errno in (
        ("reject with icmpx port-unreachable", FlowOutcome.REFUSED, "ECONNREFUSED"),
        ("drop", FlowOutcome.UNREACHABLE, "EPERM"),
    ):
        with (
            world.rules(world.client, "output", f"udp dport {UDP_PORT} {rule}"),
            agent.paced(world.request("UDP"), INTERVAL, timeout=0.05) as flow,
        ):
            wait_for(flow, lambda records: len(records) > 3)
        assert {(record.outcome, record.errno) for record in flow.records()} == {(outcome, errno)}


def test_a_tcp_flow_ends_with_its_connection(server: AgentClient, agent: AgentClient, world: World) -> None:
    server.serve([BackendSpec("mortal", world.server, tcp=[7020])])
    with agent.paced(world.request("TCP", port=7020), INTERVAL) as flow:
        wait_for(flow, answered(3))
        server.unserve(["mortal"], established="reset")
        while flow.ended is None:
            flow.records()
    assert flow.ended is FlowOutcome.RESET
    outcomes = {record.outcome for record in flow.records()}
    assert outcomes <= {FlowOutcome.REPLY, FlowOutcome.RESET}


def test_a_tcp_flow_that_is_refused_has_one_record(agent: AgentClient, world: World) -> None:
    with agent.paced(world.request("TCP", port=TCP_PORT + 1), INTERVAL) as flow:
        while flow.ended is None:
            flow.records()
    assert [record.outcome for record in flow.records()] == [FlowOutcome.REFUSED]


def test_memory_is_bounded_and_the_loss_is_counted(agent: AgentClient, world: World) -> None:
    with agent.paced(world.request("UDP"), 0.001, limit=10) as flow:
        # Another request's own time passes before anybody asks for records.
        silent = world.request("UDP", "10.77.0.2", 7999)
        with world.rules(world.server, "input", "udp dport 7999 drop"):
            agent.probe([silent], 0.1)
    assert len(flow.records()) == 10
    assert flow.lost >= 40
    assert all(record.outcome is FlowOutcome.REPLY for record in flow.records())


def test_an_interval_of_nothing_is_one_sentence(agent: AgentClient, world: World) -> None:
    with pytest.raises(PlumblineError, match="interval must be a positive number of seconds, not 0"):
        agent.paced(world.request("UDP"), 0)
