# SPDX-License-Identifier: Apache-2.0
"""A map in the kernel: entries one by one or many at a time."""

import ctypes
import errno
import mmap as memory
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dataplane_ref.loader import syscalls
from dataplane_ref.loader.errors import LoadError, MapFullError
from dataplane_ref.loader.syscalls import ENOTSUPP, Batch, Element, bpf

PERCPU = frozenset((5, 6, 10, 21))  # PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH, PERCPU_CGROUP_STORAGE
F_MMAPABLE = 1 << 10
_CHUNK = 1 << 16  # entries per system call: some 30 ms, after which a signal is heard
_LOOK = 4096  # entries asked for at once; more when one bucket of a hash holds more
_FULL = (errno.E2BIG, errno.ENOSPC, errno.ENOMEM)
# Free entries come from a store that an interrupt fills again: at once, or, in User-Mode Linux, with the clock's next
# tick, until when there is "no memory" for more than some hundred new entries.
_TICK, _TICKS = 0.01, 20
_NO_BATCH = (ENOTSUPP, errno.EOPNOTSUPP, errno.EINVAL)


class Definition(NamedTuple):
    """What a map is made as. Sizes in bytes; BTF types where the object has them."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    key_type: int = 0
    value_type: int = 0
    data: bytes | None = None  # of a section with constants or variables: the value at index 0


class Map:
    """An open map. Keys and values are bytes of exactly `key_size` and `value_bytes`.

    `value_bytes` is `value_size`, but where each CPU has a value of its own: there it is that of all possible CPUs
    one after the other, each rounded up to 8 bytes (`per_cpu` takes them apart).
    """

    def __init__(self, fd: int, definition: Definition, *, is_adopted: bool = False) -> None:
        self.fd = fd
        self.name, self.type, self.key_size, self.value_size, self.max_entries, self.flags, *_ = definition
        self.is_adopted = is_adopted
        is_per_cpu = self.type in PERCPU
        self._one_value = -(-self.value_size // 8) * 8 if is_per_cpu else self.value_size
        self.value_bytes = self._one_value * possible_cpus() if is_per_cpu else self.value_size

    def __repr__(self) -> str:
        return f"Map({self.name}, fd {self.fd})"

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def get(self, key: bytes) -> bytes | None:
        """The value, or None. Raises OSError."""
        value = ctypes.create_string_buffer(self.value_bytes)
        attributes = Element(self.fd, self._key(key), None, 0)
        ctypes.c_void_p.from_buffer(attributes, Element.value.offset).value = ctypes.addressof(value)
        return value.raw if self._call(syscalls.MAP_LOOKUP_ELEM, attributes) else None

    def put(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Write an entry. Raises MapFullError, ValueError (another size), OSError."""
        if len(value) != self.value_bytes:
            raise ValueError(f"a value of map {self.name} has {self.value_bytes} bytes, not {len(value)}")
        attributes = Element(self.fd, self._key(key), value, flags)
        for ticks_left in reversed(range(_TICKS)):
            try:
                bpf(syscalls.MAP_UPDATE_ELEM, attributes)
                return
            except OSError as error:
                if error.errno != errno.ENOMEM or not ticks_left:
                    raise self._full(error, 0) from error
            time.sleep(_TICK)

    def delete(self, key: bytes) -> bool:
        """Whether there was such an entry. Raises OSError."""
        return self._call(syscalls.MAP_DELETE_ELEM, Element(self.fd, self._key(key), None, 0))

    def per_cpu(self, key: bytes) -> list[bytes]:
        """Each possible CPU's value; one value for a map that all share. Raises KeyError, OSError."""
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return [found[at : at + self.value_size] for at in range(0, len(found), self._one_value)]

    def put_many(self, keys: bytes, values: bytes, count: int) -> None:
        """Write `count` entries that stand one after the other. Raises MapFullError, ValueError, OSError."""
        self._check_many(keys, count, self.key_size)
        self._check_many(values, count, self.value_bytes)
        where_keys, where_values = syscalls.address(keys), syscalls.address(values)
        done, ticks_left = 0, _TICKS
        while done < count:
            attributes = Batch(
                None, None, where_keys + done * self.key_size, where_values + done * self.value_bytes,
                min(count - done, _CHUNK), self.fd, 0, 0,
            )  # fmt: skip
            try:
                bpf(syscalls.MAP_UPDATE_BATCH, attributes)
            except OSError as error:
                if error.errno in _NO_BATCH:
                    self._put_singly(keys, values, done, count)
                    return
                ticks_left = _TICKS if attributes.count else ticks_left - 1
                if error.errno != errno.ENOMEM or not ticks_left:
                    raise self._full(error, done + attributes.count) from error
                time.sleep(_TICK)
            done += attributes.count

    def delete_many(self, keys: bytes, count: int) -> int:
        """Remove `count` keys that stand one after the other; how many of them were there. Raises OSError."""
        self._check_many(keys, count, self.key_size)
        where = syscalls.address(keys)
        at = removed = 0
        while at < count:
            attributes = Batch(None, None, where + at * self.key_size, None, min(count - at, _CHUNK), self.fd, 0, 0)
            try:
                bpf(syscalls.MAP_DELETE_BATCH, attributes)
            except FileNotFoundError:  # the key after those that it has removed
                removed += attributes.count
                at += attributes.count + 1
                continue
            except OSError as error:
                if error.errno not in _NO_BATCH:
                    raise
                return removed + sum(self.delete(self._nth(keys, number)) for number in range(at, count))
            removed += attributes.count
            at += attributes.count
        return removed

    def keys(self) -> Iterator[bytes]:
        """All keys; see items."""
        size = self.key_size
        for keys, _, count in self.batches():
            yield from (keys[at : at + size] for at in range(0, count * size, size))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries. What comes or goes meanwhile may be in it or not; all others are there. Raises OSError."""
        size, value_size = self.key_size, self.value_bytes
        for keys, values, count in self.batches():
            for number in range(count):
                yield (
                    keys[number * size : (number + 1) * size],
                    values[number * value_size : (number + 1) * value_size],
                )

    def batches(self) -> Iterator[tuple[bytes, bytes, int]]:
        """The same some thousands at a time: keys, values and how many there are of each. Raises OSError."""
        room = min(_LOOK, max(self.max_entries, 1))
        keys, values = _buffers(room, self)
        place = ctypes.create_string_buffer(max(8, self.key_size))
        attributes = Batch(None, ctypes.addressof(place), 0, 0, 0, self.fd, 0, 0)
        is_last = False
        while not is_last:
            attributes.keys, attributes.values = ctypes.addressof(keys), ctypes.addressof(values)
            attributes.count = room
            try:
                bpf(syscalls.MAP_LOOKUP_BATCH, attributes)
            except FileNotFoundError:
                is_last = True
            except OSError as error:
                if error.errno == errno.ENOSPC:  # one bucket holds more than there is room for
                    room *= 2
                    keys, values = _buffers(room, self)
                    continue
                if error.errno == errno.EINTR:
                    continue
                if error.errno in _NO_BATCH and attributes.in_batch is None:
                    yield from self._walk()
                    return
                raise
            attributes.in_batch = ctypes.addressof(place)
            count = attributes.count
            if count:
                yield (
                    ctypes.string_at(keys, count * self.key_size),
                    ctypes.string_at(values, count * self.value_bytes),
                    count,
                )

    def mmap(self) -> memory.mmap:
        """The values of an array made with BPF_F_MMAPABLE, shared with the kernel; each begins at a multiple of 8.

        It stays usable after the map is closed. Raises LoadError for another map.
        """
        if not self.flags & F_MMAPABLE:
            raise LoadError(f"map {self.name} cannot be mapped into memory: it lacks the flag BPF_F_MMAPABLE")
        size = -(-self.value_size // 8) * 8 * self.max_entries
        return memory.mmap(self.fd, -(-size // memory.PAGESIZE) * memory.PAGESIZE)

    def pin(self, path: Path) -> None:
        """Keep the map beyond this process, under a name on a bpffs. Raises LoadError."""
        pin(self.fd, path)

    def _walk(self) -> Iterator[tuple[bytes, bytes, int]]:
        key: bytes | None = None
        while True:
            following = ctypes.create_string_buffer(self.key_size)
            attributes = Element(self.fd, key, None, 0)
            ctypes.c_void_p.from_buffer(attributes, Element.value.offset).value = ctypes.addressof(following)
            if not self._call(syscalls.MAP_GET_NEXT_KEY, attributes):
                return
            key = following.raw
            value = self.get(key)
            if value is not None:
                yield key, value, 1

    def _put_singly(self, keys: bytes, values: bytes, start: int, count: int) -> None:
        for number in range(start, count):
            at = number * self.value_bytes
            try:
                self.put(self._nth(keys, number), bytes(values[at : at + self.value_bytes]))
            except MapFullError as error:
                raise MapFullError(str(error), number) from error

    def _nth(self, keys: bytes, number: int) -> bytes:
        return bytes(keys[number * self.key_size : (number + 1) * self.key_size])

    def _key(self, key: bytes) -> bytes:
        if len(key) != self.key_size:
            raise ValueError(f"a key of map {self.name} has {self.key_size} bytes, not {len(key)}")
        return key

    def _check_many(self, data: bytes, count: int, size: int) -> None:
        if len(data) != count * size:
            raise ValueError(f"{count} times {size} bytes for map {self.name} are not {len(data)}")

    def _call(self, command: int, attributes: Element) -> bool:
        try:
            bpf(command, attributes)
        except FileNotFoundError:
            return False
        return True

    def _full(self, error: OSError, written: int) -> OSError | MapFullError:
        if error.errno not in _FULL:
            return error
        if error.errno == errno.ENOMEM:
            return MapFullError(f"there is no memory for another entry of map {self.name}", written)
        return MapFullError(f"map {self.name} is full: it has room for {self.max_entries} entries", written)


def possible_cpus() -> int:
    """How many CPUs the kernel keeps values for: /sys/devices/system/cpu/possible, such as 0-3,5."""
    total = 0
    for part in Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").strip().split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def pin(fd: int, path: Path) -> None:
    """Keep what is open beyond this process, under a name on a bpffs. Raises LoadError."""
    try:
        syscalls.pin(fd, str(path))
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EINVAL):
            where = path.parent
            raise LoadError(f"{where} is on no bpffs: type mount -t bpf bpf {where}") from error
        raise LoadError(f"{path} cannot be pinned: {os.strerror(error.errno or 0)}") from error


def _buffers(room: int, of: Map) -> tuple["ctypes.Array[ctypes.c_char]", "ctypes.Array[ctypes.c_char]"]:
    return (
        ctypes.create_string_buffer(room * of.key_size),
        ctypes.create_string_buffer(room * of.value_bytes),
    )
