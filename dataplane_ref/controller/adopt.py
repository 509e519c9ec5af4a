# SPDX-License-Identifier: Apache-2.0
"""What an earlier process left in pinned maps: who had which number, so that live flows go on after a restart."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from dataplane_ref.controller.allocate import row
from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.mirror import MapLike
from dataplane_ref.controller.plan import Ranges
from dataplane_ref.controller.ports import NOTHING, Extent, Ports, PortState
from dataplane_ref.controller.schedule import SCHEDULERS
from dataplane_ref.controller.select import KEY


class Adopted(Struct):
    """Service ports by their frontends' keys. `orphans` are numbers of endpoints of Service ports without one."""

    by_frontend: dict[bytes, PortState]
    ranges: dict[bytes, tuple[int, Ranges]]
    orphans: list[int]
    generations: dict[int, int]
    touched: int
    next_set: int
    _claimed: set[int] = set()

    @classmethod
    def read(
        cls,
        maps: Mapping[str, MapLike],
        codec: Codec,
        frontends: Mapping[bytes, bytes],
        source_ranges: Mapping[bytes, bytes],
    ) -> "Adopted":
        """From the maps as they are."""
        words = {codec.scheduler[name]: word for word, name in SCHEDULERS.items()}
        members = array("I")
        for _, values, _ in maps["members"].batches():
            members.frombytes(values)
        ports: dict[int, PortState] = {}
        by_frontend: dict[bytes, PortState] = {}
        used: dict[bytes, int] = {}
        for key, value in frontends.items():
            number, _, scheduler, _, _, ranges, first, count, local_first, local_count = codec.frontend.unpack(value)
            port = ports.get(number)
            if port is None:
                port = ports[number] = PortState(number, scheduler=words.get(scheduler, "random"))
                port.cluster, port.cluster_members = _extent(members, first, count)
                port.local, port.local_members = _extent(members, local_first, local_count)
            by_frontend[key] = port
            if ranges:
                used[key] = ranges
        orphans, generations, touched = _read_endpoints(maps["endpoints"], codec, ports)
        sets: dict[int, list[tuple[bytes, int]]] = {}
        for key in source_ranges:
            bits, number, base = codec.range_key.unpack(key)
            sets.setdefault(number, []).append((base, bits - 32))
        ranges_of = {key: (number, tuple(sorted(sets.get(number, ())))) for key, number in used.items()}
        return cls(by_frontend, ranges_of, orphans, generations, touched, max(sets, default=0) + 1)

    def hand_over(self, ports: Ports) -> None:
        """Make the numbers that are in use taken."""
        owners = self._all()
        ports.generations = dict(self.generations)
        ports.numbers.adopt((port.number for port in owners), 0)
        numbers = [number for port in owners for number in port.numbers]
        ports.endpoints.adopt([*numbers, *self.orphans], self.touched)
        ports.extents.adopt({extent for port in owners for extent in (port.cluster, port.local) if extent[1]})
        tables = sum(port.cluster[1] + port.local[1] for port in owners if port.scheduler == "maglev")
        ports.tables_room -= tables

    def claim(self, frontends: Iterable[bytes]) -> PortState | None:
        """The Service port that had one of these frontends, if nobody has it yet."""
        for key in frontends:
            port = self.by_frontend.get(key)
            if port is not None and port.number not in self._claimed:
                self._claimed.add(port.number)
                return port
        return None

    def ranges_of(self, frontends: Iterable[bytes], wanted: Ranges) -> int:
        """The number of the set of source ranges that one of these frontends has, if it is the wanted one; else 0."""
        for key in frontends:
            number, ranges = self.ranges.get(key, (0, ()))
            if number and ranges == wanted:
                return number
        return 0

    def unclaimed(self) -> Iterator[PortState]:
        """Service ports that nobody has claimed."""
        return (port for port in self._all() if port.number not in self._claimed)

    def _all(self) -> list[PortState]:
        return list({port.number: port for port in self.by_frontend.values()}.values())


def _extent(members: "array[int]", first: int, count: int) -> tuple[Extent, Sequence[int]]:
    if not count:
        return NOTHING, ()
    return (first, count), row(members[first : first + count])


def _read_endpoints(
    endpoints: MapLike, codec: Codec, ports: Mapping[int, PortState]
) -> tuple[list[int], dict[int, int], int]:
    """Fill in the ports' endpoints; orphans, generations, and above which number nothing was ever written."""
    found: dict[int, list[tuple[bytes, int, int, int]]] = {}
    orphans: list[int] = []
    generations: dict[int, int] = {}
    first = touched = 0
    size = codec.endpoint.size
    for _, values, count in endpoints.batches():
        if values.count(0) < len(values):
            for place, (address, port, flags, number, generation, weight) in enumerate(
                codec.endpoint.iter_unpack(values[: count * size])
            ):
                if generation:
                    generations[first + place] = generation
                if generation or weight:
                    touched = first + place + 1
                if port == b"\0\0":
                    continue
                if number in ports:
                    found.setdefault(number, []).append((address + port, first + place, flags, weight))
                else:
                    orphans.append(first + place)
        first += count
    for number, listed in found.items():
        listed.sort()
        state = ports[number]
        state.keys = b"".join(key for key, _, _, _ in listed)
        state.numbers = row(array("I", [each for _, each, _, _ in listed]))
        state.flags = bytes(flags & 0xFF for _, _, flags, _ in listed)
        weights = [weight for _, _, _, weight in listed]
        state.weights = weights if any(weight != 1 for weight in weights) else None
    assert KEY == 18
    return orphans, generations, touched
