# SPDX-License-Identifier: Apache-2.0
"""The connections that the kernel tracks in a network namespace, by raw netlink: a program takes 5 ms to start."""

import os
import socket
import struct

NETLINK_NETFILTER = 12
# linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h: a subsystem and a message make a type.
NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE = 1, 2
NLM_F_REQUEST, NLM_F_ACK, NLMSG_ERROR = 1, 4, 2
# nlmsghdr (length, type, flags, sequence, port), nfgenmsg (family: any, version, resource).
_FLUSH = struct.Struct("=IHHIIBBH")
_HEADER = struct.Struct("=IHHIIi")


class ConnectionTable:
    """That of the namespace in which it was made, for as long as the socket lives."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.bind((0, 0))

    def flush(self) -> None:
        """Forget every connection, in both families. Raises OSError."""
        kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE
        self._socket.send(_FLUSH.pack(_FLUSH.size, kind, NLM_F_REQUEST | NLM_F_ACK, 1, 0, socket.AF_UNSPEC, 0, 0))
        _, answered, _, _, _, error = _HEADER.unpack_from(self._socket.recv(4096))
        if answered != NLMSG_ERROR or error:
            raise OSError(-error, os.strerror(-error))
