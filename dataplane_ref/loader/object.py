# SPDX-License-Identifier: Apache-2.0
"""A compiled object, and what comes of it in the kernel."""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from dataplane_ref.loader import programs, types
from dataplane_ref.loader.btf import ARRAY, PTR, Btf
from dataplane_ref.loader.create import F_RDONLY_PROG, create, fill
from dataplane_ref.loader.elf import Elf, Section
from dataplane_ref.loader.errors import LoadError
from dataplane_ref.loader.layout import Layout, Layouts
from dataplane_ref.loader.link import Linked, Linker
from dataplane_ref.loader.maps import Definition, Map
from dataplane_ref.loader.pins import PinnedMaps
from dataplane_ref.loader.programs import Program
from dataplane_ref.loader.syscalls import ProgramLoad

OBJECT = Path(__file__).parents[1] / "bpf" / "plumbline.bpf.o"
_ARRAY = 2
_NAME_LENGTH = 15


class BpfObject:
    """An object file, taken apart: `layouts` of its structures, `enums`, and what `load` makes of it."""

    def __init__(self, data: bytes) -> None:
        """Raises LoadError when the bytes are no BPF object with types."""
        self._elf = Elf(data)
        section = self._elf.section(".BTF")
        if section is None:
            raise LoadError("it has no type information (BTF): build it again with `make datapath`")
        self._btf = Btf(section.data)
        self._linker = Linker(self._elf)

    @classmethod
    def open(cls, path: Path = OBJECT) -> "BpfObject":
        """Read and parse; no call of bpf(2). Raises LoadError."""
        try:
            return cls(path.read_bytes())
        except FileNotFoundError:
            raise LoadError(f"there is no BPF object {path}: type `make datapath`") from None
        except OSError as error:
            raise LoadError(f"the BPF object {path} cannot be read: {os.strerror(error.errno or 0)}") from error
        except LoadError as error:
            raise LoadError(f"the BPF object {path} cannot be used: {error}") from error

    @cached_property
    def layouts(self) -> Mapping[str, Layout]:
        """The structures by name, without `struct`."""
        return Layouts(self._btf)

    @cached_property
    def enums(self) -> Mapping[str, Mapping[str, int]]:
        """The enums by name, each with its constants."""
        return self._btf.enums()

    @cached_property
    def definitions(self) -> Mapping[str, Definition]:
        """The maps as the object defines them."""
        return {one.name: one for one in self._definitions()}

    @cached_property
    def program_names(self) -> Collection[str]:
        return self._linker.programs().keys()

    def load(
        self,
        sizes: Mapping[str, int] = {},
        pins: Path | None = None,
        programs: Collection[str] | None = None,
    ) -> "Loaded":
        """Make the maps and load the programs.

        `sizes`: entries of maps that are to have more or fewer than the object says. `programs`: only these; all
        maps are made in any case. `pins`: a folder on a bpffs, made if need be; maps pinned there are taken over,
        the others pinned there. Raises LoadError; PinnedLayoutError when a map pinned there looks different.
        """
        self._check_names("map", sizes, self.definitions)
        self._check_names("program", programs or (), self.program_names)
        wanted = self.program_names if programs is None else programs
        linked = [self._linker.link(name) for name in wanted]
        if pins is not None:
            _make(pins)
        with ExitStack() as passing, ExitStack() as kept:
            btf = types.load(self._btf, self._elf)
            if btf:
                passing.callback(os.close, btf)
            loaded = kept.enter_context(Loaded())
            for made in self._maps(sizes, pins, btf):
                loaded.maps[made.name] = made
            descriptors = {name: one.fd for name, one in loaded.maps.items()}
            for name in {name for one in linked for _, name, _ in one.maps if name not in descriptors}:
                data = self._data_map(name)
                descriptors[name] = create(data, 0)
                passing.callback(os.close, descriptors[name])
                fill(descriptors[name], data)
            for one in linked:
                fd = self._load_program(one, descriptors, btf)
                loaded.programs[one.name] = Program(fd, one.name, one.kind, pins)
            if pins is not None:
                loaded.pin(pins)
            kept.pop_all()
            return loaded

    def _check_names(self, kind: str, asked: Collection[str], known: Collection[str]) -> None:
        for name in asked:
            if name not in known:
                raise LoadError(f"the object has no {kind} {name}: it has {', '.join(sorted(known))}")

    def _maps(self, sizes: Mapping[str, int], pins: Path | None, btf: int) -> Iterator[Map]:
        """Each map, pinned before or new."""
        pinned = PinnedMaps(pins, self._btf) if pins is not None else None
        for name, definition in self.definitions.items():
            sized = definition._replace(max_entries=sizes.get(name, definition.max_entries))
            fd = pinned.take(sized) if pinned is not None else None
            yield Map(create(sized, btf) if fd is None else fd, sized, is_adopted=fd is not None)

    def _load_program(self, linked: Linked, descriptors: Mapping[str, int], btf: int) -> int:
        code = linked.with_maps(descriptors)
        attributes = ProgramLoad(
            prog_type=linked.kind,
            insn_cnt=len(code) // 8,
            insns=code,
            license=self._license,
            prog_flags=linked.flags,
            prog_name=linked.name.encode()[:_NAME_LENGTH],
            expected_attach_type=linked.attach_type,
        )
        if btf and self._records is not None:
            functions, lines = self._records
            of_functions, of_lines = functions.of(linked), lines.of(linked)
            if of_functions and of_lines:
                attributes.prog_btf_fd = btf
                attributes.func_info_rec_size, attributes.func_info = functions.size, of_functions
                attributes.func_info_cnt = len(of_functions) // functions.size
                attributes.line_info_rec_size, attributes.line_info = lines.size, of_lines
                attributes.line_info_cnt = len(of_lines) // lines.size
        return programs.load(attributes, linked.name)

    @cached_property
    def _records(self) -> tuple[types.Records, types.Records] | None:
        return types.records(self._btf, self._elf)

    @cached_property
    def _license(self) -> bytes:
        section = self._elf.section("license")
        return section.data.rstrip(b"\0") if section else b""

    def _definitions(self) -> list[Definition]:
        found = []
        for variable, _, _ in self._btf.section(".maps"):
            members = {}
            for name, number, _ in self._btf.resolve(variable.size)[0].records:
                pointer, _ = self._btf.resolve(number)
                if pointer.kind == PTR:
                    members[self._btf.text(name)] = pointer.size
            types_ = {name: members.get(name, 0) for name in ("key", "value")}
            sizes = {
                name: self._btf.size(number) if number else self._number(members, f"{name}_size")
                for name, number in types_.items()
            }
            found.append(
                Definition(
                    variable.name, self._number(members, "type"), sizes["key"], sizes["value"],
                    self._number(members, "max_entries"), self._number(members, "map_flags"),
                    types_["key"], types_["value"],
                )
            )  # fmt: skip
        return found

    def _number(self, members: Mapping[str, int], name: str) -> int:
        """A number that is written as the length of an array, which the member points to."""
        if name not in members:
            return 0
        array, _ = self._btf.resolve(members[name])
        return array.records[0][2] if array.kind == ARRAY else 0

    def _data_map(self, name: str) -> Definition:
        section: Section | None = self._elf.section(name)
        assert section is not None
        flags = F_RDONLY_PROG if name.startswith(".rodata") else 0
        return Definition(name, _ARRAY, 4, len(section.data), 1, flags, data=section.data)


class Loaded:
    """Maps and programs in the kernel, by name. Closing lets go of them; what is attached or pinned stays."""

    def __init__(self) -> None:
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, Program] = {}

    def __enter__(self) -> "Loaded":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pin(self, folder: Path) -> None:
        """Pin the maps that were not pinned there before. Raises LoadError."""
        for name, one in self.maps.items():
            if not one.is_adopted:
                one.pin(folder / name)

    def close(self) -> None:
        for program in self.programs.values():
            program.close()
        for one in self.maps.values():
            one.close()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoadError(f"{folder} cannot be made: {os.strerror(error.errno or 0)}") from error


def layouts(path: Path = OBJECT) -> Mapping[str, Layout]:
    """The structures of an object by name. Raises LoadError."""
    return BpfObject.open(path).layouts
