# SPDX-License-Identifier: Apache-2.0
"""Numbers and extents: who owns which entry of the arrays.

What is given back can be taken again only after `release`: until the frontends that refer to it are written anew, a
packet may still find its way there.
"""

from array import array
from collections.abc import Iterable, Sequence
from operator import eq


class FullError(Exception):
    """A map has no room; says which, and how many entries it has."""

    def __init__(self, what: str, size: int) -> None:
        super().__init__(f"the map `{what}` is full ({size:,} entries)")


class Numbers:
    """Numbers below `size`, each owned by one thing at a time."""

    def __init__(self, what: str, size: int) -> None:
        self.what, self.size = what, size
        self._next = 0
        self._free: list[int] = []
        self._returned: list[int] = []

    @property
    def room(self) -> int:
        """How many can be taken now."""
        return self.size - self._next + len(self._free)

    @property
    def untouched(self) -> int:
        """From here on no number was ever owned."""
        return self._next

    def take(self, count: int) -> Sequence[int]:
        """So many numbers, in a row while there are unused ones: late reuse tells old from new. Raises FullError."""
        if self.size - self._next >= count:
            self._next += count
            return range(self._next - count, self._next)
        if self.room < count:
            raise FullError(self.what, self.size)
        fresh = range(self._next, self.size)
        self._next = self.size
        rest = count - len(fresh)
        old = self._free[:rest]
        del self._free[:rest]
        return [*fresh, *old]

    def give_back(self, numbers: Iterable[int]) -> None:
        """They are not needed any more, but may still be referred to."""
        self._returned.extend(numbers)

    def undo(self, numbers: Iterable[int]) -> None:
        """They were taken for nothing, and nothing has referred to them."""
        self._free.extend(numbers)

    def release(self) -> bool:
        """Nothing refers to what was given back: it may be taken. True if there was any."""
        self._free.extend(self._returned)
        released = bool(self._returned)
        self._returned.clear()
        return released

    def adopt(self, owned: Iterable[int], touched: int) -> None:
        """Begin with these owned, and every other number below `touched` free."""
        taken = set(owned)
        self._next = min(max(touched, max(taken, default=-1) + 1), self.size)
        self._free = [number for number in range(self._next) if number not in taken]


class Extents:
    """Stretches of an array of `size` entries."""

    def __init__(self, what: str, size: int) -> None:
        self.what, self.size = what, size
        self._next = 0
        self._free: dict[int, list[int]] = {}  # length → where such stretches begin
        self._returned: list[tuple[int, int]] = []

    def take(self, count: int) -> int:
        """Where a stretch of that length begins. Raises FullError where none is free in one piece."""
        if not count:
            return 0
        fitting = self._free.get(count)
        if fitting:
            return fitting.pop()
        if self.size - self._next >= count:
            self._next += count
            return self._next - count
        start = self._cut(count)
        if start is None:
            self._merge()
            start = self._cut(count)
        if start is None:
            raise FullError(self.what, self.size)
        return start

    def undo(self, first: int, count: int) -> None:
        """It was taken for nothing, and nothing has referred to it."""
        if count:
            self._free.setdefault(count, []).append(first)

    def give_back(self, first: int, count: int) -> None:
        """It is not needed any more, but may still be referred to."""
        if count:
            self._returned.append((first, count))

    def release(self) -> bool:
        """Nothing refers to what was given back: it may be taken. True if there was any."""
        released = bool(self._returned)
        for first, count in self._returned:
            self._free.setdefault(count, []).append(first)
        self._returned.clear()
        return released

    def adopt(self, owned: Iterable[tuple[int, int]]) -> None:
        """Begin with these stretches (first, count) owned."""
        self._free.clear()
        self._next = 0
        for first, count in sorted(owned):
            if first > self._next:
                self._free.setdefault(first - self._next, []).append(self._next)
            self._next = max(self._next, first + count)

    def _cut(self, count: int) -> int | None:
        """Out of the smallest stretch that is long enough."""
        long_enough = min(
            (length for length, starts in self._free.items() if starts and length >= count), default=None
        )
        if long_enough is None:
            if self.size - self._next < count:
                return None
            self._next += count
            return self._next - count
        start = self._free[long_enough].pop()
        if long_enough > count:
            self._free.setdefault(long_enough - count, []).append(start + count)
        return start

    def _merge(self) -> None:
        """Join free stretches that touch."""
        stretches = sorted((start, length) for length, starts in self._free.items() for start in starts)
        self._free.clear()
        merged: list[tuple[int, int]] = []
        for start, length in stretches:
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        if merged and sum(merged[-1]) == self._next:
            self._next = merged.pop()[0]
        for start, length in merged:
            self._free.setdefault(length, []).append(start)


def row(numbers: Sequence[int]) -> Sequence[int]:
    """The same numbers, as a range if they are one."""
    if numbers and numbers[-1] - numbers[0] == len(numbers) - 1:
        whole = range(numbers[0], numbers[-1] + 1)
        if all(map(eq, numbers, whole)):
            return whole
    return numbers


def packed(numbers: Sequence[int]) -> bytes:
    """Numbers as entries of a map."""
    return array("I", numbers).tobytes()
