# SPDX-License-Identifier: Apache-2.0
"""Making maps, and saying why one cannot be made."""

import errno
import os

from dataplane_ref.loader import explain, syscalls
from dataplane_ref.loader.errors import LoadError
from dataplane_ref.loader.maps import Definition, Map
from dataplane_ref.loader.syscalls import LinkChange, MapCreate, bpf

F_RDONLY_PROG = 1 << 7
_NAME_LENGTH = 15


def create(definition: Definition, btf: int) -> int:
    """A new map. `btf`: a descriptor of the types that the definition names, or 0. Raises LoadError."""
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
        failure = syscalls.permitted(error)
    if attributes.btf_fd:  # an older kernel may mind only the types
        return create(definition, 0)
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
    syscalls.lift_memory_limit()  # before Linux 5.11 maps count as locked memory, whose usual limit is small
    return bpf(syscalls.MAP_CREATE, attributes)


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


def fill(fd: int, definition: Definition) -> None:
    """Give a section's map its contents; constants are frozen, so that the verifier knows them."""
    assert definition.data is not None
    Map(fd, definition).put(bytes(4), definition.data)
    if definition.flags & F_RDONLY_PROG:
        bpf(syscalls.MAP_FREEZE, LinkChange(fd, 0, 0, 0))
