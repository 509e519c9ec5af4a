# SPDX-License-Identifier: Apache-2.0
"""How C structures lie in memory, read from BTF: Python has no second copy of them."""

import struct
from collections.abc import Iterator, Mapping
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

from dataplane_ref.loader.btf import ARRAY, ENUM, ENUM64, INT, PTR, STRUCT, UNION, Btf, Type

_BIG_ENDIAN = ("__be16", "__be32", "__be64")
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_SIGNED = 1  # of an INT's encoding


class Field(NamedTuple):
    """One member: `size` bytes at `offset`.

    `kind`: int, bytes (an array of __u8 or __be*), array (of numbers) or struct (of `layout`). `number` reads and
    writes a number: one whose type is __be16, __be32 or __be64 in network order, any other in the machine's.
    """

    name: str
    offset: int
    size: int
    kind: str
    number: struct.Struct
    layout: "Layout | None"

    def pack_into(self, out: bytearray, offset: int, value: Any) -> None:
        """Raises ValueError when the value does not fit."""
        offset += self.offset
        if isinstance(value, bytes | bytearray | memoryview):
            if len(value) != self.size:
                raise ValueError(f"{self.name} has {self.size} bytes, not {len(value)}")
            out[offset : offset + self.size] = value
            return
        try:
            if self.layout is not None:
                self.layout.pack_into(out, offset, value)
            elif self.kind == "bytes":
                raise ValueError(f"{self.name} is {self.size} bytes, not {value!r}")
            elif self.kind == "array":
                self.number.pack_into(out, offset, *value)
            else:
                self.number.pack_into(out, offset, value)
        except (struct.error, TypeError) as error:
            raise ValueError(f"{self.name} cannot be {value!r}: {error}") from error

    def unpack_from(self, data: bytes, offset: int) -> Any:
        offset += self.offset
        if self.layout is not None:
            return self.layout.unpack(data, offset)
        if self.kind == "bytes":
            return bytes(data[offset : offset + self.size])
        found = self.number.unpack_from(data, offset)
        return found if self.kind == "array" else found[0]


class Layout:
    """A structure of `size` bytes with its `fields` by name."""

    def __init__(self, name: str, size: int, fields: Mapping[str, Field]) -> None:
        self.name = name
        self.size = size
        self.fields = fields

    def __repr__(self) -> str:
        return f"Layout({self.name}, {self.size} bytes: {', '.join(self.fields)})"

    def pack(self, **values: Any) -> bytes:
        """The bytes of a value; fields that are not given are zero.

        A number for a number, a mapping (or bytes) for a structure, bytes for an array of __u8 or __be*, a sequence
        (or bytes) for another array; any field takes the bytes of its size. Raises ValueError for what does not fit.
        """
        out = bytearray(self.size)
        self.pack_into(out, 0, values)
        return bytes(out)

    def pack_into(self, out: bytearray, offset: int, values: Mapping[str, Any]) -> None:
        """The same into a buffer. Raises ValueError."""
        for name, value in values.items():
            field = self.fields.get(name)
            if field is None:
                raise ValueError(f"struct {self.name} has no {name}: it has {', '.join(self.fields)}")
            field.pack_into(out, offset, value)

    def unpack(self, data: bytes, offset: int = 0) -> dict[str, Any]:
        """What `pack` was told, with all fields. Raises ValueError when the bytes are too few."""
        if len(data) < offset + self.size:
            raise ValueError(f"struct {self.name} has {self.size} bytes, not {len(data) - offset}")
        return {name: field.unpack_from(data, offset) for name, field in self.fields.items()}

    def field(self, path: str) -> Field:
        """A field within this one, such as `cluster.first`; its offset is from the start. Raises ValueError."""
        layout: Layout | None = self
        offset = 0
        found: Field | None = None
        for name in path.split("."):
            found = layout.fields.get(name) if layout else None
            if found is None:
                raise ValueError(f"struct {self.name} has no {path}")
            offset, layout = offset + found.offset, found.layout
        assert found is not None
        return found._replace(offset=offset)

    def struct(self, *paths: str) -> struct.Struct:
        """For many values at once: a Struct of the whole size with one item for each field named.

        The names are those of `field`, in the order of their offsets; the rest is zero. Items are numbers in the
        machine's order, or else (network order, arrays, structures) bytes. Raises ValueError.
        """
        codes, end = ["<"], 0
        for path in paths:
            field = self.field(path)
            if field.offset < end:
                raise ValueError(f"struct {self.name} has {path} before what was named before it")
            is_number = field.kind == "int" and field.number.format.startswith("<")
            codes.append(f"{field.offset - end}x")
            codes.append(field.number.format[1:] if is_number else f"{field.size}s")
            end = field.offset + field.size
        return struct.Struct("".join([*codes, f"{self.size - end}x"]))


class Layouts(Mapping[str, Layout]):
    """All named structures of an object, by name; each is worked out when it is first asked for."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._known: dict[int, Layout] = {}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {
            one.name: number
            for number, one in enumerate(self._btf.types)
            if one.kind in (STRUCT, UNION) and one.name
        }  # fmt: skip

    def __getitem__(self, name: str) -> Layout:
        return self._layout(self._numbers[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def _layout(self, number: int) -> Layout:
        if number not in self._known:
            one = self._btf.types[number]
            fields = {}
            for name, kind, offset in one.records:
                if one.flag and offset >> 24:
                    continue  # a bit field: nothing that is shared with Python has one
                field = self._field(self._btf.text(name), kind, (offset & 0xFFFFFF if one.flag else offset) // 8)
                fields[field.name] = field
            self._known[number] = Layout(one.name, one.size, fields)
        return self._known[number]

    def _field(self, name: str, number: int, offset: int) -> Field:
        size = self._btf.size(number)
        one, type_name = self._btf.resolve(number)
        if one.kind in (STRUCT, UNION):
            inner = self._layout(next(n for n, other in enumerate(self._btf.types) if other is one))
            return Field(name, offset, size, "struct", _number(one, type_name), inner)
        dimensions: list[int] = []
        while one.kind == ARRAY:
            element, _, count = one.records[0]
            dimensions.append(count)
            one, type_name = self._btf.resolve(element)
        if not dimensions:
            return Field(name, offset, size, "int", _number(one, type_name), None)
        code = _number(one, type_name)
        is_bytes = code.size == 1 or type_name in _BIG_ENDIAN or code.format.endswith("s")
        kind = "bytes" if is_bytes else "array"
        return Field(name, offset, size, kind, struct.Struct(f"<{prod(dimensions)}{code.format[1:]}"), None)


def _number(one: Type, type_name: str) -> struct.Struct:
    """Reads and writes one of them; bytes for what is no number."""
    size = 8 if one.kind == PTR else one.size
    if one.kind not in (INT, ENUM, ENUM64, PTR) or size not in _CODES:
        return struct.Struct(f"<{size}s")
    is_signed = one.flag if one.kind != INT else bool(one.records[0][0] >> 24 & _SIGNED)
    code = _CODES[size].lower() if is_signed else _CODES[size]
    return struct.Struct((">" if type_name in _BIG_ENDIAN else "<") + code)
