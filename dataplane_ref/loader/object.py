# SPDX-License-Identifier: Apache-2.0
"""A compiled object, and what comes of it in the kernel."""

import errno
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from dataplane_ref.loader import explain, programs, syscalls, types
from dataplane_ref.loader.btf import ARRAY, PTR, Btf
from dataplane_ref.loader.elf import Elf, Section
from dataplane_ref.loader.errors import LoadError, PinnedLayoutError
from dataplane_ref.loader.layout import Layout, Layouts
from dataplane_ref.loader.link import Linked, Linker
from dataplane_ref.loader.maps import Definition, Map
from dataplane_ref.loader.programs import Program
from dataplane_ref.loader.syscalls import LinkChange, MapCreate, ProgramLoad, bpf

OBJECT = Path(__file__).parents[1] / "bpf" / "plumbline.bpf.o"
_ARRAY = 2
_RDONLY_PROG = 1 << 7
_INFO_SIZE = 24  # of bpf_map_info: type, id, key size, value size, entries, flags
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
                descriptors[name] = _create(data, 0)
                passing.callback(os.close, descriptors[name])
                _fill(descriptors[name], data)
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
        for name, definition in self.definitions.items():
            sized = definition._replace(max_entries=sizes.get(name, definition.max_entries))
            fd = _adopt(pins / name, sized) if pins is not None else None
            yield Map(_create(sized, btf) if fd is None else fd, sized, is_adopted=fd is not None)

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
        flags = _RDONLY_PROG if name.startswith(".rodata") else 0
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
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LoadError(f"{folder} cannot be made: {os.strerror(error.errno or 0)}") from error
        for name, one in self.maps.items():
            if not one.is_adopted:
                one.pin(folder / name)

    def close(self) -> None:
        for program in self.programs.values():
            program.close()
        for one in self.maps.values():
            one.close()


def _create(definition: Definition, btf: int) -> int:
    """Raises LoadError."""
    attributes = MapCreate(
        map_type=definition.type,
        key_size=definition.key_size,
        value_size=definition.value_size,
        max_entries=definition.max_entries,
        map_flags=definition.flags,
        map_name=definition.name.encode()[:_NAME_LENGTH],
    )
    if btf and definition.key_type and definition.value_type:
        attributes.btf_fd = btf
        attributes.btf_key_type_id, attributes.btf_value_type_id = definition.key_type, definition.value_type
    try:
        return _create_once(attributes)
    except OSError as error:
        failure = error
    if attributes.btf_fd:  # an older kernel may mind only the types
        return _create(definition, 0)
    name, entries = definition.name, definition.max_entries
    if failure.errno in (errno.E2BIG, errno.ENOMEM):
        raise LoadError(f"there is no room for map {name} with {entries} entries: ask for fewer") from failure
    if failure.errno == errno.EINVAL and not _knows(definition.type):
        raise LoadError(explain.no_map_type(definition.type)) from failure
    raise LoadError(
        f"map {name} ({explain.map_type(definition.type)}, {entries} entries of {definition.key_size} + "
        f"{definition.value_size} bytes) cannot be made: {os.strerror(failure.errno or 0)}"
    ) from failure


def _create_once(attributes: MapCreate) -> int:
    try:
        return bpf(syscalls.MAP_CREATE, attributes)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
    # Before Linux 5.11 maps count as locked memory, whose usual limit is small.
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return bpf(syscalls.MAP_CREATE, attributes)
    except (OSError, ValueError) as error:
        raise LoadError(syscalls.NO_PERMISSION) from error


def _knows(kind: int) -> bool:
    """Whether the kernel knows a type of map: it then makes one of some size."""
    for key, flags in ((4, 0), (8, 1), (0, 0)):  # BPF_F_NO_PREALLOC for tries
        try:
            os.close(
                bpf(
                    syscalls.MAP_CREATE,
                    MapCreate(map_type=kind, key_size=key, value_size=4, max_entries=1, map_flags=flags),
                )
            )
        except OSError:
            continue
        return True
    return False


def _fill(fd: int, definition: Definition) -> None:
    """Give a section's map its contents; constants are frozen, so that the verifier knows them."""
    assert definition.data is not None
    Map(fd, definition).put(bytes(4), definition.data)
    if definition.flags & _RDONLY_PROG:
        bpf(syscalls.MAP_FREEZE, LinkChange(fd, 0, 0, 0))


def _adopt(path: Path, wanted: Definition) -> int | None:
    """The map pinned there. Raises PinnedLayoutError when it is another kind of map."""
    try:
        fd = syscalls.pinned(str(path))
        if fd is None:
            return None
        info = memoryview(syscalls.object_info(fd, _INFO_SIZE)).cast("I").tolist()
    except OSError as error:
        raise LoadError(f"what is pinned at {path} cannot be opened: {os.strerror(error.errno or 0)}") from error
    there = (info[0], *info[2:6])
    here = (wanted.type, wanted.key_size, wanted.value_size, wanted.max_entries, wanted.flags)
    for name, old, new in zip(
        ("type", "key size", "value size", "number of entries", "flags"), there, here, strict=True
    ):
        if old != new:
            os.close(fd)
            raise PinnedLayoutError(
                f"the map pinned at {path} has {name} {old} and this object's has {new}: "
                f"remove {path.parent} to start anew"
            )
    return fd


def layouts(path: Path = OBJECT) -> Mapping[str, Layout]:
    """The structures of an object by name. Raises LoadError."""
    return BpfObject.open(path).layouts
