# SPDX-License-Identifier: Apache-2.0
"""Maps in the kernel: entries one by one and many at a time, full maps, memory shared with the kernel."""

import errno
import re
from collections.abc import Callable

import pytest

from dataplane_ref.loader import Loaded, LoadError, Map, MapFullError, possible_cpus, syscalls
from dataplane_ref.loader import maps as maps_module
from tests.datapath.conftest import needs_root

# What each kind of map is called in the fixture.
HASH, ARRAY, TRIE, LRU, PER_CPU = "flows", "members", "source_ranges", "fragments", "counters"


def key(one: Map, number: int) -> bytes:
    if one.name == TRIE:
        return (128).to_bytes(4, "little") + number.to_bytes(4, "little") + bytes(16)
    return number.to_bytes(4, "little") + bytes(one.key_size - 4)


def value(one: Map, number: int) -> bytes:
    return (number % 251).to_bytes(1, "little") * one.value_bytes


def fill(one: Map, count: int) -> tuple[bytes, bytes]:
    keys = b"".join(key(one, number) for number in range(count))
    values = b"".join(value(one, number) for number in range(count))
    one.put_many(keys, values, count)
    return keys, values


@pytest.fixture
def no_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that has no batches (they came with 5.6, for tries with 5.13)."""
    real = syscalls.bpf
    batches = (syscalls.MAP_LOOKUP_BATCH, syscalls.MAP_UPDATE_BATCH, syscalls.MAP_DELETE_BATCH)

    def bpf(command: int, attributes: object) -> int:
        if command in batches:
            raise OSError(syscalls.ENOTSUPP, "not supported")
        return real(command, attributes)  # type: ignore[arg-type]

    monkeypatch.setattr(maps_module, "bpf", bpf)


def one_by_one(one: Map) -> None:
    assert one.get(key(one, 7)) is None
    assert one.delete(key(one, 7)) is False
    one.put(key(one, 7), value(one, 1))
    one.put(key(one, 7), value(one, 2))
    assert one.get(key(one, 7)) == value(one, 2)
    assert list(one.items()) == [(key(one, 7), value(one, 2))]
    assert one.delete(key(one, 7)) is True
    assert list(one.keys()) == []


def many(one: Map) -> None:
    keys, _ = fill(one, 1000)
    assert dict(one.items()) == {key(one, number): value(one, number) for number in range(1000)}
    assert sorted(one.keys()) == sorted(key(one, number) for number in range(1000))
    some = b"".join(key(one, number) for number in (5, 5000, 6, 6, 7001, 999))
    assert one.delete_many(some, 6) == 3
    assert len(list(one.keys())) == 997
    assert one.delete_many(keys, 1000) == 997
    assert one.delete_many(b"", 0) == 0


@pytest.mark.parametrize("name", [HASH, LRU, TRIE])
@pytest.mark.parametrize("check", [one_by_one, many])
def test_entries(loaded: Loaded, name: str, check: Callable[[Map], None]) -> None:
    check(loaded.maps[name])


@pytest.mark.parametrize("name", [HASH, LRU, TRIE])
@pytest.mark.usefixtures("no_batches")
def test_entries_where_there_are_no_batches(loaded: Loaded, name: str) -> None:
    many(loaded.maps[name])


def test_arrays_have_all_entries_from_the_start(loaded: Loaded) -> None:
    members = loaded.maps[ARRAY]
    assert members.get(bytes(4)) == bytes(4)
    fill(members, 3000)
    found = list(members.items())
    assert len(found) == members.max_entries
    assert found[:3001] == [(key(members, n), value(members, n) if n < 3000 else bytes(4)) for n in range(3001)]
    assert members.get((members.max_entries).to_bytes(4, "little")) is None


def test_small_steps_find_everything(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gives a bucket of a hash whole or not at all: the loader then asks with more room."""
    monkeypatch.setattr(maps_module, "_LOOK", 1)
    many(loaded.maps[HASH])


def test_each_cpu_has_its_own_counter(loaded: Loaded) -> None:
    counters = loaded.maps[PER_CPU]
    assert counters.value_size == 8
    assert counters.value_bytes == 8 * possible_cpus()
    counters.put(bytes(4), b"\x05" * counters.value_bytes)
    assert counters.per_cpu(bytes(4)) == [b"\x05" * 8] * possible_cpus()
    with pytest.raises(KeyError):
        counters.per_cpu(b"\xff" * 4)


@needs_root
def test_a_full_hash(loaded_small: Loaded) -> None:
    flows = loaded_small.maps[HASH]
    with pytest.raises(MapFullError, match="map flows is full: it has room for 100 entries") as caught:
        fill(flows, 120)
    assert caught.value.written == len(list(flows.keys())) == 100
    with pytest.raises(MapFullError):
        flows.put(key(flows, 500), value(flows, 1))
    flows.put(key(flows, 50), value(flows, 1))  # one that is there has its place


@needs_root
@pytest.mark.usefixtures("no_batches")
def test_a_full_hash_without_batches(loaded_small: Loaded) -> None:
    with pytest.raises(MapFullError) as caught:
        fill(loaded_small.maps[HASH], 120)
    assert caught.value.written == 100


@needs_root
def test_a_full_trie_and_a_place_beyond_an_array(loaded_small: Loaded) -> None:
    with pytest.raises(MapFullError, match="map source_ranges is full: it has room for 10 entries") as caught:
        fill(loaded_small.maps[TRIE], 11)
    assert caught.value.written == 10
    with pytest.raises(MapFullError, match="map members is full: it has room for 8 entries") as caught:
        fill(loaded_small.maps[ARRAY], 9)
    assert caught.value.written == 8


def test_no_memory_is_said(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def bpf(*_: object) -> int:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(maps_module, "bpf", bpf)
    with pytest.raises(MapFullError, match="there is no memory for another entry of map flows"):
        loaded.maps[HASH].put(key(loaded.maps[HASH], 1), value(loaded.maps[HASH], 1))


def test_a_store_of_free_entries_that_is_filled_again_late(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call finds room for two entries more."""
    written: list[int] = []

    def bpf(_: int, attributes: syscalls.Batch | syscalls.Element) -> int:
        if isinstance(attributes, syscalls.Element):
            written.append(0)
            if len(written) < 3:
                raise OSError(errno.ENOMEM, "no memory")
            return 0
        asked, attributes.count = attributes.count, min(attributes.count, 2)
        written.append(attributes.count)
        if asked > 2:
            raise OSError(errno.ENOMEM, "no memory")
        return 0

    monkeypatch.setattr(maps_module, "bpf", bpf)
    one = loaded.maps[HASH]
    one.put_many(bytes(5 * one.key_size), bytes(5 * one.value_size), 5)
    assert written == [2, 2, 1]
    written.clear()
    one.put(key(one, 1), value(one, 1))
    assert len(written) == 3


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (lambda one: one.get(b"x"), "a key of map devices has 4 bytes, not 1"),
        (lambda one: one.put(bytes(4), bytes(5)), "a value of map devices has 4 bytes, not 5"),
        (lambda one: one.put_many(bytes(8), bytes(4), 2), "2 times 4 bytes for map devices are not 4"),
        (lambda one: one.delete_many(bytes(5), 1), "1 times 4 bytes for map devices are not 5"),
    ],
)
def test_bytes_of_another_size(loaded: Loaded, use: Callable[[Map], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        use(loaded.maps["devices"])


def test_memory_shared_with_the_kernel(loaded: Loaded) -> None:
    verdicts = loaded.maps["verdicts"]
    with verdicts.mmap() as memory:
        verdicts.put(bytes(4), value(verdicts, 3))
        assert memory[: verdicts.value_size] == value(verdicts, 3)
        memory[: verdicts.value_size] = value(verdicts, 4)
        assert verdicts.get(bytes(4)) == value(verdicts, 4)
        verdicts.close()
        assert memory[: verdicts.value_size] == value(verdicts, 4)


def test_a_map_that_cannot_be_shared(loaded: Loaded) -> None:
    sentence = "map flows cannot be mapped into memory: it lacks the flag BPF_F_MMAPABLE"
    with pytest.raises(LoadError, match=sentence):
        loaded.maps[HASH].mmap()
