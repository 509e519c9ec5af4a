# SPDX-License-Identifier: Apache-2.0
"""Held flows, paced flows and captures of the fake: the agent's handles without an agent behind them."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from clusters.agent.client import Capture, CapturedPacket, HeldConnection, PacedFlow, PacedRecord, ProbeRequest
from clusters.api import Vantage
from clusters.observation import FlowOutcome, Observation

if TYPE_CHECKING:
    from tests.plugin.fake_cluster import FakeCluster

NODE_MAC, CLIENT_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"


class FakeHeld(HeldConnection):
    """An established connection stays where it is; a UDP flow stays while its endpoint serves."""

    def __init__(self, cluster: "FakeCluster", request: ProbeRequest, sport: int) -> None:
        self._cluster = cluster
        self._flow = request
        self._sport = sport
        self._began = cluster.api.store.revision
        self.exchanges = 0
        self.first = self._last = cluster.observe(request, sport)
        self._held_at = self.first.served_at
        if self._held_at:
            cluster.schedulers.active[self._held_at] += 1

    def exchange(
        self,
        timeout: float | None = None,  # noqa: ARG002 - silence takes no time here
        *,
        reply_padding: int = 0,  # noqa: ARG002
        request_size: int = 0,  # noqa: ARG002
    ) -> Observation:
        self.exchanges += 1
        if self._flow.protocol != "TCP" or self.first.outcome is not FlowOutcome.REPLY:
            self._last = self._cluster.observe(self._flow, self._sport, self._last.served_at)
        elif self._cluster.stray or self._is_cut():
            self._cluster.stray = False
            self._last = replace(
                self._last, outcome=FlowOutcome.RESET, errno="ECONNRESET", backend=None, served_at=None
            )
        else:
            for capture in self._cluster.captures:
                capture.notice(self._last)
        return self._last

    def _is_cut(self) -> bool:
        return "cuts-connections" in self._cluster.lies and self._cluster.api.store.revision != self._began

    def ask(self, timeout: float | None = None, *, reply_padding: int = 0, request_size: int = 0) -> None:
        """Nothing takes time here: what is asked is answered when the answer is."""

    def answer(self) -> Observation:
        return self.exchange()

    def wait_end(self, timeout: float) -> Observation | None:  # noqa: ARG002
        return None

    def close(self, how: str = "rst") -> None:  # noqa: ARG002
        """Its endpoint has one flow less."""
        if self._held_at:
            self._cluster.schedulers.active[self._held_at] -= 1
        self._held_at = None


class FakePaced(PacedFlow):
    """Catches up whenever it is asked: one send for each interval since it began, on one fixed flow."""

    def __init__(self, cluster: "FakeCluster", request: ProbeRequest, sport: int, interval: float) -> None:
        self._flow_of = FakeHeld(cluster, request, sport)
        self._interval = interval
        self._is_open = True
        self._next = time.monotonic()
        self.request = request
        self.src = self._flow_of.first.src
        self.sent: list[PacedRecord] = []
        self.ended: FlowOutcome | None = None
        self.lost = 0

    def records(self) -> list[PacedRecord]:
        while self._is_open and (not self.sent or self._next <= time.monotonic()):
            seen = self._flow_of.exchange()
            self.sent.append(
                PacedRecord(self._next, seen.outcome, seen.errno, seen.backend, seen.t_first_byte, seen.icmp)
            )
            self._next += self._interval
        return list(self.sent)

    def close(self) -> None:
        self.records()
        self._is_open = False


class FakeCapture(Capture):
    """Records, for one vantage, the ICMP errors of the flows it opens, and what it answers on TCP."""

    def __init__(self, running: list["FakeCapture"], vantage: Vantage, interface: str) -> None:
        self._running = running
        self._vantage = vantage
        self._interface = interface
        self._packets: list[tuple[str, bytes]] = []
        self.packets: tuple[CapturedPacket, ...] = ()
        self.dropped = 0
        running.append(self)

    def notice(self, seen: Observation) -> None:
        """A flow has ended somewhere."""
        if seen.vantage == self._vantage.name and seen.icmp is not None:
            self._packets.append(("host", _icmp_error(seen)))
        served, own = seen.served_at, self._vantage.addresses.values()
        if seen.protocol == "TCP" and served is not None and served.ip in own:
            self._packets.append(("outgoing", _answer(seen)))

    def close(self) -> None:
        if self in self._running:
            self._running.remove(self)
            self.packets = tuple(
                CapturedPacket(time.monotonic(), self._interface, direction, data, len(data))
                for direction, data in self._packets
            )


def _answer(seen: Observation) -> bytes:
    """The segment in which a backend answers."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    assert seen.served_at is not None
    assert seen.client_seen is not None
    network = IPv6 if seen.family == "IPv6" else IP
    segment = TCP(sport=seen.served_at.port, dport=seen.client_seen.port, seq=1000, ack=2000, flags="PA")
    ends = network(src=seen.served_at.ip, dst=seen.client_seen.ip)
    return bytes(Ether(src=NODE_MAC, dst=CLIENT_MAC) / ends / segment / b"!answer")


def _icmp_error(seen: Observation) -> bytes:
    """The ICMP error on the wire, quoting the packet that it answers (RFC 792, RFC 4443)."""
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
    from scapy.layers.l2 import Ether
    from scapy.layers.sctp import SCTP

    assert seen.src is not None
    assert seen.icmp is not None
    network = IPv6 if seen.family == "IPv6" else IP
    transport = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}[seen.protocol]
    error = (
        ICMPv6DestUnreach(code=seen.icmp.code)
        if seen.family == "IPv6"
        else ICMP(type=seen.icmp.type, code=seen.icmp.code)
    )
    quoted = network(src=seen.src.ip, dst=seen.dst.ip) / transport(sport=seen.src.port, dport=seen.dst.port)
    # Both MACs are given, or scapy would ask this machine's own network for them.
    return bytes(
        Ether(src=NODE_MAC, dst=CLIENT_MAC) / network(src=seen.icmp.sender, dst=seen.src.ip) / error / quoted
    )
