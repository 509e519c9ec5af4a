# SPDX-License-Identifier: Apache-2.0
"""A flow as the model is asked about it: where it starts, and the address and port that are dialled."""

from dataclasses import dataclass
from typing import get_args

from dataplane_ref.model.addresses import Protocol, canonical, parse


@dataclass(frozen=True)
class FromPod:
    """A client in a pod with its own network namespace.

    `node` is the name of the node the pod runs on, `addresses` the pod's addresses. `egress_addresses` are
    those its packets carry once they leave the pod network for an address outside it, on clusters whose pod
    network masquerades such traffic (kindnet, flannel with ip-masq); empty where the pod's own address is
    kept.
    """

    node: str
    addresses: tuple[str, ...]
    egress_addresses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "addresses", _canonical(self.addresses))
        object.__setattr__(self, "egress_addresses", _canonical(self.egress_addresses))


@dataclass(frozen=True)
class FromNode:
    """A client process in the network namespace of a node (a hostNetwork pod, the kubelet, a daemon)."""

    node: str


@dataclass(frozen=True)
class FromOutside:
    """A client outside the cluster: neither a pod nor a node."""

    addresses: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "addresses", _canonical(self.addresses))


Entry = FromPod | FromNode | FromOutside


@dataclass(frozen=True)
class Flow:
    """One new flow: the first packet of a connection or of a UDP exchange.

    `dst` and `port` are what the client dials. `via` names the node at which a packet from outside arrives
    when `dst` is a virtual IP; it says nothing for traffic from pods and nodes (their own node sees it
    first) nor for node ports (the node that owns `dst` decides).
    """

    entry: Entry
    protocol: Protocol
    dst: str
    port: int
    via: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dst", canonical(self.dst))
        if self.protocol not in get_args(Protocol):
            raise ValueError(f"a flow's protocol is TCP, UDP or SCTP, not {self.protocol!r}")
        if not 1 <= self.port <= 65535:
            raise ValueError(f"a flow's port is 1 to 65535, not {self.port}")

    @property
    def to_loopback(self) -> bool:
        """Whether the client dials its own loopback (127.0.0.0/8 or ::1)."""
        return parse(self.dst).is_loopback

    def __str__(self) -> str:
        where = f"[{self.dst}]:{self.port}" if ":" in self.dst else f"{self.dst}:{self.port}"
        match self.entry:
            case FromPod(node=node):
                origin = f"a pod on {node}"
            case FromNode(node=node):
                origin = f"a process on {node}"
            case FromOutside():
                origin = "outside" + (f" through {self.via}" if self.via else "")
        return f"{self.protocol} from {origin} to {where}"


def _canonical(addresses: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(canonical(address) for address in addresses)
