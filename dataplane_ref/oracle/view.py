# SPDX-License-Identifier: Apache-2.0
"""One node as the oracle sees it: the datapath's programs, loaded, and its maps, filled by the controller's own code.

Nothing is attached to any interface: programs run on packets they are given, decide, write the decision down, and
change nothing.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil, log

from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.packed import text
from dataplane_ref.loader import BpfObject, Loaded, Program
from dataplane_ref.oracle.answer import Answer, AnswerOutcome, At, Entry

INGRESS, EGRESS = "plumbline_ingress", "plumbline_egress"
# Decisions that are kept; ask_many reads them whenever so many have been made.
RING = 4096
# Nothing is remembered of flows, so that these tables need no room.
SIZES = {"flows": 1, "affinities": 1, "fragments": 64, "verdicts": RING}
# BPF_PROG_TEST_RUN gives a packet the loopback interface, unless it is told otherwise.
IFINDEX = 1
# How sure a series of runs shall be to have met every endpoint, and how long it may be.
MISSES, MOST_RUNS = 1e-6, 1024
OUTCOMES: Mapping[str, AnswerOutcome] = {
    "PASSED": "passed",
    "ANSWERED_BY": "reply",
    "REFUSED": "refused",
    "DROPPED": "dropped",
}
FIELDS = ("outcome", "source", "reason", "endpoint", "allowed.first", "allowed.count", "client")


@dataclass(frozen=True, slots=True)
class Decision:
    """A `struct verdict`, as numbers: `client` is the 16 bytes of the source that the endpoint sees."""

    outcome: int
    source: int
    reason: int
    endpoint: int
    first: int
    count: int
    client: bytes


class View:
    """A node's maps and programs. Close it when it is not asked any more."""

    def __init__(self, node: str, object_: BpfObject, codec: Codec) -> None:
        """Raises LoadError."""
        self.node = node
        self.loaded: Loaded = object_.load(sizes=SIZES, programs=(INGRESS, EGRESS))
        self._codec = codec
        self._layout = object_.layouts["verdict"].struct(*FIELDS)
        self._outcomes = {
            number: OUTCOMES[name] for name, number in object_.enums["outcome"].items() if name in OUTCOMES
        }
        self._counters = {number: name for name, number in object_.enums["counter"].items()}
        self._verdicts = self.loaded.maps["verdicts"].mmap()
        self._decisions = self.loaded.maps["decisions"].mmap()
        self._made = memoryview(self._decisions).cast("Q")
        self._sets: dict[tuple[int, int], dict[int, At]] = {}
        self._device: int | None = None

    def close(self) -> None:
        self._made.release()
        self._verdicts.close()
        self._decisions.close()
        self.loaded.close()

    def changed(self) -> None:
        """The maps hold something else than before."""
        self._sets.clear()

    def decide(self, packet: bytes, entry: Entry, device: int) -> Answer:
        """What becomes of a packet that comes in by an interface with these flags, or that a process here sends."""
        first = self._run(packet, entry, device, 1)
        if not first:
            return Answer("passed", node=self.node)
        known = self.endpoints(first[0])
        more = self._run(packet, entry, device, enough(len(known))) if len(known) > 1 else []
        return self.answer([*first, *more])

    def decide_many(self, packets: Iterable[bytes], entry: Entry, device: int) -> "tuple[Sequence[int], bytes]":
        """For each packet which decision is its own, or -1 where it called for none; and the decisions' bytes."""
        self._set_device(device)
        run = self._program(entry).runner(1 << 16)
        made, start = self._made, self._made[0]
        drained = start - start % RING
        chunks, places = [], []
        before = start
        for packet in packets:
            if before - drained == RING:
                chunks.append(self._verdicts[: RING * self._layout.size])
                drained = before
            run(packet)
            after = made[0]
            places.append(before - start if after != before else -1)
            before = after
        chunks.append(self._verdicts[: RING * self._layout.size])
        offset = start % RING * self._layout.size
        return places, b"".join(chunks)[offset:]

    def decision(self, data: bytes, place: int) -> Decision:
        """A decision out of the bytes of many."""
        return Decision(*self._layout.unpack_from(data, place * self._layout.size))

    def endpoints(self, decision: Decision) -> dict[int, At]:
        """Numbers and addresses of all endpoints that a decision was free to choose: read from the maps."""
        extent = decision.first, decision.count
        if extent not in self._sets:
            members, endpoints = self.loaded.maps["members"], self.loaded.maps["endpoints"]
            numbers = {_number(members.get(_key(decision.first + place))) for place in range(decision.count)}
            self._sets[extent] = {number: self._endpoint(endpoints.get(_key(number))) for number in sorted(numbers)}
        return self._sets[extent]

    def answer(self, decisions: Sequence[Decision]) -> Answer:
        """Several decisions about the same packet, as one answer."""
        kinds = [self._outcomes[kind] for kind, _ in groupby(decisions, key=lambda one: one.outcome)]
        first = decisions[0]
        if kinds != ["reply"]:
            reason = self._counters[first.reason] if kinds == ["dropped"] else None
            return Answer(kinds[0], node=self.node, reason=reason)
        known = self.endpoints(first)
        sources = {known[one.endpoint]: text(one.client) for one in decisions if one.endpoint in known}
        return Answer("reply", frozenset(known.values()), sources, self.node)

    def _run(self, packet: bytes, entry: Entry, device: int, count: int) -> list[Decision]:
        self._set_device(device)
        start = self._made[0]
        self._program(entry).run(packet, repeat=count, out=False)
        size = self._layout.size
        return [
            self.decision(self._verdicts[at * size : (at + 1) * size], 0)
            for at in (number % RING for number in range(start, self._made[0]))
        ]

    def _program(self, entry: Entry) -> Program:
        return self.loaded.programs[EGRESS if entry == "process" else INGRESS]

    def _set_device(self, flags: int) -> None:
        if flags != self._device:
            self.loaded.maps["devices"].put(_key(IFINDEX), _key(flags))
            self._device = flags

    def _endpoint(self, value: bytes | None) -> At:
        address, port, *_ = self._codec.endpoint.unpack(value or bytes(self._codec.endpoint.size))
        return text(address), int.from_bytes(port, "big")


def enough(endpoints: int) -> int:
    """Random choices among so many, after which one of them is unmet with a probability of at most MISSES."""
    return min(MOST_RUNS, ceil(log(MISSES / endpoints) / log(1 - 1 / endpoints)))


def _key(number: int) -> bytes:
    return struct.pack("=I", number)


def _number(value: bytes | None) -> int:
    return int(struct.unpack("=I", value or b"\xff" * 4)[0])
