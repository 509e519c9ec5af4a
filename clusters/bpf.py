# SPDX-License-Identifier: Apache-2.0
"""Whether BPF can be loaded here: tried for real, with maps that nobody fills and programs of two instructions.

`python -m clusters.bpf TRIAL…` makes the trials that are named, the last in a network namespace of its own, and ends
with status 1 and one line where one fails. Layouts: linux/bpf.h, linux/pkt_sched.h, linux/pkt_cls.h.
"""

import ctypes
import os
import platform
import socket
import struct
import sys
from collections.abc import Callable, Mapping, Sequence

from clusters.lab import namespaces, rtnl

# bpf(2) has no wrapper in libc: its number on the machines that plumbline is used on.
NUMBERS = {"x86_64": 321, "aarch64": 280}
MAP_CREATE, PROG_LOAD, LINK_CREATE = 0, 5, 28
HASH, ARRAY, PERCPU_ARRAY, LRU_HASH, LPM_TRIE = 1, 2, 6, 9, 11
NO_PREALLOC, MMAPABLE = 1 << 0, 1 << 10
CLASSIFIER, XDP, SYSCALL = 3, 6, 31
SLEEPABLE = 1 << 4  # what is run by a system call has to be
TCX_INGRESS = 46
# r0 = 0; exit
NOTHING = struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0)
LICENSE = b"Dual BSD/GPL"
LO = 1
RTM_NEWQDISC, RTM_NEWTFILTER = 36, 44
TCA_KIND, TCA_OPTIONS, TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS = 1, 2, 6, 7, 8
TC_H_CLSACT, TC_H_INGRESS, CLSACT_HANDLE, ETH_P_ALL, ACT_DIRECT = 0xFFFFFFF1, 0xFFFFFFF2, 0xFFFF0000, 3, 1


def refused(euid: int) -> str | None:
    """Why this user cannot load BPF here, in a phrase; None where that works. Takes less than a millisecond."""
    if euid != 0:
        return "BPF needs root"
    try:
        _maps()
        _classifier()
    except OSError as error:
        return f"this kernel refuses BPF: {error}"
    return None


def main(trials: Sequence[str]) -> int:
    """Make the trials; the first that fails is one line on stderr, and the exit status 1."""
    for name in trials:
        try:
            TRIALS[name]()
        except OSError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def _bpf(command: int, attributes: bytes, what: str) -> int:
    """bpf(2). Raises OSError."""
    number = NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(f"plumbline does not know the number of bpf(2) on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(number, command, ctypes.create_string_buffer(attributes, 128), 128)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _map(kind: int, name: str, key: int, flags: int = 0) -> None:
    os.close(_bpf(MAP_CREATE, struct.pack("=IIIII", kind, key, 8, 1, flags), f"{name} map"))


def _program(kind: int, name: str, flags: int = 0) -> int:
    """A program that does nothing; its descriptor."""
    code = ctypes.create_string_buffer(NOTHING)
    licence = ctypes.create_string_buffer(LICENSE)
    places = ctypes.addressof(code), ctypes.addressof(licence)
    log_and_version = bytes(4 + 4 + 8 + 4)
    attributes = struct.pack("=IIQQ", kind, len(NOTHING) // 8, *places) + log_and_version + struct.pack("=I", flags)
    return _bpf(PROG_LOAD, attributes, f"{name} program")


def _maps() -> None:
    _map(HASH, "hash", 8, NO_PREALLOC)
    _map(ARRAY, "array", 4, MMAPABLE)
    _map(PERCPU_ARRAY, "per-CPU array", 4)
    _map(LRU_HASH, "LRU hash", 8)
    _map(LPM_TRIE, "longest-prefix", 8, NO_PREALLOC)


def _classifier() -> None:
    os.close(_program(CLASSIFIER, "classifier"))


def _xdp() -> None:
    os.close(_program(XDP, "XDP"))


def _syscall() -> None:
    os.close(_program(SYSCALL, "syscall", SLEEPABLE))


def _attach() -> None:
    """As a TCX link, or where the kernel has none (before 6.6) as a filter of a clsact queueing discipline."""
    namespaces.unshare(namespaces.CLONE_NEWNET)
    program = _program(CLASSIFIER, "classifier")
    try:
        os.close(_bpf(LINK_CREATE, struct.pack("=IIII", program, LO, TCX_INGRESS, 0), "TCX link"))
    except OSError:
        with rtnl.Rtnl() as link:
            link.batch([_clsact(), _filter(program)])
    finally:
        os.close(program)


def _clsact() -> rtnl.Message:
    body = struct.pack("=BxxxiIII", socket.AF_UNSPEC, LO, CLSACT_HANDLE, TC_H_CLSACT, 0)
    body += rtnl.attr(TCA_KIND, b"clsact\0")
    return rtnl.Message(RTM_NEWQDISC, rtnl.NLM_F_CREATE | rtnl.NLM_F_EXCL, body, "add clsact")


def _filter(program: int) -> rtnl.Message:
    info = 1 << 16 | socket.htons(ETH_P_ALL)
    options = rtnl.attr(TCA_BPF_FD, struct.pack("=I", program)) + rtnl.attr(TCA_BPF_NAME, b"nothing\0")
    options += rtnl.attr(TCA_BPF_FLAGS, struct.pack("=I", ACT_DIRECT))
    body = struct.pack("=BxxxiIII", socket.AF_UNSPEC, LO, 0, TC_H_INGRESS, info)
    body += rtnl.attr(TCA_KIND, b"bpf\0") + rtnl.attr(TCA_OPTIONS | rtnl.NESTED, options)
    return rtnl.Message(RTM_NEWTFILTER, rtnl.NLM_F_CREATE | rtnl.NLM_F_EXCL, body, "add a BPF filter to clsact")


TRIALS: Mapping[str, Callable[[], None]] = {
    "maps": _maps,
    "classifier": _classifier,
    "xdp": _xdp,
    "syscall": _syscall,
    "attach": _attach,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
