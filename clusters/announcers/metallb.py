# SPDX-License-Identifier: Apache-2.0
"""MetalLB's speaker in layer 2 mode, one per lab node: https://metallb.io/concepts/layer2/.

It needs no container: it answers ARP and NDP itself, by raw sockets, and is told everything by the API and by its
command line. Who leads is settled between the speakers, which find out by gossip (memberlist) who is alive.
"""

import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address
from pathlib import Path
from typing import Literal

from clusters.announcers.objects import NAMESPACE, SPEAKER, pod_name, write_objects
from clusters.errors import PlumblineError, ProxyError
from clusters.kube import KubeClient
from clusters.lab.topology import UPLINK
from clusters.proxies.base import POLL_INTERVAL, Host, NodeProcesses, Place

# The class of the Services that it announces: of all others it keeps its hands off.
BALANCER_CLASS = "plumbline.example/announced"
HEALTH_PORT, MEMBERS_PORT = 17472, 7946
CUT_OFF = f"""
table inet plumbline-members {{
  chain in {{
    type filter hook input priority -300
    th dport {MEMBERS_PORT} drop
    th sport {MEMBERS_PORT} drop
  }}
  chain out {{
    type filter hook output priority -300
    th dport {MEMBERS_PORT} drop
    th sport {MEMBERS_PORT} drop
  }}
}}
"""
LOWER_HALF = (1 << 64) - 1


class MetalLB(NodeProcesses):
    """The real speaker. Implements `clusters.api.Announcer`."""

    name = "metallb-speaker"
    mode = "layer2"
    settle: Literal["ordered", "converge"] = "converge"
    balancer_class = BALANCER_CLASS

    def __init__(
        self,
        host: Host,
        kube: KubeClient,
        *,
        binary: Path,
        version: str,
        ranges: Sequence[str],
        ready_deadline: float,
    ) -> None:
        """`ranges`: the addresses that may be announced."""
        super().__init__(host, ready_deadline)
        self.binary = binary
        self.version = version
        self._kube = kube
        self._ranges = ranges
        self._secret = secrets.token_urlsafe(96)

    def start(self) -> None:
        """Write what speakers read, start one on every node, and wait until each is up. Raises ProxyError."""
        write_objects(self._kube, self.host.places, self._ranges)
        for place in self.host.places:
            self._give_link_local(place)
        super().start()

    def argv(self, place: Place) -> Sequence[str]:
        secret = self.host.write_file(place, "memberlist/secretkey", self._secret)
        labels = ",".join(f"{name}={value}" for name, value in SPEAKER.items())
        self.host.write_file(place, "speaker.kubeconfig", self.host.kubeconfig(place))
        return [
            str(self.binary),
            f"--namespace={NAMESPACE}",
            f"--node-name={place.name}",
            f"--pod-name={pod_name(place.name)}",
            f"--lb-class={self.balancer_class}",
            f"--health-probe-port={HEALTH_PORT}",
            "--port=0",  # no metrics, which nobody asks for
            f"--ml-bindaddr={place.ipv4}",
            f"--ml-bindport={MEMBERS_PORT}",
            f"--ml-labels={labels}",
            f"--ml-secret-key-path={Path(secret).parent}",
        ]

    def environment(self) -> Mapping[str, str]:
        return {"KUBECONFIG": "/run/plumbline/speaker.kubeconfig"}

    def is_up(self, node: str) -> bool:
        try:
            status, _ = self.host.http_get(node, HEALTH_PORT, "/readyz")
        except PlumblineError:
            return False
        return status == 200

    @property
    def running(self) -> frozenset[str]:
        """The nodes on which nobody has killed it."""
        return frozenset(self.pids)

    def check(self) -> None:
        """Raise ProxyError if a speaker has ended by itself."""
        for node, pid in self.pids.items():
            # Whoever looks after the proxies takes all news of processes that ended.
            if not self.host.supervisor.signal(pid, 0):
                raise ProxyError(f"{self.name} on {node} has ended; its log ends:{self._tail(node)}")

    def kill(self, node: str) -> None:
        """SIGKILL, as if its node had run out of memory. The node itself, its proxy included, goes on."""
        pid = self.pids.pop(node)
        self.host.supervisor.signal(pid, signal.SIGKILL)
        if self.host.supervisor.await_exit(pid, self.ready_deadline) is None:
            raise PlumblineError(f"{self.name} on {node} does not end")

    def start_again(self, node: str) -> None:
        """What a kubelet does; returns when it is up. Raises ProxyError."""
        self._start_on(next(place for place in self.host.places if place.name == node))
        end = time.monotonic() + self.ready_deadline
        while not self.is_up(node):
            self.check()
            if time.monotonic() > end:
                raise self.never_ready([node])
            time.sleep(POLL_INTERVAL)

    def cut_off(self, node: str) -> None:
        """From now on this one and the others hear nothing of each other; everything else goes on."""
        self._nft(node, CUT_OFF)

    def let_back(self, node: str) -> None:
        """The end of that."""
        self._nft(node, "delete table inet plumbline-members\n")

    def _nft(self, node: str, rules: str) -> None:
        done = self.host.supervisor.run(["nft", "-f", "-"], node=node, text=rules)
        if done.status != 0:
            raise PlumblineError(
                f"the speaker on {node} cannot be cut off from others, or let back: {done.err.strip()}"
            )

    def _give_link_local(self, place: Place) -> None:
        """An address that the lab's nodes lack, and without which nobody can answer for an IPv6 address.

        Neighbour advertisements come from it (RFC 4861, 4.4).
        """
        address = IPv6Address((0xFE80 << 112) | (int(IPv6Address(place.ipv6)) & LOWER_HALF))
        command = ["ip", "-6", "address", "add", f"{address}/64", "dev", UPLINK, "nodad"]
        done = self.host.supervisor.run(command, node=place.name)
        if done.status != 0:
            raise PlumblineError(f"{place.name} could not be given a link-local address: {done.err.strip()}")
