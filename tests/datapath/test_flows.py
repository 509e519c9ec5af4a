# SPDX-License-Identifier: Apache-2.0
"""What is kept of flows: from their first packet to their last, and when there is no room."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.datapath.bench import Bench
from tests.datapath.network import PODS, Network
from tests.datapath.node import DROP, PASS, REDIRECT
from tests.datapath.packets import FAMILIES, PORT, PROTOCOLS, ROLES, SPORT, TARGET, packet, scapy
from tests.datapath.talk import Talk, serve, two

BOTH = pytest.mark.parametrize("family", FAMILIES)
ALL = pytest.mark.parametrize("protocol", PROTOCOLS)
GONE: tuple[str, ...] = ("ON_HOST",)  # an endpoint without SERVING or a set


@BOTH
@ALL
def test_later_packets_follow_the_first(node: Bench, family: str, protocol: str) -> None:
    endpoints = two(node, family)
    serve(node, family, protocol, list(endpoints))
    talk = Talk(node, family, protocol)

    first = talk.says()

    assert {talk.says("A") for _ in range(50)} == {first}
    assert talk.hears(str(first))
    assert node.counted == {"FLOWS_OPENED": 1}


@BOTH
@ALL
def test_a_flow_past_its_time_is_none(node: Bench, family: str, protocol: str) -> None:
    one, other = two(node, family)
    serve(node, family, protocol, [one])
    talk = Talk(node, family, protocol)
    talk.says()
    serve(node, family, protocol, [other])
    node.expire()

    assert talk.says() == talk.roles.remote_pod
    assert len(node.flows) == 2
    assert (node.active(one), node.active(other)) == (0, 1)


@BOTH
@pytest.mark.parametrize("ends", [("FA", "FA"), ("FA", "RA"), ("R",), ("RA",)], ids=str)
def test_a_closed_connections_ports_may_begin_another(node: Bench, family: str, ends: tuple[str, ...]) -> None:
    one, other = two(node, family)
    serve(node, family, "TCP", [one])
    talk = Talk(node, family, "TCP")
    talk.says()
    talk.hears(talk.roles.pod)
    talk.says("A")
    serve(node, family, "TCP", [other])
    assert (talk.says("S"), node.active(one)) == (talk.roles.pod, 1)  # established: not to be taken over by a SYN

    talk.says(ends[0])
    if len(ends) > 1:
        talk.hears(talk.roles.pod, ends[1])
        assert talk.says("A") == talk.roles.pod  # the last acknowledgement still finds its way
    assert node.active(one) == 0

    assert talk.says("S") == talk.roles.remote_pod
    assert (node.active(one), node.active(other)) == (0, 1)


@BOTH
def test_lifetimes_by_what_was_seen(node: Bench, family: str) -> None:
    second = 1_000_000_000
    node.configure(
        tcp_opening_ns=10 * second,
        tcp_established_ns=1000 * second,
        tcp_closing_ns=100 * second,
        tcp_closed_ns=1 * second,
    )
    one, _ = two(node, family)
    serve(node, family, "TCP", [one])
    talk = Talk(node, family, "TCP")

    def lifetimes() -> set[int]:
        return {round((value["expires"] - value["refreshed"]) / second) for _, value in node.flows}

    talk.says("S")
    seen = [lifetimes()]
    talk.hears(talk.roles.pod, "SA")
    seen.append(lifetimes())
    talk.says("FA")
    seen.append(lifetimes())
    talk.hears(talk.roles.pod, "FA")
    seen.append(lifetimes())

    assert seen == [{10}, {1000}, {100}, {1}]


@BOTH
@pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
def test_lifetimes_of_datagrams(node: Bench, family: str, protocol: str) -> None:
    second = 1_000_000_000
    node.configure(udp_ns=10 * second, udp_stream_ns=100 * second)
    one, _ = two(node, family)
    serve(node, family, protocol, [one])
    talk = Talk(node, family, protocol)

    talk.says()
    unanswered = {value["expires"] - value["refreshed"] for _, value in node.flows}
    talk.hears(talk.roles.pod)
    answered = {value["expires"] - value["refreshed"] for _, value in node.flows}
    node.age(2 * second)
    talk.says()

    # A question and its answer are no stream yet; what comes later makes it one.
    assert unanswered == answered == {10 * second}
    assert {value["expires"] - value["refreshed"] for _, value in node.flows} == {100 * second}


@BOTH
@pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
@pytest.mark.parametrize("how", ["not serving", "another generation"])
def test_datagrams_leave_an_endpoint_that_is_gone(node: Bench, family: str, protocol: str, how: str) -> None:
    one, other = two(node, family)
    serve(node, family, protocol, [one])
    talk = Talk(node, family, protocol)
    talk.says()
    talk.hears(talk.roles.pod)
    serve(node, family, protocol, [other])
    assert talk.says() == talk.roles.pod  # it still serves: not ready, say
    if how == "not serving":
        node.endpoint(talk.roles.pod, TARGET, *GONE, number=one)
    else:
        node.endpoint(talk.roles.pod, TARGET, generation=2, number=one)

    assert talk.says() == talk.roles.remote_pod
    assert node.counted == {"FLOWS_OPENED": 2, "STALE_FLOWS": 1}
    serve(node, family, protocol, [])
    node.endpoint(talk.roles.remote_pod, TARGET, *GONE, number=other)
    assert talk.says() == REDIRECT  # refused
    assert node.flows == []
    serve(node, family, protocol, [one])
    node.endpoint(talk.roles.pod, TARGET, generation=3, number=one)
    assert talk.says() == talk.roles.pod


@BOTH
def test_an_established_connection_outlives_its_endpoints_removal(node: Bench, family: str) -> None:
    one, other = two(node, family)
    serve(node, family, "TCP", [one])
    talk = Talk(node, family, "TCP")
    talk.says()
    talk.hears(talk.roles.pod)
    serve(node, family, "TCP", [other])
    node.endpoint(talk.roles.pod, TARGET, *GONE, number=one, generation=2)

    assert talk.says("A") == talk.roles.pod
    assert talk.hears(talk.roles.pod, "A")
    assert node.counted == {"FLOWS_OPENED": 1}


@BOTH
def test_an_attempt_that_was_never_answered_tries_somebody_else(node: Bench, family: str) -> None:
    one, other = two(node, family)
    serve(node, family, "TCP", [one])
    talk = Talk(node, family, "TCP")
    talk.says()
    assert talk.says() == talk.roles.pod  # sent again
    serve(node, family, "TCP", [other])
    node.endpoint(talk.roles.pod, TARGET, *GONE, number=one)

    assert talk.says() == talk.roles.remote_pod
    assert node.counted == {"FLOWS_OPENED": 2, "STALE_FLOWS": 1}


@BOTH
def test_what_is_past_its_time_is_collected(node: Bench, family: str) -> None:
    one, _ = two(node, family)
    serve(node, family, "TCP", [one])
    for number in range(10):
        Talk(node, family, "TCP", SPORT + number).says()
    keys = list(node.loaded.maps["flows"].keys())
    request = len(keys).to_bytes(4, "little") + bytes(12) + b"".join(keys)
    collect = node.loaded.programs["plumbline_collect"]

    assert collect.run(request).retval == 0
    assert (len(node.flows), node.active(one)) == (20, 10)
    node.expire()
    assert collect.run(request).retval == 10  # each with the entry of its other direction
    assert (len(node.flows), node.active(one)) == (0, 0)


@BOTH
@ALL
def test_two_flows_that_would_look_the_same_get_two_ports(node: Bench, family: str, protocol: str) -> None:
    """A client's two flows from one port, to two frontends of one endpoint: the endpoint must tell them apart."""
    roles = ROLES[family]
    endpoint = node.endpoint(roles.pod, TARGET)
    for address in (roles.cluster_ip, roles.external_ip):
        node.frontend(address, PORT, protocol, cluster=[endpoint])
    seen = []
    for address in (roles.cluster_ip, roles.external_ip):
        sent = node.send(packet(roles.other_pod, SPORT, address, PORT, protocol), by=PODS)
        parsed = scapy().Ether(sent.packet)
        seen.append((parsed.payload.src, parsed.payload.payload.sport))

    assert seen[0] == (roles.other_pod, SPORT)
    assert seen[1][0] == roles.other_pod
    assert 61000 <= seen[1][1] <= 65535
    for (address, port), dialled in zip(seen, (roles.cluster_ip, roles.external_ip), strict=True):
        back = scapy().Ether(node.send(packet(roles.pod, TARGET, address, port, protocol), by=PODS).packet)
        assert (back.payload.src, back.payload.dst, back.payload.payload.dport) == (dialled, roles.other_pod, SPORT)


@BOTH
@ALL
def test_two_masqueraded_clients_with_one_source_port(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    serve(node, family, protocol, [node.endpoint(roles.pod, TARGET)])
    clients = (roles.outside, roles.outside[:-1] + "7")
    seen = []
    for client in clients:
        parsed = scapy().Ether(node.send(packet(client, SPORT, roles.cluster_ip, PORT, protocol)).packet)
        seen.append((parsed.payload.src, parsed.payload.payload.sport))

    assert [address for address, _ in seen] == [roles.node] * 2
    assert len(set(seen)) == 2
    for client, (address, port) in zip(clients, seen, strict=True):
        back = scapy().Ether(node.send(packet(roles.pod, TARGET, address, port, protocol), by=PODS).packet)
        assert (back.payload.dst, back.payload.payload.dport) == (client, SPORT)


@BOTH
@ALL
def test_many_masqueraded_clients_have_ports_of_their_own(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    node.configure(masquerade_first=50000, masquerade_last=50099)
    node.frontend(roles.cluster_ip, PORT, protocol, cluster=[node.endpoint(roles.pod, TARGET)])
    for number in range(40):
        assert node.send(packet(roles.outside, SPORT + number, roles.cluster_ip, PORT, protocol)).action == PASS

    ports = [key["destination_port"] for key, value in node.flows if value["flags"] & 1]

    assert len(set(ports)) == len(ports) == 40
    assert all(50000 <= port <= 50099 for port in ports)


@BOTH
@ALL
def test_no_port_left(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    node.configure(masquerade_first=50000, masquerade_last=50001)
    node.frontend(roles.cluster_ip, PORT, protocol, cluster=[node.endpoint(roles.pod, TARGET)])
    node.frontend(roles.external_ip, PORT, protocol, cluster=[node.endpoint(roles.other_pod, TARGET)])

    def dial(address: str, sport: int) -> int:
        return node.send(packet(roles.outside, sport, address, PORT, protocol)).action

    assert [dial(roles.cluster_ip, SPORT + number) for number in range(3)] == [PASS, PASS, DROP]
    assert dial(roles.external_ip, SPORT) == PASS  # ports are per endpoint
    assert node.counted == {"FLOWS_OPENED": 3, "DROPPED_NO_PORT": 1}
    assert len(node.flows) == 6
    node.expire()
    assert dial(roles.cluster_ip, SPORT + 3) == PASS  # one whose flow is past its time


@contextmanager
def small(network: Network, **sizes: int) -> Iterator[Bench]:
    """A node whose tables are soon full."""
    with network.entered(), Bench(sizes=sizes) as node:
        node.reset()
        yield node


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("entries", [4, 5])
def test_a_full_table_of_flows_drops_what_is_new_and_leaves_nothing_half_made(network: Network, entries: int) -> None:
    with small(network, flows=entries) as node:
        one, _ = two(node, "IPv4")
        serve(node, "IPv4", "UDP", [one])

        actions = [Talk(node, "IPv4", "UDP", SPORT + number).says() for number in range(5)]

        pod = ROLES["IPv4"].pod
        assert actions == [pod, pod, DROP, DROP, DROP]
        assert node.counted == {"FLOWS_OPENED": 2, "DROPPED_FLOWS_FULL": 3}
        assert (len(node.flows), node.active(one)) == (4, 2)
        assert Talk(node, "IPv4", "UDP").says() == pod  # what is alive goes on


@pytest.mark.usefixtures("node")
def test_a_full_table_of_affinities_is_counted_and_the_flow_goes_on(network: Network) -> None:
    with small(network, affinities=1) as node:
        serve(node, "IPv4", "UDP", list(two(node, "IPv4")), affinity_seconds=60)
        roles = ROLES["IPv4"]

        actions = [
            node.send(packet(client, SPORT, roles.cluster_ip, PORT, "UDP"), by=PODS).action
            for client in (roles.other_pod, roles.outside)
        ]

        assert actions == [PASS, PASS]
        assert node.counted == {"FLOWS_OPENED": 2, "AFFINITY_FULL": 1}
