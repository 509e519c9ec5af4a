# SPDX-License-Identifier: Apache-2.0
"""Leaves of a compiled BPF object what the kernel and the loader read: code, maps, constants, BTF.

DWARF names the directories of the machine that compiled, and is most of the file. What stays is laid out anew, so
that the bytes depend on the source and the compiler alone.
"""

from dataplane_ref.canonical import canonical
from dataplane_ref.loader.elf import (
    FILE_HEADER,
    RELOCATION,
    SECTION_HEADER,
    SHT_NOBITS,
    SHT_REL,
    SHT_STRTAB,
    SHT_SYMTAB,
    STT_FUNC,
    STT_OBJECT,
    STT_SECTION,
    SYMBOL,
    Elf,
    Section,
)

_LAST_LOCAL = 0  # STB_LOCAL: in a symbol table all of these come first


def strip(data: bytes) -> bytes:
    """The object without anything that only a debugger reads. Raises LoadError when it is no BPF object."""
    elf = Elf(data)
    kept = [section for section in elf.sections if _is_needed(section, elf)]
    numbers = {section.number: number for number, section in enumerate(kept, 1)}
    strings = _Strings()
    symbols, symbol_numbers, locals_ = _symbols(elf, numbers, strings)
    types = _types(elf)
    bodies = [
        _relocations(section, symbol_numbers) if section.type == SHT_REL else types.get(section.name, section.data)
        for section in kept
    ]
    table, texts = len(kept) + 1, len(kept) + 2

    out = bytearray(FILE_HEADER.size)
    headers = [SECTION_HEADER.pack(*(0,) * 10)]

    def add(section: Section, body: bytes, link: int, info: int) -> None:
        out.extend(bytes(-len(out) % max(section.align, 1)))
        headers.append(
            SECTION_HEADER.pack(
                strings.add(section.name), section.type, section.flags, 0, len(out), len(body), link, info,
                section.align, section.entry_size,
            )
        )  # fmt: skip
        if section.type != SHT_NOBITS:
            out.extend(body)

    for section, body in zip(kept, bodies, strict=True):
        is_relocation = section.type == SHT_REL
        add(section, body, table if is_relocation else 0, numbers[section.info] if is_relocation else 0)
    add(Section(0, ".symtab", SHT_SYMTAB, 0, 0, 0, 8, SYMBOL.size, b""), symbols, texts, locals_)
    strings.add(".strtab")
    add(Section(0, ".strtab", SHT_STRTAB, 0, 0, 0, 1, 0, b""), bytes(strings.data), 0, 0)
    out.extend(bytes(-len(out) % 8))
    fields = list(FILE_HEADER.unpack_from(data))
    fields[6], fields[12], fields[13] = len(out), len(headers), texts
    FILE_HEADER.pack_into(out, 0, *fields)
    return bytes(out) + b"".join(headers)


def _types(elf: Elf) -> dict[str, bytes]:
    """The sections of types, in the one order."""
    btf, ext = elf.section(".BTF"), elf.section(".BTF.ext")
    if btf is None:
        return {}
    data, ext_data = canonical(btf.data, ext.data if ext else b"")
    return {".BTF": data, ".BTF.ext": ext_data}


def _is_needed(section: Section, elf: Elf) -> bool:
    if section.type == SHT_REL:
        target = elf.sections[section.info]
        return not target.name.startswith(".BTF") and _is_needed(target, elf)
    kinds = (0, SHT_SYMTAB, SHT_STRTAB)
    return section.type not in kinds and not section.name.startswith((".debug", ".llvm", ".eh_frame", ".comment"))


def _symbols(elf: Elf, numbers: dict[int, int], strings: "_Strings") -> tuple[bytes, dict[int, int], int]:
    """The table, the new number of each symbol that stays, and how many of them are local."""
    used = {
        relocation.symbol
        for section in elf.sections
        if section.number in numbers
        for relocation in elf.relocations(section)
    }
    table = bytearray(SYMBOL.size)
    found = {0: 0}
    locals_ = 1
    for number, symbol in enumerate(elf.symbols):
        is_kept = number in used or symbol.type in (STT_FUNC, STT_OBJECT, STT_SECTION)
        if number == 0 or not is_kept or (symbol.section and symbol.section not in numbers):
            continue
        found[number] = len(found)
        locals_ += symbol.binding == _LAST_LOCAL
        name = 0 if symbol.type == STT_SECTION else strings.add(symbol.name)
        table += SYMBOL.pack(
            name, symbol.binding << 4 | symbol.type, 0, numbers.get(symbol.section, 0), symbol.value, symbol.size
        )
    return bytes(table), found, locals_


def _relocations(section: Section, numbers: dict[int, int]) -> bytes:
    return b"".join(
        RELOCATION.pack(offset, numbers[info >> 32] << 32 | info & 0xFFFFFFFF)
        for offset, info in RELOCATION.iter_unpack(section.data)
    )


class _Strings:
    def __init__(self) -> None:
        self.data = bytearray(1)
        self._places = {"": 0}

    def add(self, text: str) -> int:
        if text not in self._places:
            self._places[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self._places[text]
