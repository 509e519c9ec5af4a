# SPDX-License-Identifier: Apache-2.0
"""A pod that talks with a Service, packet by packet."""

from collections.abc import Sequence

from tests.datapath.bench import Bench
from tests.datapath.network import PODS
from tests.datapath.node import PASS
from tests.datapath.packets import PORT, ROLES, SPORT, TARGET, packet, scapy


class Talk:
    """A pod's flow with a Service of its family, packet by packet."""

    def __init__(self, node: Bench, family: str, protocol: str, sport: int = SPORT) -> None:
        self.node, self.roles, self.protocol, self.sport = node, ROLES[family], protocol, sport

    def says(self, flags: str = "S") -> str | int:
        """A packet of the client: where it is sent now, or the action if it is not."""
        data = packet(self.roles.other_pod, self.sport, self.roles.cluster_ip, PORT, self.protocol, flags=flags)
        sent = self.node.send(data, by=PODS)
        return str(scapy().Ether(sent.packet).payload.dst) if sent.action == PASS else sent.action

    def hears(self, endpoint: str, flags: str = "SA") -> bool:
        """A packet of an endpoint: whether it is translated for the client."""
        data = packet(endpoint, TARGET, self.roles.other_pod, self.sport, self.protocol, flags=flags)
        sent = self.node.send(data, by=PODS)
        return str(scapy().Ether(sent.packet).payload.src) == self.roles.cluster_ip


def serve(node: Bench, family: str, protocol: str, endpoints: Sequence[int], affinity_seconds: int = 0) -> None:
    """The Service, with these endpoints from now on."""
    node.ports = 0
    flags = ["CLIENT_AFFINITY"] if affinity_seconds else []
    address = ROLES[family].cluster_ip
    node.frontend(address, PORT, protocol, cluster=endpoints, flags=flags, affinity_seconds=affinity_seconds)


def two(node: Bench, family: str) -> tuple[int, int]:
    roles = ROLES[family]
    return node.endpoint(roles.pod, TARGET), node.endpoint(roles.remote_pod, TARGET)
