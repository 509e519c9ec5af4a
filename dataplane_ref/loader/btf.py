# SPDX-License-Identifier: Apache-2.0
"""BTF, the types that a compiler writes beside BPF code (https://www.kernel.org/doc/html/latest/bpf/btf.html)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from dataplane_ref.loader.elf import text
from dataplane_ref.loader.errors import LoadError

(
    INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC,
    FLOAT, DECL_TAG, TYPE_TAG, ENUM64,
) = range(1, 20)  # fmt: skip
MODIFIERS = frozenset((TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG))

HEADER = struct.Struct("<HBBIIIII")
MAGIC = 0xEB9F
_TYPE = struct.Struct("<III")
_ONE, _TWO, _THREE = struct.Struct("<I"), struct.Struct("<II"), struct.Struct("<III")
# What follows a type: one record, or one per member.
_ALONE = {INT: _ONE, ARRAY: _THREE, VAR: _ONE, DECL_TAG: _ONE}
_EACH = {STRUCT: _THREE, UNION: _THREE, ENUM: _TWO, FUNC_PROTO: _TWO, DATASEC: _THREE, ENUM64: _THREE}


class Type(NamedTuple):
    """A type. `size` is its size in bytes, or the number of the type it refers to, depending on its kind."""

    kind: int
    name: str
    size: int
    flag: bool
    records: tuple[tuple[int, ...], ...]
    offset: int  # of its records in the section


class Btf:
    """All types of an object; numbers start at 1, and 0 is void."""

    def __init__(self, data: bytes) -> None:
        """Raises LoadError when the bytes are no BTF."""
        self.data = data
        try:
            magic, _, _, length, types, types_size, strings, strings_size = HEADER.unpack_from(data)
            if magic != MAGIC:
                raise ValueError("no BTF")
            self.strings = data[length + strings : length + strings + strings_size]
            self.types = [Type(0, "void", 0, False, (), 0), *self._parse(length + types, types_size)]
        except (struct.error, ValueError, KeyError, IndexError) as error:
            raise LoadError("its type information (BTF) is damaged: build it again with `make datapath`") from error

    def _parse(self, offset: int, size: int) -> Iterator[Type]:
        data, end = self.data, offset + size
        while offset < end:
            name, info, extent = _TYPE.unpack_from(data, offset)
            offset += _TYPE.size
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            if kind in _ALONE:
                record, count = _ALONE[kind], 1
            elif kind in _EACH:
                record = _EACH[kind]
            else:
                record, count = _ONE, 0
            after = offset + record.size * count
            records = tuple(record.iter_unpack(data[offset:after])) if count else ()
            yield Type(kind, self.text(name), extent, bool(info >> 31), records, offset)
            offset = after

    def text(self, offset: int) -> str:
        return text(self.strings, offset) if offset else ""

    def resolve(self, number: int) -> tuple[Type, str]:
        """The type without typedefs and qualifiers, and the last typedef's name or the type's own."""
        found = self.types[number]
        name = found.name
        while found.kind in MODIFIERS:
            found = self.types[found.size]
            # __be16 is a __u16 is an unsigned short: the first of the three is what the field's author said.
            name = name or found.name
        return found, name

    def size(self, number: int) -> int:
        """In bytes. Raises LoadError for what has none."""
        found, _ = self.resolve(number)
        if found.kind in (INT, STRUCT, UNION, ENUM, ENUM64, FLOAT):
            return found.size
        if found.kind == PTR:
            return 8
        if found.kind == ARRAY:
            element, _, count = found.records[0]
            return self.size(element) * count
        raise LoadError(f"its type {found.name or number} has no size: build it again with `make datapath`")

    def describe(self, number: int) -> str:
        """What values of a type look like: two types with the same text have the same bytes for the same members."""
        one, _ = self.resolve(number)
        if one.kind in (STRUCT, UNION):
            members = (f"{self.text(name)}@{at}:{self.describe(kind)}" for name, kind, at in one.records)
            return f"{{{one.size}: {', '.join(members)}}}"
        if one.kind == ARRAY:
            element, _, count = one.records[0]
            return f"{self.describe(element)}[{count}]"
        return f"{one.kind}/{one.size if one.kind != PTR else 8}"

    def section(self, name: str) -> Iterator[tuple[Type, int, int]]:
        """The variables of a section: each with its offset and size there."""
        for found in self.types:
            if found.kind == DATASEC and found.name == name:
                for variable, offset, size in found.records:
                    yield self.types[variable], offset, size

    def enums(self) -> dict[str, dict[str, int]]:
        """The named enums: name → constant → value."""
        found: dict[str, dict[str, int]] = {}
        for one in self.types:
            if one.name and one.kind == ENUM:
                found[one.name] = {
                    self.text(name): value - (1 << 32) if one.flag and value >> 31 else value
                    for name, value in one.records
                }
            elif one.name and one.kind == ENUM64:
                found[one.name] = {
                    self.text(name): (value := high << 32 | low) - (1 << 64 if one.flag and value >> 63 else 0)
                    for name, low, high in one.records
                }
        return found
