# SPDX-License-Identifier: Apache-2.0
"""What must hold for any packet whatever, before and after a program: read by a second reader, from the RFCs.

RFC 791, 8200 (headers, fragments), 768, 9293, 9260 (least lengths), 792, 4443 (errors), 1071 (checksums).
"""

import struct
from typing import NamedTuple

from dataplane_ref.controller.crc import byte_table
from tests.datapath.fuzz_packets import ROLE_ADDRESSES

LEAST = {6: 20, 17: 8, 132: 12}
CHECKSUM_AT = {6: 16, 17: 6}
ERRORS = {4: (3, 4, 5, 11, 12), 6: (1, 2, 3, 4)}
ICMP = {4: 1, 6: 58}
MAPPED = bytes(10) + b"\xff\xff"
MORE, OFFSET = 0x2000, 0x1FFF
WHOLE, FIRST, LATER = range(3)
ONES = 0xFFFF
NODES = {4: ROLE_ADDRESSES[4]["node"], 6: ROLE_ADDRESSES[6]["node"]}
Flow = tuple[bytes, int, bytes, int, int]


class Headers(NamedTuple):
    """The headers of one IP packet in a frame; ports are 0 in a later fragment."""

    family: int
    start: int
    source: bytes
    destination: bytes
    protocol: int
    transport: int
    length: int
    fragment: int
    sport: int = 0
    dport: int = 0

    @property
    def flow(self) -> Flow:
        return self.source, self.sport, self.destination, self.dport, self.protocol


class WrongError(AssertionError):
    """A packet was not treated as it must be; the text says how."""


def read_network(data: bytes, start: int, family: int) -> Headers | None:
    """An IP header and what stands between it and the transport, if all of that is there and makes sense."""
    return _read_ipv4(data, start) if family == 4 else _read_ipv6(data, start)


def _read_ipv4(data: bytes, start: int) -> Headers | None:
    if len(data) < start + 20:
        return None
    head, total, flags = data[start], data[start + 2] << 8 | data[start + 3], data[start + 6] << 8 | data[start + 7]
    length = (head & 15) * 4
    if head >> 4 != 4 or length < 20 or total < length:
        return None
    fragment = LATER if flags & OFFSET else FIRST if flags & MORE else WHOLE
    source, destination = data[start + 12 : start + 16], data[start + 16 : start + 20]
    return Headers(4, start, source, destination, data[start + 9], start + length, total - length, fragment)


def _read_ipv6(data: bytes, start: int) -> Headers | None:
    if len(data) < start + 40 or data[start] >> 4 != 6:
        return None
    source, destination = data[start + 8 : start + 24], data[start + 24 : start + 40]
    if source[:12] == MAPPED or destination[:12] == MAPPED:
        return None
    following, at, fragment = data[start + 6], start + 40, WHOLE
    end = at + (data[start + 4] << 8 | data[start + 5])
    for _ in range(6):
        if following not in (0, 43, 44, 60):
            break
        if fragment == LATER or len(data) < at + 8:
            return None
        if following == 44:
            word = data[at + 2] << 8 | data[at + 3]
            fragment = LATER if word & 0xFFF8 else FIRST if word & 1 else WHOLE
            following, at = data[at], at + 8
        else:
            following, at = data[at], at + (data[at + 1] + 1) * 8
    if at > end:
        return None
    return Headers(6, start, source, destination, following, at, end - at, fragment)


def with_ports(data: bytes, headers: Headers, needed: int) -> Headers | None:
    """The same with its ports, if so many bytes of the transport header are there."""
    at = headers.transport
    if len(data) < at + needed:
        return None
    return headers._replace(sport=data[at] << 8 | data[at + 1], dport=data[at + 2] << 8 | data[at + 3])


def read(data: bytes) -> tuple[Headers | None, Headers | None]:
    """The headers of a packet that Services could be about, and those inside if it is an ICMP error."""
    kind = data[12:14]
    family = 4 if kind == b"\x08\x00" else 6 if kind == b"\x86\xdd" else 0
    outer = read_network(data, 14, family) if family else None
    if outer is None:
        return None, None
    protocol = outer.protocol
    if protocol in LEAST:
        if outer.fragment == LATER:
            return outer, None
        if outer.length < LEAST[protocol]:
            return None, None
        return with_ports(data, outer, 14 if protocol == 6 else 4), None
    at = outer.transport
    if protocol != ICMP[family] or outer.fragment != WHOLE or outer.length < 8 or len(data) <= at:
        return None, None
    inner = read_network(data, at + 8, family) if data[at] in ERRORS[family] else None
    if inner is None or inner.protocol not in LEAST or inner.fragment == LATER:
        return None, None
    inner = with_ports(data, inner, 4)
    return (outer, inner) if inner else (None, None)


def ones(data: bytes) -> int:
    """The sum that checksums are complements of; 0 and 0xffff are the same sum."""
    return int.from_bytes(data + b"\0" if len(data) & 1 else data, "big") % ONES


_BYTE = byte_table()


def sctp_change(difference: bytes, length: int) -> int:
    """By what CRC32c changes when the first four of `length` bytes do."""
    register = 0
    for byte in difference + bytes(length - 4):
        register = register >> 8 ^ _BYTE[(register ^ byte) & 0xFF]
    return register


def _differs(before: bytes, after: bytes, allowed: list[tuple[int, int]]) -> None:
    """Nothing but these places may have changed, and not the length."""
    if len(before) != len(after):
        raise WrongError(f"it had {len(before)} bytes and has {len(after)}")
    restored = bytearray(after)
    for at, end in allowed:
        restored[at:end] = before[at:end]
    if restored != before:
        places = [at for at, (one, two) in enumerate(zip(before, restored, strict=True)) if one != two]
        raise WrongError(f"bytes at {places} have changed")


def _network_places(headers: Headers) -> list[tuple[int, int]]:
    at = headers.start
    return [(at + 8, at + 9), (at + 10, at + 20)] if headers.family == 4 else [(at + 7, at + 40)]


def _check_network(before: bytes, after: bytes, headers: Headers) -> None:
    at = headers.start
    hops = at + (8 if headers.family == 4 else 7)
    if before[hops] - after[hops] not in (0, 1):
        raise WrongError(f"its TTL was {before[hops]} and is {after[hops]}")
    if headers.family == 4 and ones(before[at : headers.transport]) != ones(after[at : headers.transport]):
        raise WrongError("its IP checksum is no longer as right or wrong as it was")


def _check_transport(before: bytes, after: bytes, was: Headers) -> None:
    """The checksum over addresses and ports is as right or wrong as before."""
    at, addresses = was.transport, slice(was.start + 12, was.start + 20)
    if was.family == 6:
        addresses = slice(was.start + 8, was.start + 40)
    if was.protocol == 132:
        old, new = before[at + 8 : at + 12], after[at + 8 : at + 12]
        if len(old) < 4 or not any(old):
            if old != new:
                raise WrongError("an SCTP checksum that was none has become one")
            return
        difference = bytes(one ^ two for one, two in zip(before[at : at + 4], after[at : at + 4], strict=True))
        change = sctp_change(difference, was.length)
        if struct.unpack("<I", old)[0] ^ struct.unpack("<I", new)[0] != change:
            raise WrongError("its SCTP checksum is no longer as right or wrong as it was")
        return
    place = at + CHECKSUM_AT[was.protocol]
    old, new = before[place : place + 2], after[place : place + 2]
    if was.protocol == 17 and old == b"\0\0":
        if new != old:
            raise WrongError("a datagram without a checksum has one")
        return
    if was.protocol == 17 and new == b"\0\0":
        raise WrongError("a datagram has lost its checksum")
    end = place + 2
    if (ones(before[addresses]) + ones(before[at:end])) % ONES != (
        ones(after[addresses]) + ones(after[at:end])
    ) % ONES:
        raise WrongError("its checksum is no longer as right or wrong as it was")


class Check:
    """Judges each packet by what came of those before it: `towards` are the flows that were begun, per direction."""

    def __init__(self, frontends: dict[tuple[bytes, int, int], set[tuple[bytes, int]]], ports: range) -> None:
        self._frontends, self._ports = frontends, ports
        self.replies: dict[Flow, Flow] = {}
        self.forward: dict[Flow, Flow] = {}
        self.dropped: set[Flow] = set()
        self.news: list[Flow] = []

    def forget(self) -> None:
        self.replies.clear()
        self.forward.clear()
        self.dropped.clear()

    def left_alone(self, before: bytes, after: bytes) -> str:
        if before != after:
            raise WrongError("it was left to the stack, and has changed")
        outer, inner = read(before)
        if outer is None:
            return "left alone: not to be read"
        return "left alone: an error" if inner else "left alone: nobody's"

    def unreadable(self, before: bytes) -> bool:
        """Only what can be read may be dropped; whether it is an ICMP error."""
        outer, inner = read(before)
        if outer is None:
            raise WrongError("it cannot be read, and was not left alone")
        if inner is None:
            self.dropped.add(outer.flow)
        return inner is not None

    def rewritten(self, before: bytes, after: bytes) -> str:
        outer, inner = read(before)
        if outer is None:
            raise WrongError("it cannot be read, and was rewritten")
        return self._error(before, after, outer, inner) if inner else self._packet(before, after, outer)

    def _packet(self, before: bytes, after: bytes, was: Headers) -> str:
        at, places = was.transport, [(0, 12), *_network_places(was)]
        if was.fragment != LATER:
            place = at + 8 if was.protocol == 132 else at + CHECKSUM_AT[was.protocol]
            places += [(at, at + 4), (place, place + (4 if was.protocol == 132 else 2))]
        _differs(before, after, places)
        _check_network(before, after, was)
        now = read_network(after, 14, was.family)
        if now is None:
            raise WrongError("it can no longer be read")
        if was.fragment == LATER:
            return "rewritten: later fragment"
        now = with_ports(after, now, 4)
        assert now is not None
        _check_transport(before, after, was)
        return self._direction(was.flow, now.flow)

    def _direction(self, was: Flow, now: Flow) -> str:
        if self.replies.get(was) == now:
            return "rewritten: reply"
        if self._begun_unseen(now, was):
            return "rewritten: reply"
        endpoints = self._endpoints(was[2], was[3], was[4])
        is_direct = now[0] == was[0] and now[2:] == was[2:]  # kept apart from a flow that would look the same
        if not is_direct and (now[2], now[3]) not in endpoints:
            raise WrongError(f"{was} has become {now}, which is no endpoint of what was dialled and no known reply")
        if now[:2] != was[:2] and (now[0] not in (NODES[4], NODES[6], was[0]) or now[1] not in self._ports):
            raise WrongError(f"{was} has become {now}: not its own source, nor one of the node's")
        reply = (now[2], now[3], now[0], now[1], now[4])
        if is_direct and now[1] not in self._ports:
            raise WrongError(f"{was} has become {now}, which is not apart")
        known = self.forward.get(was) == now
        self.forward[was] = now
        self.replies[reply] = (was[2], was[3], was[0], was[1], was[4])
        if not known:
            self.news.append(was)
            self.news.append(reply)
        return "rewritten: later packet" if known else "rewritten: new flow"

    def _endpoints(self, dialled: bytes, port: int, protocol: int) -> set[tuple[bytes, int]]:
        if len(dialled) == 4 and dialled[0] == 127:
            dialled = ROLE_ADDRESSES[4]["loopback"]
        return self._frontends.get((dialled, port, protocol), set())

    def _begun_unseen(self, reply: Flow, was: Flow) -> bool:
        """Whether this is a reply of a flow whose first packet began it, but could not be sent on."""
        forward = (reply[2], reply[3], reply[0], reply[1], reply[4])
        if forward not in self.dropped or was[:2] not in self._endpoints(reply[0], reply[1], reply[4]):
            return False
        self.replies[was] = reply
        self.forward[forward] = (was[2], was[3], was[0], was[1], was[4])
        return True

    def _error(self, before: bytes, after: bytes, outer: Headers, inner: Headers) -> str:
        at, icmp = inner.transport, outer.transport
        places = [(0, 12), *_network_places(outer), (icmp + 2, icmp + 4), *_network_places(inner), (at, at + 4)]
        if inner.protocol != 132:
            place = at + CHECKSUM_AT[inner.protocol]
            places.append((place, place + 2))
        _differs(before, after, places)
        _check_network(before, after, outer)
        _check_network(before, after, inner)
        pseudo = slice(22, 54) if outer.family == 6 else slice(0)
        if (ones(before[pseudo]) + ones(before[icmp:])) % ONES != (ones(after[pseudo]) + ones(after[icmp:])) % ONES:
            raise WrongError("its ICMP checksum is no longer as right or wrong as it was")
        if inner.protocol in CHECKSUM_AT and len(before) >= at + CHECKSUM_AT[inner.protocol] + 2:
            _check_transport(before, after, inner)
        now = read_network(after, inner.start, inner.family)
        now = now and with_ports(after, now, 4)
        if now is None:
            raise WrongError("what it quotes can no longer be read")
        # What is quoted went the other way: its reverse is a key of the direction that the error travels in.
        was = (inner.destination, inner.dport, inner.source, inner.sport, inner.protocol)
        expected = self.replies.get(was) or self.forward.get(was)
        becomes = (now.destination, now.dport, now.source, now.sport, now.protocol)
        if expected != becomes and not self._begun_unseen(becomes, was) and was not in self.dropped:
            raise WrongError(f"it quoted the reverse of {was}, and now quotes {now.flow}, but should {expected}")
        return "rewritten: ICMP error"

    def refused(self, before: bytes, after: bytes) -> str:
        """Port unreachable from the node to the sender, or that its time has ended, quoting what came."""
        outer, inner = read(before)
        if outer is None or inner:
            raise WrongError("it was refused, and is nothing to be refused")
        head = 28 if outer.family == 4 else 48
        quoted = after[14 + head :]
        length = outer.transport - 14 + outer.length
        if quoted != before[14 : 14 + len(quoted)] or len(quoted) != min(
            length // 4 * 4, 548 if head == 28 else 1232
        ):
            raise WrongError("the refusal does not quote what was refused")
        now = read_network(after, 14, outer.family)
        if now is None or now.source != NODES[outer.family] or now.destination != outer.source:
            raise WrongError("the refusal is not from the node to the sender")
        said = after[now.transport : now.transport + 2]
        lives = before[14 + (8 if outer.family == 4 else 7)]
        ended = said == (b"\x0b\0" if outer.family == 4 else b"\3\0")
        if ended and lives > 1:
            raise WrongError(f"its time is said to have ended, and it has {lives} hops to live")
        if not ended and said != (b"\3\3" if outer.family == 4 else b"\1\4"):
            raise WrongError("the refusal is not port unreachable")
        part = after[now.transport :]
        pseudo = after[22:54] + struct.pack("!II", len(part), 58) if outer.family == 6 else b""
        if ones(part + b"\0" * (len(part) & 1) + pseudo) or (outer.family == 4 and ones(after[14:34])):
            raise WrongError("a checksum of the refusal is wrong")
        if ended:
            self.dropped.add(outer.flow)  # it has begun a flow, as one that could not be sent on
        return "told of its end" if ended else "refused"
