# SPDX-License-Identifier: Apache-2.0
"""Maps as the controller knows them: what is in a hash table, and what is to be written next."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from dataplane_ref.controller.allocate import packed


class MapLike(Protocol):
    """What is used of the loader's Map."""

    key_size: int
    value_size: int
    max_entries: int

    def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes, flags: int = 0) -> None: ...
    def put_many(self, keys: bytes, values: bytes, count: int) -> None: ...
    def delete(self, key: bytes) -> bool: ...
    def delete_many(self, keys: bytes, count: int) -> int: ...
    def items(self) -> Iterator[tuple[bytes, bytes]]: ...
    def batches(self) -> Iterator[tuple[bytes, bytes, int]]: ...


class Mirror:
    """A hash table of which only this process writes, so that it is written only where it changes.

    `put` and `drop` say what it shall hold; `write` and `remove` do it, apart from each other, because what is new
    must be there before anything that it replaces goes.
    """

    def __init__(self, of: MapLike) -> None:
        self.map = of
        self.written: dict[bytes, bytes] = {}
        self._puts: dict[bytes, bytes] = {}
        self._drops: set[bytes] = set()

    @property
    def room(self) -> int:
        """Entries that fit still, what is to be written included."""
        return self.map.max_entries - len(self.written) - len(self._puts)

    def adopt(self) -> None:
        """Take over what the map holds."""
        self.written = dict(self.map.items())

    def put(self, key: bytes, value: bytes) -> None:
        self._drops.discard(key)
        if self.written.get(key) == value:
            self._puts.pop(key, None)
        else:
            self._puts[key] = value

    def drop(self, key: bytes) -> None:
        self._puts.pop(key, None)
        if key in self.written:
            self._drops.add(key)

    def holds(self, key: bytes) -> bool:
        """Whether there is such an entry, or shall be."""
        return key in self.written or key in self._puts

    def wanted(self, key: bytes) -> bytes:
        """What an entry is, or shall be. Raises KeyError."""
        return self._puts[key] if key in self._puts else self.written[key]

    def keep_only(self, wanted: Iterable[bytes]) -> None:
        """Drop everything else: what an earlier process left."""
        for key in self.written.keys() - set(wanted):
            self.drop(key)

    def write(self) -> int:
        """Write what is new or changed; how many entries. What raises MapFullError is tried again the next time."""
        count = len(self._puts)
        if count == 1:
            ((key, value),) = self._puts.items()
            self.map.put(key, value)
        elif count:
            self.map.put_many(b"".join(self._puts), b"".join(self._puts.values()), count)
        self.written.update(self._puts)
        self._puts.clear()
        return count

    def remove(self) -> int:
        """Remove what is not wanted any more; how many entries."""
        count = len(self._drops)
        if count:
            self.map.delete_many(b"".join(self._drops), count)
            for key in self._drops:
                del self.written[key]
            self._drops.clear()
        return count


class Rows:
    """Numbers in their order; those that go on from the ones before cost nothing."""

    def __init__(self) -> None:
        self._done: list[Sequence[int]] = []
        self._row = range(0)

    def add(self, numbers: Sequence[int]) -> None:
        if type(numbers) is not range:
            self._done += [self._row, numbers]
            self._row = range(0)
        elif numbers.start == self._row.stop:
            self._row = range(self._row.start, numbers.stop)
        else:
            self._done.append(self._row)
            self._row = numbers

    def take(self) -> bytes:
        """All of them as entries of a map; then there are none."""
        taken = b"".join(map(packed, (*self._done, self._row)))
        self._done.clear()
        self._row = range(0)
        return taken


class ArrayWrites:
    """Entries of an array that are to be written together."""

    def __init__(self, of: MapLike) -> None:
        self.map = of
        self._keys = Rows()
        self._values: list[bytes] = []

    def add(self, numbers: Sequence[int], values: bytes) -> None:
        """Values that stand one after the other, for as many numbers."""
        if numbers:
            self._keys.add(numbers)
            self._values.append(values)

    def extend(self, others: "Iterable[tuple[Sequence[int], bytes]]") -> None:
        for numbers, values in others:
            self.add(numbers, values)

    def write(self) -> int:
        """Write them; how many."""
        values = b"".join(self._values)
        self._values.clear()
        return _put(self.map, self._keys.take(), values)


class NumberWrites:
    """The same for an array of numbers."""

    def __init__(self, of: MapLike) -> None:
        self.map = of
        self._keys, self._values = Rows(), Rows()

    def add(self, numbers: Sequence[int], values: Sequence[int]) -> None:
        self._keys.add(numbers)
        self._values.add(values)

    def write(self) -> int:
        """Write them; how many."""
        return _put(self.map, self._keys.take(), self._values.take())


def _put(into: MapLike, keys: bytes, values: bytes) -> int:
    count = len(keys) // 4
    if count == 1:
        into.put(keys, values)
    elif count:
        into.put_many(keys, values, count)
    return count
