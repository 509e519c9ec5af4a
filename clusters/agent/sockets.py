# SPDX-License-Identifier: Apache-2.0
"""What Linux sockets can do and Python's `socket` module does not name: error queues, packet info, big
buffers.

Sources: ip(7), ipv6(7), recvmsg(2), packet(7), include/uapi/linux/errqueue.h.
"""

import errno
import os
import socket
import struct
from typing import NamedTuple

IP_PKTINFO = 8
IP_RECVERR = 11
IP_BIND_ADDRESS_NO_PORT = 24
IPV6_RECVERR = 25
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_AUXDATA = 8

_ORIGIN_ICMP = 2  # SO_EE_ORIGIN_ICMP
_ORIGIN_ICMP6 = 3  # SO_EE_ORIGIN_ICMP6
_EXTENDED_ERR = struct.Struct("=IBBBBII")  # struct sock_extended_err
_RESET_NOW = struct.pack("=ii", 1, 0)  # struct linger: on, 0 seconds; close(2) then sends RST

IcmpTuple = tuple[int, int, str]


class QueuedError(NamedTuple):
    """One entry of a socket's error queue: errno, the ICMP message behind it, the quoted payload."""

    errno: int
    icmp: IcmpTuple | None
    quoted: bytes


def errno_name(number: int) -> str:
    return errno.errorcode.get(number, f"errno {number}")


def family_of(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def wildcard(family: int) -> str:
    return "::" if family == socket.AF_INET6 else "0.0.0.0"


def queue_errors(sock: socket.socket) -> None:
    """Ask for ICMP errors with their type, code and sender (IP_RECVERR); on an unconnected socket, for any at
    all.

    Linux queues them for a TCP socket in SYN_SENT too, and does so even when the error arrives while
    connect(2) still holds the socket, in which case the connection itself fails only at the next SYN, a
    second later.
    """
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)


def read_errors(sock: socket.socket) -> list[QueuedError]:
    """Everything in the error queue, oldest first. Reading an entry clears the error it left on the
    socket."""
    errors: list[QueuedError] = []
    while True:
        try:
            quoted, ancillary, _, _ = sock.recvmsg(65535, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:  # EAGAIN: empty
            return errors
        for level, kind, data in ancillary:
            if (level, kind) in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
                errors.append(_decode_error(data, quoted))


def _decode_error(data: bytes, quoted: bytes) -> QueuedError:
    number, origin, icmp_type, code, _, _, _ = _EXTENDED_ERR.unpack_from(data)
    if origin not in (_ORIGIN_ICMP, _ORIGIN_ICMP6):
        return QueuedError(number, None, quoted)
    # The offender follows as a sockaddr_in or sockaddr_in6 (SO_EE_OFFENDER).
    offender = data[_EXTENDED_ERR.size :]
    family = int.from_bytes(offender[:2], "little" if struct.pack("=H", 1)[0] else "big")
    if family == socket.AF_INET:
        sender = socket.inet_ntop(socket.AF_INET, offender[4:8])
    elif family == socket.AF_INET6:
        sender = socket.inet_ntop(socket.AF_INET6, offender[8:24])
    else:
        sender = ""
    return QueuedError(number, (icmp_type, code, sender), quoted)


def pending_error(sock: socket.socket) -> int:
    """The errno waiting on the socket, 0 when there is none; reading it clears it."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def reset_on_close(sock: socket.socket) -> None:
    """Make close(2) send RST, which leaves no TIME_WAIT behind."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_NOW)


def grow_receive_buffer(sock: socket.socket, size: int) -> None:
    """A receive buffer of `size` bytes, beyond rmem_max where the agent may."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def explain(error: OSError) -> str:
    """`ENETUNREACH (Network is unreachable)`, for sentences."""
    number = error.errno or 0
    return f"{errno_name(number)} ({os.strerror(number)})"
