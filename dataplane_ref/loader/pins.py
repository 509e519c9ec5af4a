# SPDX-License-Identifier: Apache-2.0
"""Maps that an earlier process has pinned: taken over where their entries look the same."""

import ctypes
import errno
import os
import struct
from pathlib import Path

from dataplane_ref.loader import syscalls
from dataplane_ref.loader.btf import Btf
from dataplane_ref.loader.errors import LoadError, PinnedLayoutError
from dataplane_ref.loader.maps import Definition
from dataplane_ref.loader.syscalls import Info, bpf

# struct bpf_map_info: type, id, key size, value size, entries, flags; number of the BTF, types of key and value.
_MAP_INFO = struct.Struct("<6I40xIII")
_BTF_INFO = struct.Struct("<QII")  # where the BTF is to go, its size, its number
_NAMES = ("type", "key size", "value size", "number of entries", "flags")


class PinnedMaps:
    """A folder on a bpffs, and the types of the object whose maps are looked for there."""

    def __init__(self, folder: Path, btf: Btf) -> None:
        self._folder = folder
        self._btf = btf
        self._others: dict[int, Btf | None] = {}

    def take(self, wanted: Definition) -> int | None:
        """A descriptor of the map; None where none is pinned. Raises PinnedLayoutError, LoadError."""
        path = self._folder / wanted.name
        fd = None
        try:
            fd = syscalls.pinned(str(path))
            if fd is None:
                return None
            difference = self._difference(fd, wanted)
        except OSError as error:
            if fd is not None:
                os.close(fd)
            raise LoadError(f"what is pinned at {path} cannot be opened: {os.strerror(error.errno or 0)}") from error
        if difference:
            os.close(fd)
            raise PinnedLayoutError(f"the map pinned at {path} has {difference}: remove {self._folder} to start anew")
        return fd

    def _difference(self, fd: int, wanted: Definition) -> str:
        kind, _, *sizes, btf, key, value = _MAP_INFO.unpack(syscalls.object_info(fd, _MAP_INFO.size))
        here = (wanted.type, wanted.key_size, wanted.value_size, wanted.max_entries, wanted.flags)
        for name, old, new in zip(_NAMES, (kind, *sizes), here, strict=True):
            if old != new:
                return f"{name} {old} and this object's has {new}"
        other = self._other(btf) if btf else None
        if other is not None and wanted.key_type and wanted.value_type:
            there = other.describe(key), other.describe(value)
            if there != (self._btf.describe(wanted.key_type), self._btf.describe(wanted.value_type)):
                return "entries that look different from this object's"
        return ""

    def _other(self, number: int) -> Btf | None:
        """The types that a pinned map was made with; None where they may not be seen (it takes CAP_SYS_ADMIN)."""
        if number not in self._others:
            try:
                fd = bpf(syscalls.BTF_GET_FD_BY_ID, syscalls.Id(number))
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOENT, errno.EINVAL):
                    raise
                self._others[number] = None
                return None
            try:
                self._others[number] = Btf(_read(fd))
            finally:
                os.close(fd)
        return self._others[number]


def _read(fd: int) -> bytes:
    _, size, _ = _BTF_INFO.unpack(syscalls.object_info(fd, _BTF_INFO.size))
    data = ctypes.create_string_buffer(size)
    asked = ctypes.create_string_buffer(_BTF_INFO.pack(ctypes.addressof(data), size, 0), _BTF_INFO.size)
    bpf(syscalls.OBJ_GET_INFO_BY_FD, Info(fd, _BTF_INFO.size, ctypes.addressof(asked)))
    return data.raw
