# SPDX-License-Identifier: Apache-2.0
"""Two agents and two network namespaces joined by a veth pair: everything the agent's tests need.

    client 10.77.0.1, fd77::1  ──veth──  10.77.0.2 and .3, fd77::2 and ::3  server

The server's namespace serves; `world.rules` puts nftables rules into either for the length of a test.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from clusters.agent.client import AgentClient, BackendSpec, ProbeRequest
from clusters.agent.launch import agent_process
from clusters.observation import Address, Observation, Protocol

TCP_PORT = 8080
UDP_PORT = 5353
SCTP_PORT = 8081
CLOSED_PORT = 9
# TCP repeats a line after 0.2 s and again after 0.4 s more. The ICMP error that answers the first copy arrives while
# send(2) still holds the socket, and the kernel then keeps it to itself.
TWO_RETRANSMISSIONS = 0.7
MACS = {"c": "02:00:00:00:00:01", "s": "02:00:00:00:00:02"}  # by the last letter of the namespace's name


def run(*command: str, stdin: str | None = None) -> None:
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"


@contextmanager
def network_namespace(name: str) -> Iterator[str]:
    """A network namespace of our own; gives the path of its file."""
    run("ip", "netns", "add", name)
    try:
        # Refusals come in bursts here, and the kernel would swallow most of them (icmp(7)).
        run(
            "ip", "netns", "exec", name, "sysctl", "-qw",
            "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0",
            "net.ipv4.icmp_msgs_per_sec=1000000", "net.ipv4.icmp_msgs_burst=1000000",
        )  # fmt: skip
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield f"/run/netns/{name}"
    finally:
        run("ip", "netns", "del", name)


@dataclass(frozen=True)
class World:
    """Where flows start and end."""

    client: str
    server: str
    ip = "10.77.0.2"
    ip6 = "fd77::2"
    other_ip = "10.77.0.3"
    other_ip6 = "fd77::3"
    client_ip = "10.77.0.1"
    client_ip6 = "fd77::1"

    def request(
        self,
        protocol: Protocol,
        ip: str | None = None,
        port: int | None = None,
        *,
        src: str | None = None,
        sport: int | None = None,
        connected: bool = False,
    ) -> ProbeRequest:
        """A flow from the client's namespace, to the served port unless told otherwise."""
        served = {"TCP": TCP_PORT, "UDP": UDP_PORT, "SCTP": SCTP_PORT}[protocol]
        dst = Address(ip or self.ip, port or served)
        return ProbeRequest(
            "pod-1", self.client, "node-a", "direct", protocol, dst, src=src, sport=sport, connected=connected
        )

    @contextmanager
    def rules(self, netns: str, chain: str, *rules: str) -> Iterator[None]:
        """nftables rules in a chain (input or output) of one namespace, both families."""
        name = netns.rsplit("/", 1)[1]
        body = "\n".join(rules)
        table = f"table inet t {{ chain c {{ type filter hook {chain} priority 0\n{body}\n}}\n}}\n"
        run("ip", "netns", "exec", name, "nft", "-f", "-", stdin=table)
        try:
            yield
        finally:
            run("ip", "netns", "exec", name, "nft", "delete", "table", "inet", "t")


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("unfit: needs root")
    client, server = f"plumb-{os.getpid()}-c", f"plumb-{os.getpid()}-s"
    with network_namespace(client) as client_path, network_namespace(server) as server_path:
        run("ip", "-n", client, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", server)
        for name, addresses in (
            (client, ("10.77.0.1/24", "fd77::1/64")),
            (server, ("10.77.0.2/24", "10.77.0.3/24", "fd77::2/64", "fd77::3/64")),
        ):
            # Known neighbours: nothing here waits for ARP or neighbour discovery on a link that has just come up.
            run("ip", "-n", name, "link", "set", "eth0", "address", MACS[name[-1]])
            for address in addresses:
                nodad = ("nodad",) if ":" in address else ()
                run("ip", "-n", name, "address", "add", address, "dev", "eth0", *nodad)
            run("ip", "-n", name, "link", "set", "eth0", "up")
        for name, peers, mac in (
            (client, (World.ip, World.other_ip, World.ip6, World.other_ip6), MACS["s"]),
            (server, (World.client_ip, World.client_ip6), MACS["c"]),
        ):
            for peer in peers:
                run("ip", "-n", name, "neigh", "replace", peer, "lladdr", mac, "dev", "eth0", "nud", "permanent")
        yield World(client_path, server_path)


@pytest.fixture(scope="session")
def server(world: World) -> Iterator[AgentClient]:
    """The serving agent, with the backend `web` on all protocols."""
    with agent_process("the serving agent") as agent:
        agent.serve([BackendSpec("web", world.server, tcp=[TCP_PORT], udp=[UDP_PORT], sctp=[SCTP_PORT])])
        yield agent


@pytest.fixture(scope="session")
def agent(server: AgentClient) -> Iterator[AgentClient]:
    """The probing agent; the backend `web` is there."""
    assert server
    with agent_process("the probing agent") as probing:
        yield probing


def one(agent: AgentClient, request: ProbeRequest, timeout: float = 2.0) -> Observation:
    (observation,) = agent.probe([request], timeout)
    return observation
