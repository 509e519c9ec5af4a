# SPDX-License-Identifier: Apache-2.0
"""What every cluster offers, whichever provider runs it: nodes, vantages, backends, an API, probes, proxies.

Requirements and plugins see only these types; `clusters/lab/` is the first provider.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from clusters import observation
from clusters.agent.client import Capture, HeldConnection, PacedFlow, ProbeRequest, Recording
from clusters.errors import ProxyError
from clusters.kube import KubeClient
from clusters.observation import Address, Family, Observation
from clusters.proxies.configuration import ProxyConfiguration

VantageKind = Literal["pod", "node", "outside"]


@dataclass(frozen=True, slots=True)
class Vantage:
    """A place traffic starts from: a pod, a node's host network, or the external client.

    `place` is what the agent needs to get there; `node` is None outside. `interface` is its way out, to
    the nodes' LAN or to its node, and `mac` the address of that, where the cluster can tell.
    """

    name: str
    kind: VantageKind
    node: str | None
    addresses: Mapping[Family, str]
    place: str | None
    interface: str | None = None
    mac: str | None = None


@dataclass(frozen=True, slots=True)
class Backend:
    """A place traffic can end: a pool pod (or a node's host network) whose agent answers on `ports`.

    On TCP, UDP and, where the cluster has the ability `sctp`, on SCTP.
    """

    name: str
    node: str
    addresses: Mapping[Family, str]
    ports: tuple[int, ...]
    vantage: Vantage


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its addresses on the LAN, its pod CIDRs, its host network as a vantage, and its share of the pool.

    `backends` are the pods tests use as endpoints, `client` is a pod that is never an endpoint, and `scout` is
    the pod that waiting uses and no test may. `vip_cidrs` are ranges for virtual IPs (of load balancers, and
    external IPs) that belong to nobody, and that traffic from outside reaches through this node. `inner_addresses`
    are its own on interfaces towards pods, such as a bridge's, and `second_addresses` others on the LAN; of neither
    does the API say anything. `uplink` is its interface to the LAN, where the cluster can tell.
    """

    name: str
    addresses: Mapping[Family, str]
    pod_cidrs: tuple[str, ...]
    vantage: Vantage
    backends: tuple[Backend, ...]
    client: Vantage
    scout: Backend
    host_backend: Backend
    vip_cidrs: tuple[str, ...] = ()
    inner_addresses: tuple[str, ...] = ()
    second_addresses: Mapping[Family, str] = field(default_factory=dict)
    zone: str | None = None
    uplink: str | None = None

    def own_addresses(self, family: Family) -> frozenset[str]:
        """Every address of the node itself: what an endpoint may see where the source is masqueraded."""
        unknown = (*self.inner_addresses, *self.second_addresses.values())
        ours = {address for address in unknown if (":" in address) == (family == "IPv6")}
        return frozenset({self.addresses[family], *ours})


@dataclass(frozen=True, slots=True)
class Link:
    """A way out of a vantage that needs no route: one of its interfaces, and the MAC of who is to get the frame."""

    interface: str
    mac: str


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What an HTTP server answered; headers by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: str


class Proxy(Protocol):
    """The system under test, on all nodes of a cluster."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def settle(self) -> Literal["ordered", "converge"]:
        """Whether it programs changes in ordered batches, or must be watched until it has converged."""

    def start(self) -> None:
        """Start on every node at once; returns when every node's proxy is up. Raises ProxyError."""

    def refuses(self, configuration: ProxyConfiguration, /) -> str | None:
        """Why it cannot be given this configuration, in a phrase; None where it can."""

    def configure(self, configuration: ProxyConfiguration, /) -> None:
        """Stop it on every node, and start it with this configuration, which it does not refuse.

        Its rules stay as it leaves them; connections, and the sysctls that it sets and never takes back, do not.
        Raises ProxyError.
        """

    def check(self) -> None:
        """Raise ProxyError if any node's proxy has died since it was started."""

    def never_ready(self, nodes: Sequence[str]) -> ProxyError:
        """The error for nodes where it runs, but programs nothing."""

    def stop(self) -> None:
        """SIGTERM, 5 s, SIGKILL, on every node at once."""

    def log_tail(self, node: str, /) -> str:
        """The last lines of its log on a node."""

    def rules(self, node: str, /) -> Mapping[str, str]:
        """The rules on a node in the mode's own words: command → output."""


class Announcer(Protocol):
    """What makes load balancers' addresses known on the nodes' LAN, on all nodes of a cluster."""

    @property
    def name(self) -> str: ...
    @property
    def balancer_class(self) -> str:
        """The `loadBalancerClass` of the Services whose addresses it announces."""

    @property
    def running(self) -> frozenset[str]:
        """The nodes on which it runs."""

    def start(self) -> None:
        """Start on every node at once; returns when every node's is up. Raises ProxyError."""

    def check(self) -> None:
        """Raise ProxyError if one has died that nobody has killed."""

    def kill(self, node: str, /) -> None:
        """SIGKILL on one node."""

    def start_again(self, node: str, /) -> None:
        """Start it again where it was killed; returns when it is up. Raises ProxyError."""

    def cut_off(self, node: str, /) -> None:
        """From now on the one on this node and the others hear nothing of each other; all else goes on."""

    def let_back(self, node: str, /) -> None:
        """The end of that."""

    def stop(self) -> None:
        """SIGTERM, 5 s, SIGKILL, on every node at once."""

    def log_tail(self, node: str, /) -> str:
        """The last lines of its log on a node."""


class Cluster(Protocol):
    """Nodes, an API endpoint, and a way to send and receive traffic."""

    @property
    def name(self) -> str: ...
    @property
    def kube(self) -> KubeClient: ...
    @property
    def nodes(self) -> Sequence[Node]: ...
    @property
    def outside(self) -> Vantage | None:
        """The external client, where there is one."""

    @property
    def cluster_cidrs(self) -> tuple[str, ...]:
        """The pod ranges of the whole cluster, as proxies are told."""

    @property
    def service_cidrs(self) -> tuple[str, ...]: ...
    @property
    def placeholders(self) -> Mapping[str, str]:
        """What it puts in the place of a configuration's placeholders, as far as it knows them."""

    @property
    def service_route(self) -> str | None:
        """The node through which the external client reaches ClusterIPs, where there is such a route."""

    @property
    def announced_cidrs(self) -> tuple[str, ...]:
        """Ranges on the nodes' LAN for virtual IPs that an announcer answers for; none where there is no such LAN."""

    @property
    def abilities(self) -> frozenset[str]:
        """Which of the closed list of needs this cluster can meet (`nodes:N` aside)."""

    def announce_zones(self) -> None:
        """Tell the API in which zones the nodes are, where the cluster has a say, whenever proxies have started.

        So does a cloud's controller: nodes register first. kube-proxy 1.37 now and then never learns of a zone that
        was there before it (docs/findings.md), which is no matter for a test of steady state.
        """

    def probe(
        self, requests: Sequence[ProbeRequest], *, timeout: float = 2.0, concurrency: int = 64
    ) -> list[Observation]:
        """Send every flow, at most `concurrency` at once; observations in the order of the requests."""

    def hold(self, request: ProbeRequest, *, request_size: int = 0) -> HeldConnection:
        """Open one connection (or fixed UDP socket) with a request of at least so many bytes, and keep it."""

    def hold_each(self, requests: Sequence[ProbeRequest]) -> list[HeldConnection]:
        """The same for many at once, in the order of the requests."""

    def paced(self, request: ProbeRequest, interval: float) -> PacedFlow:
        """Send on one fixed flow every `interval` seconds until told to stop."""

    def capture(self, vantage: Vantage, interface: str | None = None) -> Capture:
        """Record the packets that pass a vantage's interfaces."""

    def inject(self, vantage: Vantage, packet: bytes, link: Link | None = None) -> None:
        """Send an IP packet from a vantage exactly as it is, its header included; by a link rather than a route.

        By a link an ARP packet too.
        """

    def reload_firewall(self, node: str) -> None:
        """What a firewall does to a node that knows nothing of Services: all iptables rules and chains are gone."""

    def set_forward_policy(self, node: str, policy: Literal["ACCEPT", "DROP"]) -> None:
        """What a node's firewall does with packets to be forwarded that no rule of iptables decides about."""

    def rewind(self) -> None:
        """Forget the packets recorded so far, which a cluster keeps of its nodes and outside where it can."""

    def forget_flows(self) -> None:
        """Empty the nodes' connection tables where it can: no flow of an earlier test is of any interest.

        kube-proxy reads them whole whenever a UDP Service's endpoints change, which with the flows of minutes ago
        takes more time than all else that it does.
        """

    def recorded(self) -> Mapping[str, Recording]:
        """The packets recorded since the last rewind, by vantage name."""

    def fetch(self, vantage: Vantage, address: Address, path: str) -> HttpAnswer | None:
        """GET `path` from a vantage over plain http; None where nobody listens, or nobody answers within 2 s."""

    def received(self) -> Mapping[tuple[str, observation.Protocol, int], int]:
        """Connections and datagrams received so far, by (backend, protocol, port)."""

    def diagnostics(self, node: str) -> Mapping[str, str]:
        """Conntrack, addresses and routes of a node: command → output."""
