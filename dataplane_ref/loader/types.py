# SPDX-License-Identifier: Apache-2.0
"""The types of an object as the kernel takes them: its BTF, mended, and which type and source line its code has."""

import struct
from typing import NamedTuple

from dataplane_ref.loader import syscalls
from dataplane_ref.loader.btf import DATASEC, Btf
from dataplane_ref.loader.elf import STT_OBJECT, Elf
from dataplane_ref.loader.link import INSTRUCTION, Linked
from dataplane_ref.loader.syscalls import BtfLoad, bpf

_EXT = struct.Struct("<HBBIIIII")  # .BTF.ext: magic, version, flags, header, then place and size of both kinds
_PART = struct.Struct("<II")  # name of a section, how many records
_VARIABLE = struct.Struct("<III")
_FIRST = struct.Struct("<I")  # of each record: where it is in its section, in bytes


class Records(NamedTuple):
    """Records of one kind (of a function's type, or of a source line) by section; each is `size` bytes."""

    size: int
    sections: dict[str, list[bytes]]

    def of(self, linked: Linked) -> bytes:
        """Those of a program's pieces, counted in the program's instructions."""
        found = [
            _FIRST.pack((piece.offset + at - piece.start) // INSTRUCTION) + record[_FIRST.size :]
            for piece in linked.pieces
            for record in self.sections.get(piece.section.name, ())
            if piece.start <= (at := _FIRST.unpack_from(record)[0]) < piece.start + piece.size
        ]
        return b"".join(found)


def load(btf: Btf, elf: Elf) -> int:
    """A descriptor of the object's BTF, or 0 where the kernel does not take it: everything works without."""
    data = mended(btf, elf)
    try:
        return bpf(syscalls.BTF_LOAD, BtfLoad(btf=data, btf_size=len(data)))
    except OSError:
        return 0


def mended(btf: Btf, elf: Elf) -> bytes:
    """The BTF with what a compiler leaves to the loader: sizes of sections, and where in them variables are."""
    data = bytearray(btf.data)
    for one in btf.types:
        section = elf.section(one.name) if one.kind == DATASEC else None
        if section is None:
            continue
        places = {s.name: s.value for s in elf.symbols if s.section == section.number and s.type == STT_OBJECT}
        _FIRST.pack_into(data, one.offset - _FIRST.size, len(section.data))
        variables = [(number, places.get(btf.types[number].name, at), size) for number, at, size in one.records]
        for index, variable in enumerate(sorted(variables, key=lambda variable: variable[1])):
            _VARIABLE.pack_into(data, one.offset + index * _VARIABLE.size, *variable)
    return bytes(data)


def records(btf: Btf, elf: Elf) -> tuple[Records, Records] | None:
    """The types of functions and the source lines in .BTF.ext; None where the object has no such section."""
    section = elf.section(".BTF.ext")
    if section is None:
        return None
    _, _, _, start, functions, functions_size, lines, lines_size = _EXT.unpack_from(section.data)
    return (
        _records(btf, section.data[start + functions :][:functions_size]),
        _records(btf, section.data[start + lines :][:lines_size]),
    )


def _records(btf: Btf, data: bytes) -> Records:
    if not data:
        return Records(0, {})
    size = _FIRST.unpack_from(data)[0]
    found: dict[str, list[bytes]] = {}
    at = _FIRST.size
    while at < len(data):
        name, count = _PART.unpack_from(data, at)
        at += _PART.size
        found[btf.text(name)] = [data[at + n * size : at + (n + 1) * size] for n in range(count)]
        at += count * size
    return Records(size, found)
