# SPDX-License-Identifier: Apache-2.0
"""Whether IPVS has a scheduler: what is asked of a kernel that answers, and what is said of one that does not."""

import errno
import os
import struct
import subprocess
import sys
from collections.abc import Sequence

import pytest

from clusters import ipvs, kernel
from clusters.lab.rtnl import NLMSG_ERROR, attr
from tests.host.conftest import TOP, is_root

FAMILY = 33


class Kernel:
    """Answers generic netlink as one with IPVS that has these schedulers."""

    def __init__(self, *schedulers: str) -> None:
        self.schedulers = schedulers
        self.sent: list[bytes] = []

    def send(self, message: bytes) -> int:
        self.sent.append(message)
        return len(message)

    def recv(self, _size: int) -> bytes:
        (family,) = struct.unpack_from("=H", self.sent[-1], 4)
        if family == ipvs.CONTROL:
            body = struct.pack("=BBH", 1, 2, 0) + attr(2, b"IPVS\0") + attr(ipvs.FAMILY_ID, struct.pack("=H", FAMILY))
            return struct.pack("=IHHII", 16 + len(body), ipvs.CONTROL, 0, 1, 0) + body
        asked = any(attr(ipvs.SCHEDULER, name.encode() + b"\0") in self.sent[-1] for name in self.schedulers)
        return struct.pack("=IHHIIi", 20, NLMSG_ERROR, 0, 1, 0, 0 if asked else -errno.ENOENT)


def test_a_virtual_server_is_asked_for_with_its_scheduler() -> None:
    answering = Kernel("rr")
    family = ipvs._family(answering)  # type: ignore[arg-type]
    ipvs._try(answering, family, "rr", 20000)  # type: ignore[arg-type]
    length, kind, flags = struct.unpack_from("=IHH", answering.sent[-1])
    assert (length, kind, flags) == (len(answering.sent[-1]), FAMILY, 5)
    assert answering.sent[-1][16:18] == bytes([ipvs.NEW_SERVICE, ipvs.VERSION])
    assert struct.pack(">H", 20000) in answering.sent[-1]


def test_a_scheduler_that_is_missing_is_named_as_a_module() -> None:
    with pytest.raises(OSError, match="there is no module ip_vs_twos"):
        ipvs._try(Kernel("rr"), FAMILY, "twos", 20000)  # type: ignore[arg-type]


def tried(*schedulers: str) -> "subprocess.CompletedProcess[str]":
    """In a network namespace of its own."""
    command = ["unshare", "--net", sys.executable, "-S", "-m", "clusters.ipvs", *schedulers]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not is_root(), reason="unfit: needs root")
@pytest.mark.parametrize("schedulers", [("rr",), ("rr", "nonsense")])
def test_this_kernel_says_what_it_has(schedulers: Sequence[str]) -> None:
    """With IPVS it has round robin and no nonsense, without it nothing: one line in either case."""
    done = tried(*schedulers)
    if done.returncode == 0:
        assert schedulers == ("rr",)
    else:
        assert done.stderr in ("there is no module ip_vs_nonsense\n", f"{os.strerror(errno.ENOENT)}\n")
    assert done.stdout == ""


def test_the_scheduler_is_among_what_the_kernel_must_have() -> None:
    (asked,) = [one for one in kernel._features("ipvs", scheduler="lblcr") if one.program == "ipvs"]
    assert (asked.body, asked.option) == ("lblcr", "CONFIG_IP_VS_LBLCR")
    assert str(kernel.Lack(asked, "there is no module ip_vs_lblcr")) == (
        "the IPVS scheduler lblcr (CONFIG_IP_VS_LBLCR; there is no module ip_vs_lblcr)"
    )
