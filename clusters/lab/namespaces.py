# SPDX-License-Identifier: Apache-2.0
"""The few Linux calls that Python 3.11 lacks: unshare, setns, mount and prctl, with errors as OSError.

See namespaces(7), mount(2), prctl(2). Everything here acts on the calling thread, or on its process.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE = 16384, 1 << 18
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


NETNS = Path("/run/netns")


def netns(name: str) -> Path:
    """Where the namespace of a node, pod, router or client is bound."""
    return NETNS / name


def _checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Move the caller into new namespaces of the given kinds."""
    _checked(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Move the calling thread into the namespace behind the descriptor."""
    _checked(_libc.setns(descriptor, kind), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode())
    _checked(result, f"mount {target}")


def prctl(option: int, value: int) -> None:
    """prctl(2), for options of one number."""
    _checked(_libc.prctl(option, value, 0, 0, 0), f"prctl({option})")


def die_with_parent(signal: int) -> None:
    """Have the kernel send this process the signal when the thread that created it ends."""
    prctl(PR_SET_PDEATHSIG, signal)


def become_root_of_new_user_namespace() -> None:
    """Enter a new user namespace in which the caller is root; for callers without privilege.

    Raises OSError where the kernel or the distribution forbids it.
    """
    uid, gid = os.getuid(), os.getgid()
    unshare(CLONE_NEWUSER)
    with suppress(FileNotFoundError):
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")


def new_network(path: Path) -> None:
    """Create a network namespace and bind it to `path`; the caller stays where it was."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNET)
        try:
            path.touch()
            mount("/proc/thread-self/ns/net", str(path), flags=MS_BIND)
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)


@contextmanager
def inside_network(path: Path | str) -> Iterator[int]:
    """Run a block inside a bound network namespace; yields its descriptor. Sockets made inside stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(there, CLONE_NEWNET)
            try:
                yield there
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(there)
    finally:
        os.close(home)
