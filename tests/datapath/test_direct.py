# SPDX-License-Identifier: Apache-2.0
"""Traffic that no Service is dialled by, where it could be taken for some that is: kept apart, or left alone."""

import pytest

from tests.datapath.bench import Bench, Sent
from tests.datapath.network import PODS, UPLINK
from tests.datapath.node import DROP, MARK, NEXT, PASS
from tests.datapath.packets import FAMILIES, NODE_PORT, PORT, PROTOCOLS, ROLES, SPORT, TARGET, packet, same, scapy

BOTH = pytest.mark.parametrize("family", FAMILIES)
ALL = pytest.mark.parametrize("protocol", PROTOCOLS)


def through_the_service(node: Bench, family: str, protocol: str, sport: int = SPORT) -> None:
    """A flow from a pod by a ClusterIP to another pod, which sees the client's own address and port."""
    roles = ROLES[family]
    if not node.ports:
        node.frontend(roles.cluster_ip, PORT, protocol, cluster=[node.endpoint(roles.pod, TARGET)])
    sent = node.send(packet(roles.other_pod, sport, roles.cluster_ip, PORT, protocol), by=PODS)
    same(sent.packet, packet(roles.other_pod, sport, roles.pod, TARGET, protocol))


def direct(family: str, protocol: str, sport: int = SPORT, flags: str = "S") -> bytes:
    """What the same client sends from the same port to that pod itself."""
    return packet(ROLES[family].other_pod, sport, ROLES[family].pod, TARGET, protocol, flags=flags)


@BOTH
@ALL
def test_a_direct_flow_that_would_look_the_same_gets_another_port(node: Bench, family: str, protocol: str) -> None:
    roles = ROLES[family]
    through_the_service(node, family, protocol)

    there = node.send(direct(family, protocol), by=PODS)
    port = scapy().Ether(there.packet).payload.payload.sport
    again = node.send(direct(family, protocol, flags="A"), by=PODS)
    back = node.send(packet(roles.pod, TARGET, roles.other_pod, port, protocol, flags="SA"), by=PODS)
    of_the_service = node.send(packet(roles.pod, TARGET, roles.other_pod, SPORT, protocol, flags="SA"), by=PODS)

    assert 61000 <= port <= 65535
    same(there.packet, direct(family, protocol, port))
    same(again.packet, direct(family, protocol, port, flags="A"))
    same(back.packet, packet(roles.pod, TARGET, roles.other_pod, SPORT, protocol, flags="SA"))
    same(of_the_service.packet, packet(roles.cluster_ip, PORT, roles.other_pod, SPORT, protocol, flags="SA"))
    assert {sent.action for sent in (there, again, back, of_the_service)} == {PASS}


@BOTH
@ALL
def test_a_direct_flow_that_looks_like_no_other_is_left_alone(node: Bench, family: str, protocol: str) -> None:
    through_the_service(node, family, protocol)
    data = direct(family, protocol, SPORT + 1)

    assert node.send(data, by=PODS) == Sent(NEXT, data, MARK)
    assert len(node.flows) == 2


@BOTH
def test_a_direct_flow_after_one_that_is_over_has_its_port_to_itself(node: Bench, family: str) -> None:
    roles = ROLES[family]
    through_the_service(node, family, "TCP")
    node.send(packet(roles.other_pod, SPORT, roles.cluster_ip, PORT, flags="R"), by=PODS)
    data = direct(family, "TCP")

    assert node.send(data, by=PODS) == Sent(NEXT, data, MARK)
    back = packet(roles.pod, TARGET, roles.other_pod, SPORT, flags="SA")
    assert node.send(back, by=PODS).packet == back
    assert node.flows == []


@BOTH
@ALL
def test_no_port_to_keep_it_apart(node: Bench, family: str, protocol: str) -> None:
    node.configure(masquerade_first=50000, masquerade_last=50000)
    for sport in (SPORT, SPORT + 1):
        through_the_service(node, family, protocol, sport)

    assert [node.send(direct(family, protocol, sport), by=PODS).action for sport in (SPORT, SPORT + 1)] == [
        PASS,
        DROP,
    ]
    assert node.counted == {"FLOWS_OPENED": 2, "DROPPED_NO_PORT": 1}


@BOTH
@pytest.mark.parametrize("flags", ["A", "SA", "FA", "R"])
def test_an_answer_to_the_nodes_own_connection_is_no_node_port_flow(node: Bench, family: str, flags: str) -> None:
    """A process of the node may talk to others from a port that is a node port too."""
    roles = ROLES[family]
    version = 4 if family == "IPv4" else 6
    node.frontend(None, NODE_PORT, cluster=[node.endpoint(roles.pod, TARGET)], kind="NODE_PORT", family=version)
    data = packet(roles.outside, 443, roles.node, NODE_PORT, flags=flags)

    sent = node.send(data, by=UPLINK)

    assert (sent.action, sent.packet) == (NEXT, data)
    assert node.flows == []
    assert node.send(packet(roles.outside, 443, roles.node, NODE_PORT, flags="S"), by=UPLINK).action == PASS
