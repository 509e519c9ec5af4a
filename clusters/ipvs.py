# SPDX-License-Identifier: Apache-2.0
"""Whether IPVS can be used here with a scheduler: tried for real, by a virtual server that nobody will ever dial.

`python -m clusters.ipvs SCHEDULER…` makes one for each in the caller's network namespace, and ends with status 1 and
one line where one cannot be made. Layouts: linux/genetlink.h, linux/ip_vs.h.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Sequence

from clusters.lab.rtnl import NESTED, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, attr

NETLINK_GENERIC = 16
CONTROL, GET_FAMILY, FAMILY_NAME, FAMILY_ID = 0x10, 3, 2, 1
NEW_SERVICE, SERVICE, VERSION = 1, 1, 1
AF, PROTOCOL, ADDRESS, PORT, SCHEDULER, FLAGS, TIMEOUT, NETMASK = 1, 2, 3, 4, 6, 7, 8, 9
# Of TEST-NET-2 (RFC 5737), as kube-proxy's own trial.
NOBODY, FIRST_PORT = "198.51.100.0", 20000
ENOUGH = 65536


def main(schedulers: Sequence[str]) -> int:
    """Try the schedulers; the first that fails is one line on stderr, and the exit status 1."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as kernel:
            family = _family(kernel)
            for number, name in enumerate(schedulers):
                _try(kernel, family, name, FIRST_PORT + number)
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return 1
    return 0


def _try(kernel: socket.socket, family: int, scheduler: str, port: int) -> None:
    service = attr(AF, struct.pack("=H", socket.AF_INET)) + attr(PROTOCOL, struct.pack("=H", socket.IPPROTO_TCP))
    service += attr(ADDRESS, socket.inet_aton(NOBODY).ljust(16, b"\0")) + attr(PORT, struct.pack(">H", port))
    service += attr(SCHEDULER, scheduler.encode() + b"\0") + attr(FLAGS, struct.pack("=II", 0, 0xFFFFFFFF))
    service += attr(TIMEOUT, struct.pack("=I", 0)) + attr(NETMASK, struct.pack("=I", 0xFFFFFFFF))
    try:
        _ask(kernel, family, NEW_SERVICE, attr(SERVICE | NESTED, service))
    except FileNotFoundError:
        raise OSError(errno.ENOENT, f"there is no module ip_vs_{scheduler}") from None


def _family(kernel: socket.socket) -> int:
    """The number that this kernel gave IPVS's messages. Raises OSError where it has no IPVS."""
    answer = _ask(kernel, CONTROL, GET_FAMILY, attr(FAMILY_NAME, b"IPVS\0"))
    at = 16 + 4
    while at + 4 <= len(answer):
        length, kind = struct.unpack_from("=HH", answer, at)
        if kind == FAMILY_ID:
            return int(struct.unpack_from("=H", answer, at + 4)[0])
        at += max(4, (length + 3) & ~3)
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def _ask(kernel: socket.socket, family: int, command: int, body: bytes) -> bytes:
    """Send one message; the answer, whole. Raises OSError."""
    flags = NLM_F_REQUEST | (NLM_F_ACK if family != CONTROL else 0)
    message = struct.pack("=BBH", command, VERSION, 0) + body
    kernel.send(struct.pack("=IHHII", 16 + len(message), family, flags, 1, 0) + message)
    answer = kernel.recv(ENOUGH)
    if struct.unpack_from("=H", answer, 4)[0] == NLMSG_ERROR:
        code = -int(struct.unpack_from("=i", answer, 16)[0])
        if code:
            raise OSError(code, os.strerror(code))
    return answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
