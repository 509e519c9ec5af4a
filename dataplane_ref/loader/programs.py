# SPDX-License-Identifier: Apache-2.0
"""A program in the kernel: run it with bytes of one's own, or attach it to an interface of this network namespace."""

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from dataplane_ref.loader import clsact, explain, links, syscalls
from dataplane_ref.loader.errors import LoadError
from dataplane_ref.loader.link import SYSCALL
from dataplane_ref.loader.links import ClsactLink, Direction, Link
from dataplane_ref.loader.syscalls import TestRun, bpf

KERNEL_TYPES = Path("/sys/kernel/btf/vmlinux")
_ROOM = 512  # by how much a program may lengthen a packet before the run is repeated with more room
_MOST = 1 << 16
_CONTEXT = 256  # at least the kernel's own size of __sk_buff and xdp_md, which the answer must have room for
_XDP_FLAGS = {"generic": 1 << 1, "native": 1 << 2}
Mode = Literal["native", "generic"]


class RunResult(NamedTuple):
    """What came of a run: the program's return value, the packet and context after it, ns per repetition."""

    retval: int
    data: bytes
    ctx: bytes
    duration_ns: int


class Program:
    """An open program. If it was loaded with pins, its links are pinned, and those pinned before are taken over."""

    def __init__(self, fd: int, name: str, kind: int, pins: Path | None = None) -> None:
        self.fd = fd
        self.name = name
        self.kind = kind
        self._pins = pins

    def __repr__(self) -> str:
        return f"Program({self.name}, fd {self.fd})"

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def run(self, data: bytes = b"", *, ctx: bytes = b"", repeat: int = 1, out: bool = True) -> RunResult:
        """One BPF_PROG_TEST_RUN. Raises OSError.

        `ctx` is a struct __sk_buff or xdp_md; for a program of type syscall, which takes no packet, its argument.
        `out=False` leaves the packet and context afterwards unread. With `repeat` the packet is *not* put back in
        between: each run sees what the one before has made of it.
        """
        if self.kind == SYSCALL:
            return self._run_call(ctx)
        argument = ctypes.create_string_buffer(ctx, len(ctx))
        after = ctypes.create_string_buffer(max(len(ctx), _CONTEXT)) if ctx and out else None
        room = len(data) + _ROOM
        while True:
            packet = ctypes.create_string_buffer(room) if out else None
            attributes = TestRun(prog_fd=self.fd, data_size_in=len(data), data_in=data, repeat=repeat)
            if ctx:
                attributes.ctx_size_in, attributes.ctx_in = len(ctx), ctypes.addressof(argument)
            if packet is not None:
                attributes.data_size_out, attributes.data_out = room, ctypes.addressof(packet)
            if after is not None:
                attributes.ctx_size_out, attributes.ctx_out = len(after), ctypes.addressof(after)
            try:
                bpf(syscalls.PROG_TEST_RUN, attributes)
            except OSError as error:
                if error.errno == errno.ENOSPC and packet is not None and room < _MOST:
                    room = _MOST
                    continue
                raise
            return RunResult(
                attributes.retval,
                ctypes.string_at(packet, attributes.data_size_out) if packet is not None else b"",
                ctypes.string_at(after, attributes.ctx_size_out) if after is not None else b"",
                attributes.duration,
            )

    def _run_call(self, ctx: bytes) -> RunResult:
        argument = ctypes.create_string_buffer(ctx, len(ctx))
        attributes = TestRun(prog_fd=self.fd)
        if ctx:
            attributes.ctx_size_in, attributes.ctx_in = len(ctx), ctypes.addressof(argument)
        bpf(syscalls.PROG_TEST_RUN, attributes)
        return RunResult(attributes.retval, b"", argument.raw, 0)

    def runner(self, capacity: int, *, ctx: bytes = b"") -> Callable[[bytes], int]:
        """For many packets of at most `capacity` bytes: a function that runs one and gives the return value.

        Nothing is copied back; `ctx` is the same for all. It is for one thread at a time. Raises OSError and
        ValueError when called.
        """
        argument = ctypes.create_string_buffer(ctx, len(ctx))
        attributes = TestRun(prog_fd=self.fd, repeat=1)
        if ctx:
            attributes.ctx_size_in, attributes.ctx_in = len(ctx), ctypes.addressof(argument)
        call, reference, size = syscalls.syscall, ctypes.byref(attributes), ctypes.sizeof(attributes)
        number, command = syscalls.BPF, syscalls.PROG_TEST_RUN

        def run(data: bytes, _argument: object = argument) -> int:  # the context lives as long as the function
            length = len(data)
            if length > capacity:
                raise ValueError(f"{length} bytes are more than the {capacity} that this runner was made for")
            attributes.data_in = data
            attributes.data_size_in = length
            attributes.data_size_out = 0  # or what the last run wrote here would limit this one
            if call(number, command, reference, size) < 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
            retval: int = attributes.retval
            return retval

        return run

    def attach_tc(self, ifindex: int, direction: Direction) -> Link:
        """Attach by TCX, or with clsact where the kernel is older than 6.6. Raises LoadError."""
        try:
            return self.attach_tcx(ifindex, direction)
        except links.NoTcxError:
            return self.attach_clsact(ifindex, direction)

    def attach_tcx(self, ifindex: int, direction: Direction) -> Link:
        """Attach to what an interface receives (ingress) or sends (egress), before programs that were there.

        The program is detached when the link is closed or the process ends, unless the link is pinned.
        Raises LoadError; NoTcxError, which is one too, where the kernel has no TCX.
        """
        kind = syscalls.TCX_INGRESS if direction == "ingress" else syscalls.TCX_EGRESS
        return links.attach(self.fd, ifindex, kind, direction, 0, self._pins)

    def attach_clsact(self, ifindex: int, direction: Direction) -> ClsactLink:
        """The same by a tc filter. It stays when the process dies; `close` removes it where nothing is pinned."""
        clsact.attach(ifindex, direction, self.fd, self.name)
        return ClsactLink(ifindex, direction, stays=self._pins is not None)

    def attach_xdp(self, ifindex: int, mode: Mode) -> Link:
        """Attach to what a driver receives; `generic`: what the kernel can do for any interface. Raises LoadError."""
        return links.attach(self.fd, ifindex, syscalls.XDP, "xdp", _XDP_FLAGS[mode], self._pins)


def load(attributes: syscalls.ProgramLoad, name: str, log_size: int = 1 << 20) -> int:
    """BPF_PROG_LOAD; the verifier writes its log only when it refuses. Raises LoadError with its telling line."""
    # Told of types it looks at functions by themselves; without its own it cannot tell which argument is the packet.
    plain = _without_types(attributes) if attributes.prog_btf_fd and not KERNEL_TYPES.exists() else 0
    if plain:
        return plain
    try:
        return bpf(syscalls.PROG_LOAD, attributes)
    except OSError as error:
        failure = syscalls.permitted(error)
    log = ctypes.create_string_buffer(log_size)
    attributes.log_level, attributes.log_size, attributes.log_buf = 1, log_size, ctypes.addressof(log)
    try:
        return bpf(syscalls.PROG_LOAD, attributes)  # what had been busy is free again
    except OSError as error:
        failure = error
    if failure.errno == errno.ENOSPC and log_size < 1 << 24:  # kernels before 6.4 keep the beginning, not the end
        return load(attributes, name, 1 << 24)
    said = log.value.decode("utf-8", "replace")
    # Refused before the verifier began: an older kernel may mind only the types.
    is_early = not said.strip() or "processed 0 insns" in said
    plain = _without_types(attributes) if is_early and attributes.prog_btf_fd else 0
    if plain:
        return plain
    if not said.strip():
        if failure.errno == errno.EINVAL:
            raise LoadError(explain.no_program_type(attributes.prog_type, name)) from failure
        raise LoadError(f"program {name} cannot be loaded: {failure.strerror}") from failure
    raise LoadError(explain.refused(name, said)) from failure


def _without_types(attributes: syscalls.ProgramLoad) -> int:
    """The program without BTF; 0 when the kernel minds more than that."""
    plain = syscalls.ProgramLoad()
    for name in ("prog_type", "insn_cnt", "insns", "license", "prog_flags", "prog_name", "expected_attach_type"):
        setattr(plain, name, getattr(attributes, name))
    # A c_char_p reads back as text up to the first zero; the address is what is wanted.
    for field in (syscalls.ProgramLoad.insns, syscalls.ProgramLoad.license):
        where = ctypes.c_void_p.from_buffer(attributes, field.offset).value
        ctypes.c_void_p.from_buffer(plain, field.offset).value = where
    try:
        return bpf(syscalls.PROG_LOAD, plain)
    except OSError:
        return 0
