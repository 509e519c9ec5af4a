# SPDX-License-Identifier: Apache-2.0
"""A network namespace with the interfaces, routes and neighbours of a node, for the time of a test: packets that are
run through a program are sent nowhere, but the datapath asks the kernel for their way."""

import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clusters.lab.namespaces import CLONE_NEWNET, setns, unshare

UPLINK, PODS = "eth0", "pods"
UPLINK_MAC, PODS_MAC, NEIGHBOUR_MAC = "02:00:00:00:00:10", "02:00:00:00:00:20", "02:00:00:00:00:99"
COMMANDS = f"""
link set lo up
link add {UPLINK} address {UPLINK_MAC} type veth peer name far-{UPLINK}
link add {PODS} address {PODS_MAC} type veth peer name far-{PODS}
link set {UPLINK} up
link set {PODS} up
link set far-{UPLINK} up
link set far-{PODS} up
route add default via 172.18.0.2 dev {UPLINK} onlink
route add default via fd00:172:18::2 dev {UPLINK} onlink
route add 10.244.0.0/24 dev {PODS}
route add fd00:10:244::/64 dev {PODS}
neighbour replace 172.18.0.2 dev {UPLINK} lladdr {NEIGHBOUR_MAC} nud permanent
neighbour replace fd00:172:18::2 dev {UPLINK} lladdr {NEIGHBOUR_MAC} nud permanent
""" + "".join(
    f"neighbour replace {prefix}{number} dev {PODS} lladdr {NEIGHBOUR_MAC} nud permanent\n"
    for prefix in ("10.244.0.", "fd00:10:244::")
    for number in range(2, 10)
)


OWN = ("172.18.0.10/16", "172.19.0.10/16", "fd00:172:18::10/64")


class Network:
    """A node's network, without a name: it is gone when it is closed. `own` are its addresses. Needs root."""

    def __init__(self, own: Iterable[str] = OWN) -> None:
        addresses = (f"address add {one} dev {UPLINK}{' nodad' if ':' in one else ''}\n" for one in own)
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            unshare(CLONE_NEWNET)
            try:
                self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
                for family in ("ipv4", "ipv6"):
                    for name in ("ip_forward", "conf/all/forwarding"):
                        with suppress(FileNotFoundError):
                            Path(f"/proc/sys/net/{family}/{name}").write_text("1")
                done = subprocess.run(
                    ["ip", "-batch", "-"],
                    input=COMMANDS.replace("route", "".join(addresses) + "route", 1),
                    text=True,
                    check=False,
                    stderr=subprocess.PIPE,
                )
                assert done.returncode == 0, done.stderr
            finally:
                setns(outside, CLONE_NEWNET)
        finally:
            os.close(outside)

    def close(self) -> None:
        os.close(self.fd)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in it."""
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        setns(self.fd, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(outside, CLONE_NEWNET)
            os.close(outside)
