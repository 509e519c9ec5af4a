# SPDX-License-Identifier: Apache-2.0
"""One Service port on its way into the maps: its number, its endpoints' numbers, and the extents of its sets.

Endpoints keep their number while they exist, because flows and affinity refer to it. What a plan needs is taken
before anything is written, so that a Service for which there is no room changes nothing.
"""

from array import array
from collections.abc import Sequence

from msgspec import Struct

from dataplane_ref.controller.allocate import Extents, FullError, Numbers, row
from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.maglev import SIZES
from dataplane_ref.controller.plan import PortPlan
from dataplane_ref.controller.schedule import layout
from dataplane_ref.controller.select import KEY
from dataplane_ref.controller.slices import SERVING

Extent = tuple[int, int]
NOTHING: Extent = (0, 0)


class PortState(Struct, gc=False):
    """What the maps hold for a Service port. `keys` are 18 bytes per endpoint, in order; `flags` a byte each."""

    number: int
    keys: bytes = b""
    numbers: Sequence[int] = ()
    flags: bytes = b""
    weights: Sequence[int] | None = None
    scheduler: str = ""
    cluster: Extent = NOTHING
    local: Extent = NOTHING
    cluster_members: Sequence[int] = ()
    local_members: Sequence[int] = ()
    recipe: object = None  # from what a lookup table was built

    def places(self) -> dict[bytes, int]:
        """Where each endpoint stands in `numbers`."""
        return {self.keys[start : start + KEY]: start // KEY for start in range(0, len(self.keys), KEY)}


class Change(Struct, gc=False):
    """What one Service's new state takes and gives back, and what is written before and after its frontends.

    `tables` counts the entries of lookup tables, more or fewer.
    """

    endpoints_before: list[tuple[Sequence[int], bytes]] = []
    members: list[tuple[Sequence[int], Sequence[int]]] = []
    endpoints_after: list[tuple[Sequence[int], bytes]] = []
    taken_ports: list[int] = []
    taken_endpoints: list[Sequence[int]] = []
    taken_extents: list[Extent] = []
    freed_ports: list[int] = []
    freed_endpoints: list[int] = []
    freed_extents: list[Extent] = []
    adopted: list["PortState"] = []
    tables: int = 0


class Ports:
    """Gives Service ports their numbers, and works out what is to be written. Everything here may raise FullError."""

    def __init__(self, codec: Codec, ports: int, endpoints: int, members: int) -> None:
        self.numbers = Numbers("cursors", ports)
        self.endpoints = Numbers("endpoints", endpoints)
        self.extents = Extents("members", members)
        self.generations: dict[int, int] = {}  # where it is not 0
        self.tables_room = members // 2  # entries that lookup tables may take together
        self._codec = codec
        flags = codec.endpoint_flag
        self._serving, self._on_host = flags["SERVING"], flags["ON_HOST"]
        self._in_cluster, self._in_local = flags["IN_CLUSTER"], flags["IN_LOCAL"]
        self._usual_flags = bytes([self._serving | self._in_cluster])

    def place(self, plan: PortPlan, old: PortState | None, change: Change) -> PortState:
        """The new state of a Service port."""
        if old is None:
            (number,) = self.numbers.take(1)
            change.taken_ports.append(number)
        else:
            number = old.number
        state = PortState(number, plan.selection.packed, weights=plan.weights, scheduler=plan.scheduler)
        state.flags = self._flags(plan)
        if old is None or not old.numbers:
            state.numbers = self._take(len(plan.selection.keys), change)
            change.endpoints_before.append((state.numbers, self._fresh(state, plan.selection.keys)))
        else:
            self._follow(state, old, change)
        self._sets(plan, state, old, change)
        return state

    def release(self, old: PortState, change: Change) -> None:
        """A Service port that is no more."""
        change.freed_ports.append(old.number)
        change.freed_extents += [old.cluster, old.local]
        self._forget(old.numbers, change)
        change.tables -= _tables(old)

    def undo(self, change: Change) -> None:
        """It could not be done: nobody has seen what it took."""
        self.numbers.undo(change.taken_ports)
        for numbers in change.taken_endpoints:
            self.endpoints.undo(numbers)
        for first, count in change.taken_extents:
            self.extents.undo(first, count)

    def finish(self, change: Change) -> None:
        """It is going to be done."""
        self.tables_room -= change.tables
        if change.freed_ports:
            self.numbers.give_back(change.freed_ports)
        if change.freed_endpoints:
            self.endpoints.give_back(change.freed_endpoints)
        for first, count in change.freed_extents:
            self.extents.give_back(first, count)

    def _take(self, count: int, change: Change) -> Sequence[int]:
        numbers = self.endpoints.take(count)
        change.taken_endpoints.append(numbers)
        return numbers

    def _flags(self, plan: PortPlan) -> bytes:
        chosen = plan.selection
        if type(chosen.cluster) is range and not chosen.local and not plan.on_host:
            return self._usual_flags * len(chosen.keys)
        flags = bytearray(self._serving if bits & SERVING or bits & 1 else 0 for bits in chosen.conditions)
        for place in chosen.cluster:
            flags[place] |= self._in_cluster
        for place in chosen.local:
            flags[place] |= self._in_local
        for place in plan.on_host:
            flags[place] |= self._on_host
        return bytes(flags)

    def _fresh(self, state: PortState, keys: list[bytes]) -> bytes:
        """Entries of `endpoints` for all; short work where they differ in nothing but their keys."""
        flags = state.flags
        is_even = state.weights is None and flags.count(flags[:1]) == len(flags)
        if not keys or not is_even or (self.generations and any(each in self.generations for each in state.numbers)):
            return self._values(state, range(len(keys)), flags)
        tail = self._codec.endpoint_tail(flags[0], state.number, 0, 1)
        return tail.join(keys) + tail

    def _values(self, state: PortState, places: Sequence[int], flags: bytes) -> bytes:
        """Entries of `endpoints` for some places."""
        numbers, keys, weights = state.numbers, state.keys, state.weights
        return b"".join(
            keys[place * KEY : place * KEY + KEY]
            + self._codec.endpoint_tail(
                flags[place], state.number, self.generations.get(numbers[place], 0), weights[place] if weights else 1
            )
            for place in places
        )

    def _follow(self, state: PortState, old: PortState, change: Change) -> None:
        """Endpoints that stay keep their numbers; new ones get some, and those that went lose theirs."""
        if state.keys == old.keys:
            state.numbers = old.numbers
            kept = list(range(len(old.numbers))) if (state.flags, state.weights) != (old.flags, old.weights) else []
            before_at = kept
        else:
            before = old.places()
            keys = [state.keys[start : start + KEY] for start in range(0, len(state.keys), KEY)]
            where = [before.pop(key, None) for key in keys]
            fresh = [place for place, at in enumerate(where) if at is None]
            taken = iter(self._take(len(fresh), change))
            state.numbers = row(array("I", [next(taken) if at is None else old.numbers[at] for at in where]))
            kept = [place for place, at in enumerate(where) if at is not None]
            before_at = [at for at in where if at is not None]
            change.endpoints_before.append(
                ([state.numbers[place] for place in fresh], self._values(state, fresh, state.flags))
            )
            self._forget([old.numbers[at] for at in before.values()], change)
        self._update(state, kept, old, before_at, change)

    def _update(
        self, state: PortState, kept: list[int], old: PortState, before_at: list[int], change: Change
    ) -> None:
        """Flags that are won must be there before the sets say so, flags that are lost until they do not any more."""
        gaining, losing = [], []
        both = bytearray(state.flags)
        for place, at in zip(kept, before_at, strict=True):
            new, was = state.flags[place], old.flags[at]
            heavier = state.weights[place] if state.weights else 1
            if new & ~was or heavier != (old.weights[at] if old.weights else 1):
                gaining.append(place)
                both[place] = new | was
            if was & ~new:
                losing.append(place)
        for places, flags, writes in (
            (gaining, bytes(both), change.endpoints_before),
            (losing, state.flags, change.endpoints_after),
        ):
            if places:
                writes.append(([state.numbers[place] for place in places], self._values(state, places, flags)))

    def _forget(self, numbers: Sequence[int], change: Change) -> None:
        change.freed_endpoints.extend(numbers)

    def forgotten(self, numbers: Sequence[int]) -> bytes:
        """Entries of `endpoints` for numbers that nobody has: without address or flags, in the next generation."""
        nobody = b"\0" * KEY
        values = []
        for number in numbers:
            generation = self.generations[number] = self.generations.get(number, 0) + 1
            values.append(nobody + self._codec.endpoint_tail(0, 0, generation, 1))
        return b"".join(values)

    def _sets(self, plan: PortPlan, state: PortState, old: PortState | None, change: Change) -> None:
        chosen = plan.selection
        if plan.scheduler == "maglev":
            # Building a table takes up to 0.1 s: not again for the same endpoints.
            state.recipe = (state.keys, tuple(chosen.cluster), tuple(chosen.local), tuple(plan.weights or ()))
            if old is not None and old.recipe == state.recipe and old.numbers == state.numbers:
                state.cluster, state.cluster_members = old.cluster, old.cluster_members
                state.local, state.local_members = old.local, old.local_members
                return
        before = old or _NEW
        # What its own tables take is there for those in their place: after a restart they are of the same size.
        room = max(self.tables_room + _tables(before), SIZES[0])
        state.cluster_members = members = self._members(plan, state, chosen.cluster, room)
        if members != before.cluster_members:
            state.cluster = self._move(members, before.cluster, change)
        else:
            state.cluster = before.cluster
        if chosen.local or before.local_members:
            state.local_members = members = self._members(plan, state, chosen.local, room)
            is_same = members == before.local_members
            state.local = before.local if is_same else self._move(members, before.local, change)
        if "maglev" in (state.scheduler, before.scheduler):
            change.tables += _tables(state) - _tables(before)

    def _members(self, plan: PortPlan, state: PortState, places: Sequence[int], room: int) -> Sequence[int]:
        numbers = state.numbers
        if not places:
            return ()
        if plan.scheduler not in ("maglev", "wrr"):
            return numbers if type(places) is range else row(array("I", [numbers[place] for place in places]))
        keys = plan.selection.keys
        weights = plan.weights or [1] * len(keys)
        order = layout(plan.scheduler, places, keys, weights, room)
        return array("I", [numbers[place] for place in order])

    def _move(self, members: Sequence[int], before: Extent, change: Change) -> Extent:
        """Where these members stand: elsewhere than those before, until every frontend has switched to it."""
        if before[1]:
            change.freed_extents.append(before)
        if not members:
            return NOTHING
        count = len(members)
        first = self.extents.take(count)
        change.taken_extents.append((first, count))
        change.members.append((range(first, first + count), members))
        return first, count


_NEW = PortState(0)


def _tables(state: PortState) -> int:
    """Entries of lookup tables."""
    return state.cluster[1] + state.local[1] if state.scheduler == "maglev" else 0


__all__ = ["Change", "FullError", "PortState", "Ports"]
