# SPDX-License-Identifier: Apache-2.0
"""Mangled packets: whole ones of every kind that the datapath knows, put together by struct, and what spoils them."""

import socket
import struct
from collections.abc import Callable
from random import Random

from tests.datapath.packets import NODE_PORT, PORT, ROLES, SPORT, TARGET, checksum

MACS = bytes.fromhex("020000000010020000000099")
TYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
NUMBERS = (6, 17, 132)
CLIENT_PORTS = range(SPORT, SPORT + 24)
TELLING = (0, 1, 4, 6, 17, 43, 44, 58, 60, 0x44, 0x46, 0x4F, 0x60, 0x80, 0xFF)  # in heads
TCP_FLAGS = (2, 2, 2, 16, 16, 24, 18, 17, 4, 20, 0, 255)
MANGLERS: "list[Callable[[Random, bytearray], None]]" = []
ROLE_ADDRESSES: dict[int, dict[str, bytes]] = {
    4: {name: socket.inet_pton(socket.AF_INET, value) for name, value in vars(ROLES["IPv4"]).items()},
    6: {name: socket.inet_pton(socket.AF_INET6, value) for name, value in vars(ROLES["IPv6"]).items()},
}
ROLE_ADDRESSES[4] |= {"stranger": b"\x08\x08\x08\x08", "loopback": b"\x7f\0\0\1"}
ROLE_ADDRESSES[6] |= {"stranger": bytes.fromhex("20010db8" + "77" * 12), "loopback": bytes(15) + b"\1"}
CLIENTS = ("pod", "other_pod", "outside", "node", "second", "stranger", "remote_pod", "loopback")
FRONTENDS = (
    ("cluster_ip", PORT), ("cluster_ip", PORT + 1), ("node", NODE_PORT), ("external_ip", PORT), ("second", NODE_PORT),
    ("cluster_ip", 9), ("external_ip", PORT + 1), ("pod", TARGET), ("loopback", NODE_PORT),
)  # fmt: skip


def transport(random: Random, number: int, source: bytes, destination: bytes, sport: int, dport: int) -> bytes:
    """A TCP, UDP or SCTP packet with a good checksum; SCTP's is left for the check of differences."""
    payload = random.randbytes(random.choice((0, 1, 2, 7, 20, 41)))
    if number == 132:
        return struct.pack("!HHIIBBHI", sport, dport, 9, random.getrandbits(32), 0, 0, 8, 1) + payload
    if number == 6:
        part = struct.pack("!HHIIBBHHH", sport, dport, 1, 1, 0x50, random.choice(TCP_FLAGS), 100, 0, 0) + payload
        place = 16
    else:
        part = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
        place = 6
    value = checksum(source + destination + struct.pack("!IHH", len(part), 0, number)[2:] + part)
    if number == 17:
        value = 0 if random.random() < 0.1 else value or 0xFFFF
    return part[:place] + value.to_bytes(2, "big") + part[place + 2 :]


def internet(random: Random, source: bytes, destination: bytes, number: int, part: bytes, *, plain: bool) -> bytes:
    """An IP packet: bare, or with options, extension headers and fragments."""
    if len(source) == 4:
        options = b"\1" * (4 * random.randrange(11)) if not plain and random.random() < 0.3 else b""
        fragment = 0
        if not plain and random.random() < 0.5:
            fragment = random.choice((0x2000, 0x2000, 0x2001, 1, 1, 0x4000, 0x1FFF))
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, 20 + len(options) + len(part), random.randrange(2),
            fragment, random.choice((64, 64, 64, 2, 1, 0)), number, 0, source, destination,
        ) + options  # fmt: skip
        return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + part
    chain, first = b"", number
    if not plain and random.random() < 0.4:
        for _ in range(random.choice((1, 1, 2, 3, 5, 6, 7))):
            kind = random.choice((0, 43, 44, 44, 60))
            if kind == 44:
                offset = random.choice((0, 1, 1, 8, 9, 0x40))
                chain = struct.pack("!BBHI", first, 0, offset, random.randrange(4)) + chain
            else:
                words = random.randrange(3)
                chain = struct.pack("!BB", first, words) + bytes(6 + 8 * words) + chain
            first = kind
    hops = random.choice((64, 64, 64, 2, 1, 0))
    head = struct.pack("!IHBB16s16s", 6 << 28, len(chain) + len(part), first, hops, source, destination)
    return head + chain + part


def error(random: Random, source: bytes, destination: bytes, quoted: bytes) -> bytes:
    """An ICMP error about this packet, or as much of it."""
    if random.random() < 0.6:
        quoted = quoted[: random.choice((8, 20, 28, 32, 48, 52, 60, len(quoted)))]
    if len(source) == 4:
        part = struct.pack("!BBHI", random.choice((3, 3, 3, 11, 12, 5, 4, 8)), random.randrange(5), 0, 1400) + quoted
        return part[:2] + checksum(part).to_bytes(2, "big") + part[4:]
    part = struct.pack("!BBHI", random.choice((1, 1, 2, 3, 4, 128)), random.randrange(5), 0, 1400) + quoted
    value = checksum(source + destination + struct.pack("!II", len(part), 58) + part)
    return part[:2] + value.to_bytes(2, "big") + part[4:]


class Packets:
    """A stream of packets from a seed. Replies and errors are about `known` flows, as the check has seen them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.known: list[tuple[bytes, int, bytes, int, int]] = []

    def remember(self, flow: tuple[bytes, int, bytes, int, int]) -> None:
        """One direction of a flow, for later packets: source, port, destination, port, protocol."""
        if len(self.known) < 512:
            self.known.append(flow)
        else:
            self.known[self.random.randrange(512)] = flow

    def _flow(self) -> tuple[bytes, int, bytes, int, int]:
        random = self.random
        if self.known and random.random() < 0.65:
            flow = random.choice(self.known)
            return flow if random.random() < 0.5 else (flow[2], flow[3], flow[0], flow[1], flow[4])
        addresses = ROLE_ADDRESSES[random.choice((4, 6))]
        role, port = random.choice(FRONTENDS)
        client = addresses[random.choice(CLIENTS)]
        return client, random.choice(CLIENT_PORTS), addresses[role], port, random.choice(NUMBERS)

    def make(self) -> bytes:
        """A packet, more often than not a mangled one."""
        random = self.random
        source, sport, destination, dport, number = self._flow()
        family = 4 if len(source) == 4 else 6
        plain = random.random() < 0.6
        part = transport(random, number, source, destination, sport, dport)
        packet = internet(random, source, destination, number, part, plain=plain)
        if random.random() < 0.25:
            for _ in range(1 if random.random() < 0.85 else 2):  # an error, or one about an error
                speaker = source if random.random() < 0.5 else ROLE_ADDRESSES[family]["stranger"]
                part = error(random, destination if random.random() < 0.5 else speaker, source, packet)
                packet = internet(random, destination, source, 1 if family == 4 else 58, part, plain=plain)
        frame = bytearray(MACS + TYPES[family] + packet)
        if random.random() < 0.1:
            frame += random.randbytes(random.randrange(1, 40))
        for _ in range(random.choice((0, 0, 0, 1, 1, 2))):
            random.choice(MANGLERS)(random, frame)
        return bytes(frame)


def _truncate(random: Random, frame: bytearray) -> None:
    del frame[random.randrange(14, len(frame) + 1) :]


def _flip(random: Random, frame: bytearray) -> None:
    if len(frame) > 14:
        frame[random.randrange(14, len(frame))] ^= 1 << random.randrange(8)


def _overwrite(random: Random, frame: bytearray) -> None:
    at = random.randrange(14, len(frame) + 1)
    for place in range(at, min(len(frame), at + random.randrange(1, 9))):
        frame[place] = random.getrandbits(8)


def _head(random: Random, frame: bytearray) -> None:
    """A byte of the first headers: version, length, protocol, fragment …"""
    at = random.randrange(14, 60)
    if at < len(frame):
        frame[at] = random.choice((*TELLING, random.getrandbits(8)))


def _lengths(random: Random, frame: bytearray) -> None:
    at = 16 if frame[12:14] == TYPES[4] else 18
    if len(frame) >= at + 2:
        frame[at : at + 2] = random.choice((0, 1, 19, 20, 27, 28, 39, 40, 0xFFFF, len(frame) - 14)).to_bytes(2, "big")


def _ethertype(random: Random, frame: bytearray) -> None:
    if random.random() < 0.3:
        frame[12:14] = random.choice((b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00", random.randbytes(2)))


def _garbage(random: Random, frame: bytearray) -> None:
    if random.random() < 0.2:
        frame[14:] = random.randbytes(random.randrange(200))


def _mapped(random: Random, frame: bytearray) -> None:
    """An IPv4 address in an IPv6 header."""
    if frame[12:14] == TYPES[6] and len(frame) >= 54:
        at = random.choice((22, 38))
        frame[at : at + 12] = bytes(10) + b"\xff\xff"


MANGLERS += [_truncate, _truncate, _flip, _flip, _overwrite, _head, _head, _lengths, _ethertype, _garbage, _mapped]
