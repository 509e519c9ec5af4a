# SPDX-License-Identifier: Apache-2.0
"""A raw socket that takes part in all of a namespace's SCTP, in one family (raw(7), ipv6(7)).

Linux gives every raw socket a copy of each packet of its protocol that is for the namespace itself, once netfilter
and tc have translated it. A kernel without SCTP of its own answers nothing while there is such a socket; one that
has it would answer too, and take everything here for a mistake (see `kernel_speaks_sctp`).
"""

import errno
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from clusters.agent.sockets import (
    IP_PKTINFO,
    QueuedError,
    family_of,
    grow_receive_buffer,
    queue_errors,
    read_errors,
)
from clusters.agent.wire import RequestError

IPPROTO_SCTP = 132
_BUFFER = 4 << 20
_MOST = 65535
_PKTINFO4 = struct.Struct("=I4s4s")  # struct in_pktinfo: interface, spec_dst (local), addr (header)
_PKTINFO6 = struct.Struct("=16sI")  # struct in6_pktinfo: address, interface


Refused = Callable[[QueuedError], None]


class Arrival(NamedTuple):
    """A packet as it came: between which addresses, and its bytes from the SCTP header on."""

    src: str
    dst: str
    data: bytes


def kernel_speaks_sctp(proc: Path = Path("/proc")) -> bool:
    """Whether the kernel has SCTP sockets, or has loaded the module that gives them. Asking does not load it."""
    return (proc / "net" / "sctp").exists()


class RawSctp:
    """The socket; made in the namespace the agent is in now. Raises RequestError where it may not be."""

    def __init__(self, family: socket.AddressFamily) -> None:
        try:
            self._sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, IPPROTO_SCTP)
        except PermissionError:
            raise RequestError("the agent may not open the raw sockets with which it speaks SCTP") from None
        self._is_ipv6 = family == socket.AF_INET6
        if self._is_ipv6:
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        grow_receive_buffer(self._sock, _BUFFER)

    def hear_errors(self) -> None:
        """Queue the ICMP errors about every SCTP packet that left the namespace; without it they are lost."""
        queue_errors(self._sock)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def receive(self) -> Arrival | None:
        """The next packet; None when there is none. An ICMP error that is in the way stays in the queue."""
        while True:
            try:
                data, ancillary, _flags, source = self._sock.recvmsg(_MOST, 128)
            except BlockingIOError:
                return None
            except OSError:
                if self._sock.fileno() < 0:
                    return None
                continue  # an ICMP error; that it was told here has cleared it, and its entry is still queued
            if not self._is_ipv6:
                header = (data[0] & 15) * 4
                return Arrival(source[0], socket.inet_ntop(socket.AF_INET, data[16:20]), data[header:])
            for level, kind, value in ancillary:
                if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                    return Arrival(source[0], socket.inet_ntop(socket.AF_INET6, value[:16]), data)

    def send(self, data: bytes, dst: str, src: str | None = None, refused: Refused | None = None) -> None:
        """Send one packet, from an address if one is given. Raises OSError where it could not leave.

        `refused` is told of ICMP errors that were in the way: one socket serves many flows, and what the kernel says
        when a packet is to leave may be about an earlier one of another flow.
        """
        ancillary = [] if src is None else [_leave_from(src)]
        tries = 2
        while True:
            try:
                self._sock.sendmsg([data], ancillary, 0, (dst, 0))
            except OSError as error:
                tries -= 1
                met = refused is not None and self.tell_errors(refused)
                if error.errno in (errno.EPERM, errno.ENOBUFS) or not (met or tries):
                    raise
            else:
                return

    def tell_errors(self, refused: Refused) -> bool:
        """Tell of every queued ICMP error, which quotes a packet from its SCTP header on; whether there was any."""
        errors = read_errors(self._sock)
        for error in errors:
            refused(error)
        return bool(errors)


def _leave_from(src: str) -> tuple[int, int, bytes]:
    """The ancillary data that makes a packet leave from an address."""
    if family_of(src) == socket.AF_INET6:
        return (
            socket.IPPROTO_IPV6,
            socket.IPV6_PKTINFO,
            _PKTINFO6.pack(socket.inet_pton(socket.AF_INET6, src), 0),
        )
    return socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO4.pack(0, socket.inet_pton(socket.AF_INET, src), bytes(4))
