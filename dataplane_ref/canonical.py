# SPDX-License-Identifier: Apache-2.0
"""Puts an object's BTF in an order that depends on the source alone.

clang emits the types it knows only by name (`struct bpf_sock;`) in the order of addresses in its own memory, which
vary with the length of a path. Here those are sorted by name, and the strings come in the order of their use.
"""

import struct

from dataplane_ref.loader.btf import (
    ARRAY,
    CONST,
    DATASEC,
    DECL_TAG,
    ENUM,
    ENUM64,
    FUNC,
    FUNC_PROTO,
    FWD,
    HEADER,
    PTR,
    RESTRICT,
    STRUCT,
    TYPE_TAG,
    TYPEDEF,
    UNION,
    VAR,
    VOLATILE,
    Btf,
)

_TYPE = struct.Struct("<III")
_WORD = struct.Struct("<I")
_EXT_HEADER = struct.Struct("<HBBIIIII")
# Which kinds refer to another type in place of a size, and which words of each record are types or names.
_REFERRING = frozenset((PTR, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DECL_TAG, TYPE_TAG))
_TYPES = {ARRAY: (0, 1), STRUCT: (1,), UNION: (1,), FUNC_PROTO: (1,), DATASEC: (0,)}
_NAMES = {STRUCT: (0,), UNION: (0,), ENUM: (0,), ENUM64: (0,), FUNC_PROTO: (0,)}
# The words of .BTF.ext records that are names: of functions none; of lines the file and the line itself.
_FUNCTION_NAMES: tuple[int, ...] = ()
_LINE_NAMES = (1, 2)


def canonical(data: bytes, ext: bytes) -> tuple[bytes, bytes]:
    """.BTF and .BTF.ext in that order. Raises LoadError when the first is no BTF."""
    btf = Btf(data)
    strings = _Strings(btf)
    forward = [number for number, one in enumerate(btf.types) if one.kind == FWD]
    in_order = sorted(forward, key=lambda number: (btf.types[number].name, btf.types[number].flag))
    source = list(range(len(btf.types)))  # new number → old
    for place, number in zip(forward, in_order, strict=True):
        source[place] = number
    numbers = {old: new for new, old in enumerate(source)}
    types = b"".join(_type(btf, old, numbers, strings) for old in source[1:])
    header = HEADER.unpack_from(data)
    return_ext = _ext(ext, numbers, strings) if ext else b""
    out = HEADER.pack(*header[:3], HEADER.size, 0, len(types), len(types), len(strings.data))
    return out + types + bytes(strings.data), return_ext


def _type(btf: Btf, number: int, numbers: dict[int, int], strings: "_Strings") -> bytes:
    one = btf.types[number]
    name, info, extent = _TYPE.unpack_from(btf.data, one.offset - _TYPE.size)
    if one.kind in _REFERRING:
        extent = numbers[extent]
    out = bytearray(_TYPE.pack(strings.move(name), info, extent))
    for record in one.records:
        words = list(record)
        for place in _TYPES.get(one.kind, ()):
            words[place] = numbers[words[place]]
        for place in _NAMES.get(one.kind, ()):
            words[place] = strings.move(words[place])
        out += struct.pack(f"<{len(words)}I", *words)
    return bytes(out)


def _ext(ext: bytes, numbers: dict[int, int], strings: "_Strings") -> bytes:
    """The same bytes with the new places of names and numbers of types."""
    out = bytearray(ext)
    _, _, _, start, functions, functions_size, lines, lines_size = _EXT_HEADER.unpack_from(ext)
    for begin, size, names, types in (
        (start + functions, functions_size, _FUNCTION_NAMES, (1,)),
        (start + lines, lines_size, _LINE_NAMES, ()),
    ):
        record = _WORD.unpack_from(ext, begin)[0] if size else 0
        at = begin + _WORD.size
        while at < begin + size:
            section, count = struct.unpack_from("<II", ext, at)
            _WORD.pack_into(out, at, strings.move(section))
            at += 2 * _WORD.size
            for _ in range(count):
                for place in names:
                    old = _WORD.unpack_from(ext, at + place * _WORD.size)[0]
                    _WORD.pack_into(out, at + place * _WORD.size, strings.move(old))
                for place in types:
                    old = _WORD.unpack_from(ext, at + place * _WORD.size)[0]
                    _WORD.pack_into(out, at + place * _WORD.size, numbers[old])
                at += record
    return bytes(out)


class _Strings:
    """The new table of strings, each put there when it is first used."""

    def __init__(self, btf: Btf) -> None:
        self.data = bytearray(1)
        self._btf = btf
        self._moved = {"": 0}

    def move(self, offset: int) -> int:
        text = self._btf.text(offset)
        if text not in self._moved:
            self._moved[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self._moved[text]
