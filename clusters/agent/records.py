# SPDX-License-Identifier: Apache-2.0
"""What callers give the agent's client and what they get back, besides Observations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clusters.agent.wire import Result
from clusters.observation import Address, Family, FlowOutcome, Icmp, Observation, Protocol


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """A backend to serve: its name (one word), its namespace's file (None: the agent's own), where it
    listens.

    No `addresses` means the wildcard of both families.
    """

    name: str
    netns: str | None
    tcp: Sequence[int] = ()
    udp: Sequence[int] = ()
    addresses: Sequence[str] = ()
    sctp: Sequence[int] = ()

    def as_request(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "netns": self.netns,
            "addresses": list(self.addresses),
            "tcp": list(self.tcp),
            "udp": list(self.udp),
            "sctp": list(self.sctp),
        }


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """One flow to open: the labels its Observation will carry, and where it goes.

    `netns` is the file of the vantage's network namespace (None: the agent's own). Without `sport` every flow
    has a fresh source port. A UDP flow is `connected` only on request: unconnected, it also hears replies
    from elsewhere.
    """

    vantage: str
    netns: str | None
    node: str | None
    frontend: str
    protocol: Protocol
    dst: Address
    src: str | None = None
    sport: int | None = None
    connected: bool = False

    @property
    def family(self) -> Family:
        return "IPv6" if ":" in self.dst.ip else "IPv4"

    def flow(self, place: str | int | None) -> tuple[Any, ...]:
        """The flow as the agent reads it; `place` stands for the namespace."""
        return place, self.protocol, self.dst.ip, self.dst.port, self.src, self.sport, self.connected

    def observe(self, row: Sequence[Any]) -> Observation:
        """The Observation of this flow from the agent's row (a `wire.Result` as JSON)."""
        result = Result(*row)
        return Observation(
            vantage=self.vantage,
            node=self.node,
            frontend=self.frontend,
            protocol=self.protocol,
            family=self.family,
            src=address(result.src_ip, result.src_port),
            dst=self.dst,
            outcome=FlowOutcome(result.outcome),
            errno=result.errno,
            icmp=Icmp(*result.icmp) if result.icmp is not None else None,
            backend=result.backend,
            served_at=address(result.served_ip, result.served_port),
            client_seen=address(result.client_ip, result.client_port),
            reply_src=address(result.reply_ip, result.reply_port),
            t_connect=result.t_connect,
            t_first_byte=result.t_first_byte,
        )


@dataclass(frozen=True, slots=True)
class PacedRecord:
    """One send of a paced flow. `t_sent` is CLOCK_MONOTONIC seconds (`time.monotonic()` on the same machine),
    `latency` seconds until the answer. `outcome` is None only while the answer may still come."""

    t_sent: float
    outcome: FlowOutcome | None
    errno: str | None
    backend: str | None
    latency: float | None
    icmp: Icmp | None

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "PacedRecord":
        t_sent, outcome, errno, backend, latency, icmp = row
        return cls(
            t_sent,
            FlowOutcome(outcome) if outcome is not None else None,
            errno,
            backend,
            latency,
            Icmp(*icmp) if icmp is not None else None,
        )


@dataclass(frozen=True, slots=True)
class CapturedPacket:
    """One packet as a packet socket saw it, link-layer header first.

    `t` is CLOCK_MONOTONIC seconds, by the kernel's own stamp. `direction` is host, broadcast, multicast,
    otherhost or outgoing (packet(7)). `data` is cut at the capture's snaplen; `wire_length` is the packet's
    true length in bytes.
    """

    t: float
    interface: str
    direction: str
    data: bytes
    wire_length: int


@dataclass(frozen=True, slots=True)
class Recording:
    """The packets of one namespace since the last rewind, oldest first, and how many later ones found no room."""

    packets: tuple[CapturedPacket, ...]
    dropped: int


def address(ip: str | None, port: int | None) -> Address | None:
    return Address(ip, port) if ip is not None and port is not None else None
