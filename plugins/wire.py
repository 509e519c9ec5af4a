# SPDX-License-Identifier: Apache-2.0
"""What single packets look like at both ends of a flow, and on the way: captures by role, and what must be in them.

    with world.watching(client=vantage, endpoint=backend, vip=frontend) as wire:
        ...
    wire.at("endpoint").must_have(ip(src=…, dst=…) / udp(dport=8080))

Roles are the test's own words; a failure says at which role's place which field of which packet is what, and whose
the addresses are. What is expected is written as layers (`plugins/packets.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from clusters.agent.client import Capture, CapturedPacket, HeldConnection, Recording
from clusters.api import Backend, Link, Node, Vantage
from clusters.observation import Address, Family, Observation, Protocol
from plugins.flows import Prober, ViolationError
from plugins.packets import Layers, differences, ip, length_of, link_source, network_of, summary_of, tcp, udp
from plugins.record import Record
from plugins.services import Frontend

Place = Prober | Backend | Node | Vantage
Roles = Mapping[str, Place | Frontend]
# A frame that this host was not the addressee of is no packet that arrived.
ARRIVED = frozenset({"host"})
LEFT = frozenset({"outgoing"})
# What a host sends to itself neither leaves it nor arrives.
LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class Seen:
    """The packets that arrived at a place, or left it, and the questions a test asks of them."""

    where: str
    packets: tuple[tuple[CapturedPacket, Layers], ...]
    names: Mapping[str, str]
    record: Record

    def matching(self, expected: Layers) -> list[Layers]:
        """Those that are as expected, oldest first."""
        return [packet for _, packet in self.packets if not differences(expected, packet)]

    def carrying(self, payload: bytes) -> list[Layers]:
        """Those that end with these bytes, oldest first."""
        return [packet for captured, packet in self.packets if captured.data.endswith(payload)]

    def every(self, about: Layers) -> "Seen":
        """Only the packets that are so."""
        kept = tuple(pair for pair in self.packets if not differences(about, pair[1]))
        return replace(self, packets=kept)

    def must_have(self, expected: Layers, *, times: int = 1) -> Layers:
        """So many packets at least must be so: returns the last that is."""
        __tracebackhide__ = True
        self._looked(summary_of(expected))
        found = self.matching(expected)
        if not found:
            raise ViolationError(f"{self.where}: {self._nearest(expected)}")
        if len(found) < times:
            told = f"{len(found)} packets are {summary_of(expected)}, expected {times}"
            raise ViolationError(f"{self.where}: {told}")
        return found[-1]

    def must_not_have(self, forbidden: Layers) -> None:
        """No packet may be so."""
        __tracebackhide__ = True
        self._looked(f"nothing like {summary_of(forbidden)}")
        found = self.matching(forbidden)
        if found:
            ends = {"from": str(found[0].src), "to": str(found[0].dst)}
            whose = [f"{way} {self.names[end]}" for way, end in ends.items() if end in self.names]
            raise ViolationError(
                f"{self.where}: {len(found)} packets that must not be there, the first of them "
                f"{summary_of(found[0])} ({' '.join(whose) or 'of nobody known'})"
            )

    def must_be(self, expected: Layers) -> None:
        """Every packet must be so, and there must be one."""
        __tracebackhide__ = True
        self.must_have(expected)
        for _, packet in self.packets:
            if differences(expected, packet):
                raise ViolationError(f"{self.where}: {self._in_words(expected, packet)}")

    def must_not_exceed(self, mtu: int) -> None:
        """No packet may be longer than so many bytes from its IP header on, and there must be one."""
        __tracebackhide__ = True
        self._looked(f"packets of at most {mtu} bytes")
        lengths = [length_of(captured) for captured, _ in self.packets]
        if not lengths or max(lengths) > mtu:
            longest = f"a packet of {max(lengths)} bytes" if lengths else "no packet at all"
            raise ViolationError(f"{self.where}: {longest}, expected at most {mtu}")

    def link_to(self, expected: Layers) -> Link:
        """The way back to who brought the last such packet here: the interface, and the MAC at its other end.

        Raises LookupError where there is none.
        """
        for captured, packet in reversed(self.packets):
            if not differences(expected, packet):
                return Link(captured.interface, link_source(captured))
        raise LookupError(f"{self.where}: no packet is {summary_of(expected)}")

    def _looked(self, expected: str) -> None:
        self.record.looked(self.where, expected, f"{len(self.packets)} packets")

    def _nearest(self, expected: Layers) -> str:
        """By what the packet that comes nearest is not as expected."""
        if not self.packets:
            return f"no packet at all, expected {summary_of(expected)}"
        nearest = min((packet for _, packet in self.packets), key=lambda one: _distance(expected, one))
        return self._in_words(expected, nearest)

    def _in_words(self, expected: Layers, packet: Layers) -> str:
        told = "; ".join(one.in_words(self.names) for one in differences(expected, packet))
        return f"{told} (in {summary_of(packet)})"


def _distance(expected: Layers, packet: Layers) -> tuple[bool, int]:
    found = differences(expected, packet)
    return any(one.field == "" for one in found), len(found)


@dataclass(slots=True)
class Wire:
    """Running captures by role. Reading ends them."""

    places: Mapping[str, Vantage]
    names: Mapping[str, str]
    record: Record
    captures: Mapping[str, Capture]
    _parsed: dict[str, Sequence[tuple[CapturedPacket, Layers]]] = field(default_factory=dict)

    def at(self, role: str, *, interface: str | None = None) -> Seen:
        """The packets that arrived at a role's place, oldest first; by one of its interfaces, if named."""
        return self._seen("at", role, ARRIVED, interface)

    def leaving(self, role: str, *, interface: str | None = None) -> Seen:
        """The packets that left it."""
        return self._seen("leaving", role, LEFT, interface)

    def close(self) -> None:
        """Read what the kernel still has, and keep the latest of each place for the record."""
        for role, capture in self.captures.items():
            capture.close()
            place = self.places[role].name
            self.record.watched[f"{role} {place}"] = Recording(tuple(capture.packets), capture.dropped)

    def _packets(self, role: str) -> Sequence[tuple[CapturedPacket, Layers]]:
        """What a role's capture saw of IP, parsed once."""
        if role not in self._parsed:
            self.close()
            both = ((captured, network_of(captured)) for captured in self.captures[role].packets)
            self._parsed[role] = [(captured, packet) for captured, packet in both if packet is not None]
        return self._parsed[role]

    def _seen(self, verb: str, role: str, directions: frozenset[str], interface: str | None) -> Seen:
        name = self.places[role].name
        packets = tuple(
            (captured, packet)
            for captured, packet in self._packets(role)
            if captured.direction in directions
            if captured.interface == interface or (interface is None and captured.interface != LOOPBACK)
        )
        by = f" by {interface}" if interface else ""
        return Seen(f"{verb} {role}{'' if name == role else f' {name}'}{by}", packets, self.names, self.record)


@contextmanager
def watching(
    capture: Callable[[Vantage], Capture], nodes: Iterable[Node], record: Record, roles: Roles
) -> Iterator[Wire]:
    """Capture at every role that is a place; a frontend's role only names its address."""
    places = {role: vantage_of(one) for role, one in roles.items() if not isinstance(one, Frontend)}
    names = {address: node.name for node in nodes for address in node.addresses.values()}
    for role, one in roles.items():
        addresses = [one.ip] if isinstance(one, Frontend) else vantage_of(one).addresses.values()
        names |= dict.fromkeys(addresses, role)
    with ExitStack() as stack:
        captures = {role: stack.enter_context(capture(place)) for role, place in places.items()}
        yield Wire(places, names, record, captures)


def vantage_of(place: Place) -> Vantage:
    """Where a place's packets can be seen."""
    return place if isinstance(place, Vantage) else place.vantage


@dataclass(frozen=True, slots=True)
class Talk:
    """One flow to a backend after its first exchange, and that exchange's packets as both ends saw them.

    `sent` and `answer` are the request and the answer at the client, `received` and `answered` at the endpoint.
    `first` holds the captures of it, `wire` watches what comes after.
    """

    client: Prober
    endpoint: Prober
    frontend: Frontend
    protocol: Protocol
    flow: HeldConnection
    first: Wire
    wire: Wire

    @property
    def family(self) -> Family:
        return self.frontend.family

    @property
    def sent(self) -> Layers:
        return self.first.leaving("client").must_have(self.from_client())

    @property
    def received(self) -> Layers:
        return self.first.at("endpoint").must_have(self.to_endpoint())

    @property
    def answered(self) -> Layers:
        return self.first.leaving("endpoint").must_have(self.from_endpoint())

    @property
    def answer(self) -> Layers:
        return self.first.at("client").must_have(self.to_client())

    def exchange(self, *, request_size: int = 0, reply_padding: int = 0) -> None:
        """One more on the same flow, with the same backend: what was injected before it has arrived, or is lost."""
        __tracebackhide__ = True
        self.must_be_answered(self.flow.exchange(request_size=request_size, reply_padding=reply_padding))

    def must_be_answered(self, seen: Observation) -> None:
        """By the backend that this is about, within the verdict."""
        __tracebackhide__ = True
        flows = self.client.judged(self.frontend, self.protocol, [seen])
        flows.must_reach_exactly(frozenset({self.endpoint.name}))

    # What is expected of the flow's packets where …

    def from_client(self, **fields: Any) -> Layers:
        """… the client sends them."""
        src = self._ends()[0]
        return self._packet(src, Address(self.frontend.ip, self.frontend.port), fields)

    def to_endpoint(self, **fields: Any) -> Layers:
        """… the endpoint gets them."""
        _, served_at, client_seen = self._ends()
        return self._packet(client_seen, served_at, fields)

    def from_endpoint(self, **fields: Any) -> Layers:
        """… the endpoint answers."""
        _, served_at, client_seen = self._ends()
        return self._packet(served_at, client_seen, fields)

    def to_client(self, **fields: Any) -> Layers:
        """… the client gets the answers."""
        src = self._ends()[0]
        return self._packet(Address(self.frontend.ip, self.frontend.port), src, fields)

    def _ends(self) -> tuple[Address, Address, Address]:
        """The client, the endpoint, and the client as the endpoint sees it. A first exchange was answered by all."""
        seen = self.flow.first
        assert seen.src
        assert seen.served_at
        assert seen.client_seen
        return seen.src, seen.served_at, seen.client_seen

    def _packet(self, source: Address, destination: Address, fields: Mapping[str, Any]) -> Layers:
        """`ttl` and `flags` (of TCP) may be given too."""
        network = {name: value for name, value in fields.items() if name == "ttl"}
        transport = {name: value for name, value in fields.items() if name != "ttl"}
        ends = ip(src=source.ip, dst=destination.ip, **network)
        return ends / (tcp if self.protocol == "TCP" else udp)(sport=source.port, dport=destination.port, **transport)


@contextmanager
def talking(
    watch: Callable[[Roles], AbstractContextManager[Wire]],
    client: Prober,
    endpoint: Prober,
    frontend: Frontend,
    protocol: Protocol,
    others: Roles,
) -> Iterator[Talk]:
    """A flow from a client to the only endpoint of a frontend, whose first exchange must have been answered."""
    roles: Roles = {"client": client, "endpoint": endpoint, "dialled": frontend, **others}
    with ExitStack() as stack:
        first = stack.enter_context(watch(roles))
        flow = stack.enter_context(client.hold(frontend, protocol))
        first.close()
        talk = Talk(client, endpoint, frontend, protocol, flow, first, stack.enter_context(watch(roles)))
        talk.must_be_answered(flow.first)
        yield talk
