# SPDX-License-Identifier: Apache-2.0
"""bpf(2): one system call, its commands and what they are told (include/uapi/linux/bpf.h, `union bpf_attr`)."""

import ctypes
import errno
import os
from ctypes import c_char, c_char_p, c_uint32, c_uint64, c_void_p

from dataplane_ref.loader.errors import LoadError

(
    MAP_CREATE, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_DELETE_ELEM, MAP_GET_NEXT_KEY, PROG_LOAD, OBJ_PIN, OBJ_GET,
) = range(8)  # fmt: skip
PROG_TEST_RUN, OBJ_GET_INFO_BY_FD, BTF_LOAD, BTF_GET_FD_BY_ID, MAP_FREEZE = 10, 15, 18, 19, 22
MAP_LOOKUP_BATCH, MAP_UPDATE_BATCH, MAP_DELETE_BATCH = 24, 26, 27
LINK_CREATE, LINK_UPDATE, LINK_DETACH = 28, 29, 34

# enum bpf_attach_type
XDP, TCX_INGRESS, TCX_EGRESS = 37, 46, 47

NO_PERMISSION = "loading BPF needs root or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: run with sudo"
NO_BPF = "this kernel is built without bpf(2), or plumbline does not know its number on this machine"
_RLIMIT_MEMLOCK, _NO_LIMIT = 8, (1 << 64) - 1
_LOAD_TRIES = 20
ENOTSUPP = 524  # the kernel's own; not in errno
# From each architecture's system call table.
_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361}


class MapCreate(ctypes.Structure):
    _fields_ = [
        ("map_type", c_uint32), ("key_size", c_uint32), ("value_size", c_uint32), ("max_entries", c_uint32),
        ("map_flags", c_uint32), ("inner_map_fd", c_uint32), ("numa_node", c_uint32), ("map_name", c_char * 16),
        ("map_ifindex", c_uint32), ("btf_fd", c_uint32), ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
    ]  # fmt: skip


class Element(ctypes.Structure):
    _fields_ = [("map_fd", c_uint32), ("key", c_char_p), ("value", c_char_p), ("flags", c_uint64)]


class Batch(ctypes.Structure):
    _fields_ = [
        ("in_batch", c_void_p), ("out_batch", c_void_p), ("keys", c_void_p), ("values", c_void_p),
        ("count", c_uint32), ("map_fd", c_uint32), ("elem_flags", c_uint64), ("flags", c_uint64),
    ]  # fmt: skip


class ProgramLoad(ctypes.Structure):
    _fields_ = [
        ("prog_type", c_uint32), ("insn_cnt", c_uint32), ("insns", c_char_p), ("license", c_char_p),
        ("log_level", c_uint32), ("log_size", c_uint32), ("log_buf", c_void_p), ("kern_version", c_uint32),
        ("prog_flags", c_uint32), ("prog_name", c_char * 16), ("prog_ifindex", c_uint32),
        ("expected_attach_type", c_uint32), ("prog_btf_fd", c_uint32), ("func_info_rec_size", c_uint32),
        ("func_info", c_char_p), ("func_info_cnt", c_uint32), ("line_info_rec_size", c_uint32),
        ("line_info", c_char_p), ("line_info_cnt", c_uint32),
    ]  # fmt: skip


class Pin(ctypes.Structure):
    _fields_ = [("pathname", c_char_p), ("bpf_fd", c_uint32), ("file_flags", c_uint32)]


class TestRun(ctypes.Structure):
    _fields_ = [
        ("prog_fd", c_uint32), ("retval", c_uint32), ("data_size_in", c_uint32), ("data_size_out", c_uint32),
        ("data_in", c_char_p), ("data_out", c_void_p), ("repeat", c_uint32), ("duration", c_uint32),
        ("ctx_size_in", c_uint32), ("ctx_size_out", c_uint32), ("ctx_in", c_void_p), ("ctx_out", c_void_p),
        ("flags", c_uint32), ("cpu", c_uint32), ("batch_size", c_uint32),
    ]  # fmt: skip


class Info(ctypes.Structure):
    _fields_ = [("bpf_fd", c_uint32), ("info_len", c_uint32), ("info", c_void_p)]


class Id(ctypes.Structure):
    _fields_ = [("id", c_uint32), ("next_id", c_uint32), ("open_flags", c_uint32)]


class BtfLoad(ctypes.Structure):
    _fields_ = [
        ("btf", c_char_p), ("log_buf", c_void_p), ("btf_size", c_uint32), ("log_size", c_uint32),
        ("log_level", c_uint32),
    ]  # fmt: skip


class LinkCreate(ctypes.Structure):
    _fields_ = [
        ("prog_fd", c_uint32), ("target_ifindex", c_uint32), ("attach_type", c_uint32), ("flags", c_uint32),
        ("relative_fd", c_uint32), ("expected_revision", c_uint64),
    ]  # fmt: skip


class LinkChange(ctypes.Structure):
    """BPF_LINK_UPDATE; BPF_LINK_DETACH reads only the first; BPF_MAP_FREEZE too."""

    _fields_ = [("fd", c_uint32), ("new_prog_fd", c_uint32), ("flags", c_uint32), ("old_prog_fd", c_uint32)]


_libc = ctypes.CDLL(None, use_errno=True)
syscall = _libc.syscall
syscall.restype = ctypes.c_long
BPF = _NUMBERS.get(os.uname().machine, -1)  # -1: no such system call (ENOSYS)


def bpf(command: int, attributes: ctypes.Structure) -> int:
    """One call, made again where a signal broke it off; the result is a descriptor or 0. Raises OSError."""
    tries = 0
    while True:
        result: int = syscall(BPF, command, ctypes.byref(attributes), ctypes.sizeof(attributes))
        if result >= 0:
            return result
        code = ctypes.get_errno()
        tries += 1
        # The verifier stops at a signal with EAGAIN; where signals keep coming faster than it is done, so be it.
        stopped = code == errno.EAGAIN and command == PROG_LOAD and tries < _LOAD_TRIES
        if code != errno.EINTR and not stopped:
            raise OSError(code, os.strerror(code))


def permitted(error: OSError) -> OSError:
    """The same error; but LoadError with what to type where BPF is not allowed at all, or not there."""
    if error.errno == errno.EPERM:
        raise LoadError(NO_PERMISSION) from error
    if error.errno == errno.ENOSYS:
        raise LoadError(NO_BPF) from error
    return error


def address(data: bytes | bytearray | memoryview) -> int:
    """Where the bytes are; the caller keeps them alive."""
    if isinstance(data, bytes):
        return ctypes.cast(c_char_p(data), c_void_p).value or 0
    return ctypes.addressof(c_char.from_buffer(data)) if len(data) else 0


def lift_memory_limit() -> None:
    """Let this process lock as much memory as it likes, where it may (setrlimit(2))."""
    _libc.setrlimit(_RLIMIT_MEMLOCK, ctypes.byref((c_uint64 * 2)(_NO_LIMIT, _NO_LIMIT)))


def object_info(fd: int, size: int) -> bytes:
    """The first `size` bytes of what the kernel tells of a map, program, link or BTF. Raises OSError."""
    buffer = ctypes.create_string_buffer(size)
    bpf(OBJ_GET_INFO_BY_FD, Info(fd, size, ctypes.addressof(buffer)))
    return buffer.raw


def pin(fd: int, path: str) -> None:
    """Raises OSError."""
    bpf(OBJ_PIN, Pin(path.encode(), fd, 0))


def pinned(path: str) -> int | None:
    """A descriptor of what is pinned there; None when nothing is. Raises OSError."""
    try:
        return bpf(OBJ_GET, Pin(path.encode(), 0, 0))
    except FileNotFoundError:
        return None
