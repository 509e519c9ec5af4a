# SPDX-License-Identifier: Apache-2.0
"""What holds a program to an interface. It goes with its last descriptor and pin: a killed process leaves nothing.

A pinned link is called link-<ifindex>-<hook>, the hook being ingress, egress or xdp.
"""

import errno
import os
import struct
from pathlib import Path
from typing import Literal, Protocol

from dataplane_ref.loader import clsact, explain, syscalls
from dataplane_ref.loader.clsact import Direction
from dataplane_ref.loader.errors import LoadError
from dataplane_ref.loader.maps import pin
from dataplane_ref.loader.syscalls import LinkChange, LinkCreate, bpf

__all__ = ["ClsactLink", "Direction", "Hook", "Link", "NoTcxError", "attach"]

Hook = Literal["ingress", "egress", "xdp"]
_INFO = struct.Struct("<III4xII")  # type, id, prog_id; ifindex and, for TCX, attach type
_LINK_XDP, _LINK_TCX = 6, 11  # enum bpf_link_type


class Attachable(Protocol):
    """A program, as far as links know it."""

    fd: int
    name: str


class NoTcxError(LoadError):
    """The kernel is older than TCX (6.6); `Program.attach_clsact` does the same there."""


class Link:
    """A program attached to an interface. `is_adopted`: the link was pinned, and has only been given the program."""

    def __init__(
        self, fd: int, ifindex: int, hook: Hook, path: Path | None = None, *, is_adopted: bool = False
    ) -> None:
        self.fd = fd
        self.ifindex = ifindex
        self.hook = hook
        self.path = path
        self.is_adopted = is_adopted

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.ifindex}, {self.hook})"

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, program: Attachable) -> None:
        """Put another program in the place of this one, between two packets. Raises LoadError."""
        try:
            bpf(syscalls.LINK_UPDATE, LinkChange(self.fd, program.fd, 0, 0))
        except OSError as error:
            raise _refused(error, self.ifindex, self.hook) from error

    def close(self) -> None:
        """Let go: that detaches the program, unless the link is pinned."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def detach(self) -> None:
        """Detach the program, pinned or not, and close. An interface that has gone is no error."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None
        if self.fd >= 0:
            try:
                bpf(syscalls.LINK_DETACH, LinkChange(self.fd, 0, 0, 0))
            except OSError as error:
                if error.errno not in (errno.ENOLINK, errno.ENODEV, errno.EOPNOTSUPP):
                    raise
        self.close()

    def is_attached(self) -> bool:
        """Whether the interface is still there."""
        return self.fd >= 0 and _INFO.unpack(syscalls.object_info(self.fd, _INFO.size))[3] == self.ifindex


class ClsactLink(Link):
    """The same by a tc filter, which has no descriptor: with `stays`, closing leaves it where it is."""

    def __init__(self, ifindex: int, direction: Direction, *, stays: bool) -> None:
        super().__init__(-1, ifindex, direction)
        self._direction: Direction = direction
        self._stays = stays
        self._is_open = True

    def update(self, program: Attachable) -> None:
        """Put another program in the place of this one, between two packets. Raises LoadError."""
        clsact.attach(self.ifindex, self._direction, program.fd, program.name)

    def close(self) -> None:
        if not self._stays:
            self.detach()
        self._is_open = False

    def detach(self) -> None:
        if self._is_open:
            clsact.detach(self.ifindex, self._direction)
            self._is_open = False

    def is_attached(self) -> bool:
        """Whether the interface is still there."""
        return self._is_open and clsact.has_interface(self.ifindex)


def attach(fd: int, ifindex: int, kind: int, hook: Hook, flags: int, pins: Path | None) -> Link:
    """A link of the program `fd`: that which is pinned for the same place, or a new one. Raises LoadError."""
    path = pins / f"link-{ifindex}-{hook}" if pins is not None else None
    if path is not None:
        adopted = _adopt(path, fd, ifindex, kind, hook)
        if adopted is not None:
            return adopted
    try:
        link = bpf(syscalls.LINK_CREATE, LinkCreate(fd, ifindex, kind, flags, 0, 0))
    except OSError as error:
        raise _refused(error, ifindex, hook) from error
    if path is not None:
        try:
            pin(link, path)
        except LoadError:
            os.close(link)
            raise
    return Link(link, ifindex, hook, path)


def _adopt(path: Path, program: int, ifindex: int, kind: int, hook: Hook) -> Link | None:
    """The link pinned there, with the new program; a pin whose interface has gone is removed."""
    fd = syscalls.pinned(str(path))
    if fd is None:
        return None
    try:
        found, _, _, at, attach_type = _INFO.unpack(syscalls.object_info(fd, _INFO.size))
        wanted = (_LINK_XDP, ifindex) if kind == syscalls.XDP else (_LINK_TCX, ifindex, kind)
        if (found, at, attach_type)[: len(wanted)] == wanted:
            bpf(syscalls.LINK_UPDATE, LinkChange(fd, program, 0, 0))
            return Link(fd, ifindex, hook, path, is_adopted=True)
    except OSError as error:
        if error.errno not in (errno.ENOLINK, errno.ENODEV):
            os.close(fd)
            raise _refused(error, ifindex, hook) from error
    os.close(fd)
    path.unlink(missing_ok=True)
    return None


def _refused(error: OSError, ifindex: int, hook: Hook) -> LoadError:
    code = syscalls.permitted(error).errno
    if code in (errno.ENODEV, errno.ENOLINK) or not clsact.has_interface(ifindex):
        return LoadError(f"there is no interface with index {ifindex} here")
    if hook != "xdp" and code == errno.EINVAL:
        return NoTcxError(f"this kernel ({explain.release()}) lacks TCX: it needs Linux 6.6")
    if hook == "xdp" and code in (errno.EBUSY, errno.EEXIST):
        return LoadError(f"interface {ifindex} has an XDP program already: detach that one first")
    if hook == "xdp" and code == errno.EOPNOTSUPP:
        return LoadError(f"the driver of interface {ifindex} has no XDP of its own: use the generic mode")
    return LoadError(f"interface {ifindex} takes no program at {hook}: {os.strerror(code or 0)}")
