# SPDX-License-Identifier: Apache-2.0
"""What a compiled BPF object is made of: sections, symbols and relocations (elf(5); little-endian, 64 bits)."""

import struct
from functools import cached_property
from typing import NamedTuple

from dataplane_ref.loader.errors import LoadError

EM_BPF = 247
SHT_SYMTAB, SHT_STRTAB, SHT_REL, SHT_NOBITS = 2, 3, 9, 8
SHF_ALLOC, SHF_EXECINSTR = 2, 4
STT_OBJECT, STT_FUNC, STT_SECTION = 1, 2, 3
STB_GLOBAL = 1
# https://www.kernel.org/doc/html/latest/bpf/llvm_reloc.html
R_BPF_64_64, R_BPF_64_32 = 1, 10

FILE_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQ")


class Section(NamedTuple):
    """A section and its bytes; one that only takes up memory (.bss) has as many zeros."""

    number: int
    name: str
    type: int
    flags: int
    link: int
    info: int
    align: int
    entry_size: int
    data: bytes

    @property
    def is_code(self) -> bool:
        return bool(self.flags & SHF_EXECINSTR)


class Symbol(NamedTuple):
    """A name for `size` bytes at `value` of the section with number `section`."""

    name: str
    type: int
    binding: int
    section: int
    value: int
    size: int


class Relocation(NamedTuple):
    """A place (offset in its section) that refers to a symbol."""

    offset: int
    type: int
    symbol: int


class Elf:
    """A relocatable BPF object, taken apart."""

    def __init__(self, data: bytes) -> None:
        """Raises LoadError when the bytes are no BPF object."""
        try:
            self.sections = _sections(data)
            tables = [section for section in self.sections if section.type == SHT_SYMTAB]
            self.symbols = _symbols(tables[0], self.sections[tables[0].link].data) if tables else []
        except (struct.error, IndexError, ValueError) as error:
            raise LoadError("it is cut short or damaged: build it again with `make datapath`") from error

    @cached_property
    def _by_name(self) -> dict[str, Section]:
        return {section.name: section for section in self.sections}

    def section(self, name: str) -> Section | None:
        return self._by_name.get(name)

    def relocations(self, section: Section) -> list[Relocation]:
        """What in a section refers to symbols."""
        return [
            Relocation(offset, info & 0xFFFFFFFF, info >> 32)
            for table in self.sections
            if table.type == SHT_REL and table.info == section.number
            for offset, info in RELOCATION.iter_unpack(table.data)
        ]

    def functions(self, section: Section) -> list[Symbol]:
        """The functions of a section, first one first."""
        found = [symbol for symbol in self.symbols if symbol.type == STT_FUNC and symbol.section == section.number]
        return sorted(found, key=lambda symbol: symbol.value)


def _sections(data: bytes) -> list[Section]:
    if data[:4] != b"\x7fELF":
        raise LoadError("it is no ELF file: build it with `make datapath`")
    if data[4:6] != b"\x02\x01" or int.from_bytes(data[18:20], "little") != EM_BPF:
        raise LoadError("it is not built for BPF (64 bits, little-endian): build it with `make datapath`")
    header = FILE_HEADER.unpack_from(data)
    place, size, count, names = header[6], header[11], header[12], header[13]
    headers = [SECTION_HEADER.unpack_from(data, place + nth * size) for nth in range(count)]
    texts = headers[names][4] if headers else 0
    found = []
    for number, (name, kind, flags, _, offset, length, link, info, align, entry) in enumerate(headers):
        body = bytes(length) if kind == SHT_NOBITS else data[offset : offset + length]
        if len(body) != length:
            raise ValueError("a section reaches beyond the end")
        found.append(Section(number, text(data, texts + name), kind, flags, link, info, align, entry, body))
    return found


def _symbols(table: Section, strings: bytes) -> list[Symbol]:
    return [
        Symbol(text(strings, name), info & 15, info >> 4, section, value, size)
        for name, info, _, section, value, size in SYMBOL.iter_unpack(table.data)
    ]


def text(strings: bytes, offset: int) -> str:
    """The zero-terminated string at an offset. Raises ValueError when it does not end."""
    return strings[offset : strings.index(b"\0", offset)].decode("utf-8", "replace")
