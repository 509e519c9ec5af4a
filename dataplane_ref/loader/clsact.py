# SPDX-License-Identifier: Apache-2.0
"""Attaching by a tc filter: clsact and its BPF classifier (tc-bpf(8)), for kernels before TCX.

The netlink messages are written here (rtnetlink(7), include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls}.h); they are
about the network namespace of the calling thread.
"""

import errno
import os
import socket
import struct
from typing import Literal

from dataplane_ref.loader.errors import LoadError
from dataplane_ref.loader.syscalls import permitted

Direction = Literal["ingress", "egress"]

_NEWQDISC, _NEWFILTER, _DELFILTER = 36, 44, 45
_REQUEST, _ACK, _REPLACE, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
_NLMSG_ERROR = 2
_HEADER = struct.Struct("=IHHII")
_TCMSG = struct.Struct("=BBHiIII")
_KIND, _OPTIONS = 1, 2
_BPF_FD, _BPF_NAME, _BPF_FLAGS = 6, 7, 8
_DIRECT_ACTION = 1
_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
_PARENTS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_ALL_PROTOCOLS = socket.htons(3)  # ETH_P_ALL
# Ours among the filters of others: "PL" as both numbers. Lower priorities run earlier.
_PRIORITY = _FILTER = 0x504C


def attach(ifindex: int, direction: Direction, program: int, name: str) -> None:
    """Make or replace our filter there. Raises LoadError."""
    qdisc = _TCMSG.pack(0, 0, 0, ifindex, _CLSACT_HANDLE, _CLSACT, 0) + _attribute(_KIND, b"clsact\0")
    options = (
        _attribute(_BPF_FD, struct.pack("=I", program))
        + _attribute(_BPF_NAME, name.encode() + b"\0")
        + _attribute(_BPF_FLAGS, struct.pack("=I", _DIRECT_ACTION))
    )
    body = _filter(ifindex, direction) + _attribute(_KIND, b"bpf\0") + _attribute(_OPTIONS, options)
    try:
        _request(_NEWQDISC, _CREATE | _EXCLUSIVE, qdisc, allowed=(errno.EEXIST,))
        _request(_NEWFILTER, _CREATE | _REPLACE, body)
    except OSError as error:
        code = permitted(error).errno
        if code == errno.ENODEV:
            raise LoadError(f"there is no interface with index {ifindex} here") from error
        reason = os.strerror(code or 0)
        raise LoadError(f"interface {ifindex} takes no tc filter at {direction}: {reason}") from error


def detach(ifindex: int, direction: Direction) -> None:
    """Remove our filter there; that there is none, or no such interface, is no error. Raises LoadError."""
    body = _filter(ifindex, direction) + _attribute(_KIND, b"bpf\0")
    try:
        _request(_DELFILTER, 0, body, allowed=(errno.ENOENT, errno.ENODEV, errno.EINVAL))
    except OSError as error:
        reason = permitted(error).strerror
        raise LoadError(f"the tc filter of interface {ifindex} cannot be removed: {reason}") from error


def has_interface(ifindex: int) -> bool:
    """Whether this network namespace has the interface."""
    try:
        socket.if_indextoname(ifindex)
    except OSError:
        return False
    return True


def _filter(ifindex: int, direction: Direction) -> bytes:
    return _TCMSG.pack(0, 0, 0, ifindex, _FILTER, _PARENTS[direction], _PRIORITY << 16 | _ALL_PROTOCOLS)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def _request(kind: int, flags: int, body: bytes, allowed: tuple[int, ...] = ()) -> None:
    """One message and its acknowledgement. Raises OSError, but not with a number that is `allowed`."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        netlink.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | _ACK | flags, 1, 0) + body)
        answer = netlink.recv(1 << 16)
    _, answer_kind, _, _, _ = _HEADER.unpack_from(answer)
    code = -struct.unpack_from("=i", answer, _HEADER.size)[0] if answer_kind == _NLMSG_ERROR else errno.EPROTO
    if code and code not in allowed:
        raise OSError(code, os.strerror(code))
