# SPDX-License-Identifier: Apache-2.0
"""Makes whole programs of an object's sections: the functions a program calls come behind it, and references to maps
and constants become descriptors (https://www.kernel.org/doc/html/latest/bpf/llvm_reloc.html).
"""

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dataplane_ref.loader.elf import (
    R_BPF_64_32,
    R_BPF_64_64,
    STB_GLOBAL,
    STT_SECTION,
    Elf,
    Relocation,
    Section,
    Symbol,
)
from dataplane_ref.loader.errors import LoadError

INSTRUCTION = 8
_CALL, _LOAD_64 = 0x85, 0x18
# In an instruction's source register: what its number stands for.
PSEUDO_CALL, PSEUDO_MAP_FD, PSEUDO_MAP_VALUE, PSEUDO_FUNC = 1, 1, 2, 4
_IMMEDIATE = struct.Struct("<i")

# Program type (enum bpf_prog_type), attach type it is checked for, flags; by the first word of the section's name.
SCHED_CLS, XDP_PROGRAM, SYSCALL = 3, 6, 31
_XDP_ATTACH, _SLEEPABLE = 37, 1 << 4
_KINDS = {
    "tc": (SCHED_CLS, 0, 0),
    "xdp": (XDP_PROGRAM, _XDP_ATTACH, 0),
    "syscall": (SYSCALL, 0, _SLEEPABLE),
}


class Piece(NamedTuple):
    """A function of a section as part of a program. Offsets and size in bytes."""

    section: Section
    start: int
    size: int
    offset: int  # in the program


class Linked(NamedTuple):
    """A program that is whole but for the descriptors of maps."""

    name: str
    kind: int
    attach_type: int
    flags: int
    code: bytearray
    pieces: list[Piece]
    maps: list[tuple[int, str, int | None]]  # place, map, offset into its value where its value is meant

    def with_maps(self, descriptors: Mapping[str, int]) -> bytes:
        """The instructions as the kernel wants them."""
        code = bytearray(self.code)
        for place, name, offset in self.maps:
            source = PSEUDO_MAP_FD if offset is None else PSEUDO_MAP_VALUE
            code[place + 1] = code[place + 1] & 0x0F | source << 4
            _IMMEDIATE.pack_into(code, place + 4, descriptors[name])
            _IMMEDIATE.pack_into(code, place + INSTRUCTION + 4, offset or 0)
        return bytes(code)


class Linker:
    """Finds the programs of an object and puts each together."""

    def __init__(self, elf: Elf) -> None:
        self._elf = elf
        self._relocations: dict[int, dict[int, Relocation]] = {}
        self._functions: dict[int, list[Symbol]] = {}

    def programs(self) -> dict[str, tuple[Section, Symbol]]:
        """The programs by name: the functions that others can name, in sections that say what runs them."""
        return {
            symbol.name: (section, symbol)
            for section in self._elf.sections
            if section.is_code and section.name.split("/")[0] in _KINDS
            for symbol in self._all(section)
            if symbol.binding == STB_GLOBAL
        }

    def link(self, name: str) -> Linked:
        """Raises LoadError when the program refers to something that is not there."""
        section, symbol = self.programs()[name]
        kind, attach_type, flags = _KINDS[section.name.split("/")[0]]
        linked = Linked(name, kind, attach_type, flags, bytearray(), [], [])
        calls: list[tuple[int, int, int]] = []
        self._append(linked, calls, section, symbol)
        done = 0
        while done < len(calls):  # what is appended may call too
            place, target_section, target = calls[done]
            done += 1
            start = next(
                (p.offset for p in linked.pieces if (p.section.number, p.start) == (target_section, target)), None
            )
            if start is None:
                start = len(linked.code)
                called = self._elf.sections[target_section]
                self._append(linked, calls, called, self._at(name, called, target))
            is_call = linked.code[place] == _CALL
            distance = (start - place) // INSTRUCTION - 1
            linked.code[place + 1] = linked.code[place + 1] & 0x0F | (PSEUDO_CALL if is_call else PSEUDO_FUNC) << 4
            _IMMEDIATE.pack_into(linked.code, place + 4, distance)
        return linked

    def _append(self, linked: Linked, calls: list[tuple[int, int, int]], section: Section, symbol: Symbol) -> None:
        """One function, with what in it refers to maps (added to the program) and functions (added to `calls`)."""
        base = len(linked.code)
        code = section.data[symbol.value : symbol.value + symbol.size]
        linked.code.extend(code)
        linked.pieces.append(Piece(section, symbol.value, symbol.size, base))
        relocations = self._of(section)
        for place in _instructions(code):
            at = symbol.value + place
            relocation = relocations.get(at)
            number = _IMMEDIATE.unpack_from(code, place + 4)[0]
            if code[place] == _CALL:
                if relocation is not None:
                    target = self._symbol(linked.name, relocation)
                    calls.append((base + place, target.section, target.value + (number + 1) * INSTRUCTION))
                elif code[place + 1] >> 4 == PSEUDO_CALL:
                    calls.append((base + place, section.number, at + (number + 1) * INSTRUCTION))
            elif relocation is not None:
                self._refer(linked, calls, base + place, self._symbol(linked.name, relocation), number)

    def _refer(
        self, linked: Linked, calls: list[tuple[int, int, int]], place: int, symbol: Symbol, number: int
    ) -> None:
        section = self._elf.sections[symbol.section]
        if section.name == ".maps":
            linked.maps.append((place, symbol.name or self._map_at(section, number), None))
        elif section.is_code:
            calls.append((place, section.number, symbol.value + number))
        else:
            linked.maps.append((place, section.name, symbol.value + number))

    def _map_at(self, section: Section, offset: int) -> str:
        return next(s.name for s in self._elf.symbols if s.section == section.number and s.name and s.value == offset)

    def _symbol(self, program: str, relocation: Relocation) -> Symbol:
        symbol = self._elf.symbols[relocation.symbol]
        if symbol.section == 0 or symbol.section >= len(self._elf.sections):
            raise LoadError(f"program {program} refers to {symbol.name}, which its object does not have")
        if relocation.type not in (R_BPF_64_64, R_BPF_64_32):
            raise LoadError(f"program {program} refers to {symbol.name} in a way ({relocation.type}) no loader knows")
        if symbol.type == STT_SECTION and symbol.name:
            return symbol._replace(name="")
        return symbol

    def _at(self, program: str, section: Section, offset: int) -> Symbol:
        for symbol in self._all(section):
            if symbol.value == offset:
                return symbol
        raise LoadError(f"program {program} calls what is no function: build its object again with `make datapath`")

    def _all(self, section: Section) -> list[Symbol]:
        if section.number not in self._functions:
            self._functions[section.number] = self._elf.functions(section)
        return self._functions[section.number]

    def _of(self, section: Section) -> dict[int, Relocation]:
        if section.number not in self._relocations:
            self._relocations[section.number] = {one.offset: one for one in self._elf.relocations(section)}
        return self._relocations[section.number]


def _instructions(code: bytes) -> Iterator[int]:
    """Where calls and 64-bit loads are. The second half of such a load has operation 0."""
    operations = code[::INSTRUCTION]
    for operation in (_LOAD_64, _CALL):
        at = operations.find(operation)
        while at >= 0:
            yield at * INSTRUCTION
            at = operations.find(operation, at + 1)
