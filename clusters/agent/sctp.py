# SPDX-License-Identifier: Apache-2.0
"""SCTP packets and chunks as bytes (RFC 9260, section 3), as many of them as one short conversation needs.

What has a wrong checksum, or is cut short, is no packet: `decode` gives None.
"""

import os
import struct
from typing import NamedTuple

from clusters.agent.crc32c import crc32c

DATA, INIT, INIT_ACK, SACK, ABORT, SHUTDOWN, SHUTDOWN_ACK = 0, 1, 2, 3, 6, 7, 8
COOKIE_ECHO, COOKIE_ACK, SHUTDOWN_COMPLETE = 10, 11, 14
# In an ABORT or SHUTDOWN COMPLETE: its tag is the one that its receiver uses, not the one that it expects (8.5.1).
REFLECTED = 1
# A DATA chunk that is a whole message.
_WHOLE = 3
_STATE_COOKIE = 7
WINDOW = 1 << 20
# A line fits one packet on any link that IPv6 knows (1,280 bytes), beside headers and a SACK.
MAX_MESSAGE = 1152

_HEADER = struct.Struct("!HHI")
_CHECKSUM = struct.Struct("<I")
_CHUNK = struct.Struct("!BBH")
_INIT = struct.Struct("!IIHHI")  # initiate tag, window, streams out and in, first TSN
_DATA = struct.Struct("!IHHI")  # TSN, stream, number in it, payload protocol
_SACK = struct.Struct("!IIHH")  # last TSN, window, gaps, duplicates
_PARAMETER = struct.Struct("!HH")
_HEADER_BYTES = _HEADER.size + _CHECKSUM.size
_NUMBERS = 1 << 32


class Chunk(NamedTuple):
    """One chunk of a packet; `value` is what follows its head, without padding."""

    kind: int
    flags: int
    value: bytes


class Packet(NamedTuple):
    """One SCTP packet whose checksum is right."""

    sport: int
    dport: int
    tag: int
    chunks: tuple[Chunk, ...]


class Init(NamedTuple):
    """What INIT and INIT ACK say; `cookie` is INIT ACK's only."""

    tag: int
    tsn: int
    cookie: bytes


class Message(NamedTuple):
    """What a DATA chunk says."""

    tsn: int
    data: bytes


def encode(sport: int, dport: int, tag: int, *chunks: bytes) -> bytes:
    """A packet with its checksum."""
    head, body = _HEADER.pack(sport, dport, tag), b"".join(chunks)
    return head + _CHECKSUM.pack(crc32c(head + bytes(_CHECKSUM.size) + body)) + body


def ports(data: bytes) -> tuple[int, int] | None:
    """Source and destination port, of a packet cut short or wrong as well."""
    return _HEADER.unpack_from(data)[:2] if len(data) >= _HEADER.size else None


def decode(data: bytes) -> Packet | None:
    """The packet in some bytes, or None."""
    if len(data) < _HEADER_BYTES + _CHUNK.size:
        return None
    head, body = data[: _HEADER.size], data[_HEADER_BYTES:]
    if _CHECKSUM.unpack_from(data, _HEADER.size)[0] != crc32c(head + bytes(_CHECKSUM.size) + body):
        return None
    chunks = []
    while body:
        if len(body) < _CHUNK.size:
            return None
        kind, flags, length = _CHUNK.unpack_from(body)
        if not _CHUNK.size <= length <= len(body):
            return None
        chunks.append(Chunk(kind, flags, body[_CHUNK.size : length]))
        body = body[length + -length % 4 :]
    sport, dport, tag = _HEADER.unpack(head)
    return Packet(sport, dport, tag, tuple(chunks))


def chunk(kind: int, value: bytes = b"", flags: int = 0) -> bytes:
    """A chunk, padded to a multiple of four bytes."""
    return _CHUNK.pack(kind, flags, _CHUNK.size + len(value)) + value + bytes(-len(value) % 4)


def init(kind: int, tag: int, tsn: int, cookie: bytes = b"") -> bytes:
    """INIT, or INIT ACK with its state cookie."""
    parameter = _PARAMETER.pack(_STATE_COOKIE, _PARAMETER.size + len(cookie)) + cookie if cookie else b""
    return chunk(kind, _INIT.pack(tag, WINDOW, 1, 1, tsn) + parameter)


def parse_init(value: bytes) -> Init | None:
    """What an INIT or INIT ACK says, or None where it is none."""
    if len(value) < _INIT.size:
        return None
    tag, _window, _out, _in, tsn = _INIT.unpack_from(value)
    cookie, rest = b"", value[_INIT.size :]
    while len(rest) >= _PARAMETER.size:
        kind, length = _PARAMETER.unpack_from(rest)
        if not _PARAMETER.size <= length <= len(rest):
            return None
        if kind == _STATE_COOKIE:
            cookie = rest[_PARAMETER.size : length]
        rest = rest[length + -length % 4 :]
    return Init(tag, tsn, cookie) if tag else None


def data(tsn: int, number: int, message: bytes) -> bytes:
    """A whole message, the one with this number on the only stream."""
    return chunk(DATA, _DATA.pack(tsn, 0, number & 0xFFFF, 0) + message, _WHOLE)


def parse_data(one: Chunk) -> Message | None:
    """The message of a DATA chunk, or None where it is not a whole one."""
    if one.flags & _WHOLE != _WHOLE or len(one.value) <= _DATA.size:
        return None
    return Message(_DATA.unpack_from(one.value)[0], one.value[_DATA.size :])


def sack(tsn: int) -> bytes:
    """Everything up to this TSN has come."""
    return chunk(SACK, _SACK.pack(tsn, WINDOW, 0, 0))


def parse_sack(value: bytes) -> int | None:
    """The last TSN that came, all before it included."""
    return int(_SACK.unpack_from(value)[0]) if len(value) >= _SACK.size else None


def shutdown(tsn: int) -> bytes:
    return chunk(SHUTDOWN, struct.pack("!I", tsn))


def after(tsn: int, steps: int = 1) -> int:
    """The TSN so many steps after this one, or before it."""
    return (tsn + steps) % _NUMBERS


def is_after(one: int, other: int) -> bool:
    """Whether a TSN comes after another, in serial arithmetic (RFC 1982)."""
    return 0 < (one - other) % _NUMBERS < _NUMBERS // 2


def fresh_number() -> int:
    """For a tag or a first TSN: nobody guesses it, and it is not 0, which is no tag."""
    return int.from_bytes(os.urandom(4), "big") or 1
