# SPDX-License-Identifier: Apache-2.0
"""Lookup tables, weighted rounds, and the tables of SCTP's checksum."""

import random
import struct
from collections import Counter

import pytest

from dataplane_ref.controller.crc import PLACES, STEPS, byte_table, crc_tables
from dataplane_ref.controller.maglev import SIZES, lookup_table, table_size
from dataplane_ref.controller.schedule import UNITS, interleaved, parse_weights
from tests.datapath.cluster import FakeNode, endpoint_slice, service


def keys(count: int) -> list[bytes]:
    return [b"\x0a\0" + number.to_bytes(2, "big") + b"\x1f\x90" for number in range(count)]


@pytest.mark.parametrize(
    ("size", "count", "collateral"),
    # Bounds of Maglev's simulation, twice over: collateral is not monotonic in the number of endpoints.
    [(1021, 10, 0.06), (16381, 10, 0.02), (16381, 100, 0.03), (65537, 100, 0.012)],
)
def test_maglev_shares_are_even_and_few_slots_move(size: int, count: int, collateral: float) -> None:
    everybody = keys(count)
    table = lookup_table(everybody, [1] * count, size)
    shares = Counter(table)
    assert max(shares.values()) - min(shares.values()) <= 1
    without = lookup_table(everybody[1:], [1] * (count - 1), size)
    moved = sum(a != 0 and a != b + 1 for a, b in zip(table, without, strict=True))
    assert moved / size <= collateral


def test_maglev_shares_go_by_weight() -> None:
    shares = Counter(lookup_table(keys(3), [1, 2, 5], 4093))
    assert [round(shares[place] / 4093 * 8) for place in range(3)] == [1, 2, 5]


def test_maglev_tables_have_a_hundred_slots_an_endpoint_within_the_budget() -> None:
    counts = (1, 3, 10, 40, 163, 164, 655, 5000)
    assert [table_size(count, 1 << 20) for count in counts] == [16381] * 5 + [65537] * 3
    assert table_size(100, 5000) == 4093
    assert table_size(300, 251) == 1021  # fewer slots than endpoints would leave some out
    assert all(all(size % divisor for divisor in range(2, 257) if divisor < size) for size in SIZES)


@pytest.mark.parametrize("scheduler", ["random", "rr", "lc", "sed", "nq", "sh", "dh", "maglev", "wrr"])
def test_members_hold_every_endpoint_for_every_scheduler(scheduler: str) -> None:
    node = FakeNode({"members": 4096}, scheduler=scheduler)
    node.serve(service(), endpoint_slice("10.1.0.1", "10.1.0.2", "10.1.0.3"))
    assert set(node.addresses("10.96.0.1")) == {"10.1.0.1", "10.1.0.2", "10.1.0.3"}
    assert len(node.addresses("10.96.0.1")) == (1021 if scheduler == "maglev" else 3)


def test_a_maglev_table_is_not_built_again_for_the_same_endpoints() -> None:
    node = FakeNode({"members": 4096}, scheduler="maglev")
    node.serve(service(), endpoint_slice("10.1.0.1", "10.1.0.2"))
    node.history.clear()
    node.serve(service(sessionAffinity="ClientIP"))
    assert [name for name, _, _ in node.history] == ["frontends"]


def test_weighted_rounds_are_interleaved() -> None:
    assert interleaved([5, 1, 1]) == [0, 0, 1, 0, 2, 0, 0]  # as nginx describes it
    assert interleaved([4, 2]) == interleaved([2, 1])
    assert interleaved([7, 7]) == [0, 1]


@pytest.mark.parametrize("weights", [[65535, 1], [1000, 999, 3], list(range(1, 400)), [2, 3] * 600])
def test_long_rounds_are_shortened_and_leave_nobody_out(weights: list[int]) -> None:
    order = interleaved(weights)
    assert len(order) <= max(UNITS, len(weights))
    assert set(order) == set(range(len(weights)))


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.1=", "10.0.0.1=0", "10.0.0.1=x", "10.0.0.1=65536", "=3,"])
def test_weights_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        parse_weights(text)


def crc32c(data: bytes) -> int:
    """The whole way, byte for byte."""
    table, register = byte_table(), 0xFFFFFFFF
    for byte in data:
        register = register >> 8 ^ table[(register ^ byte) & 0xFF]
    return register ^ 0xFFFFFFFF


def advanced(register: int, zeros: int) -> int:
    """A register moved on by zero bytes, with the tables of the map."""
    tables = struct.unpack(f"<{STEPS * PLACES * 256}I", crc_tables())
    for step in range(STEPS):
        if zeros >> step & 1:
            found = 0
            for place in range(PLACES):
                found ^= tables[(step * PLACES + place) * 256 + (register >> 8 * place & 0xFF)]
            register = found
    assert zeros < 1 << STEPS
    return register


def test_the_checksum_is_the_known_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 9260's CRC32c, by its usual check value


def test_a_change_of_sctp_ports_needs_no_look_at_the_packet() -> None:
    chance = random.Random(9)
    for length in (12, 13, 100, 1452, 9000, 65000):
        packet = chance.randbytes(4) + bytes(8) + chance.randbytes(length - 12)
        ports = chance.randbytes(4)
        # What the changed ports make of an empty register, moved on over the rest of the packet.
        register = 0
        for byte in (a ^ b for a, b in zip(packet[:4], ports, strict=True)):
            register = advanced(register ^ byte, 1)
        corrected = crc32c(packet) ^ advanced(register, length - 4)
        assert corrected == crc32c(ports + packet[4:])
