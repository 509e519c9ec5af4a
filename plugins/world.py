# SPDX-License-Identifier: Apache-2.0
"""The world as a requirement sees it: the pool, vantages, Services to arrange, and the model to ask.

One world lives as long as the cluster. Objects belong to a *scope*: an arranged batch or a single test, and are
deleted with it.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any, Literal

from clusters.api import Announcer, Backend, Cluster, Node, Vantage
from clusters.kube import NODES, Object
from clusters.observation import Family, Protocol
from clusters.proxies.configuration import DEFAULT, ProxyConfiguration
from dataplane_ref.model import (
    ClusterState,
    Entry,
    Flow,
    FromNode,
    FromOutside,
    FromPod,
    Health,
    NodeView,
    Past,
    ProxyConfig,
    Verdict,
    health,
    next_packet,
    past_after_change,
    verdict,
)
from plugins.flows import Everywhere, Prober
from plugins.held import HeldFlows, Line, held
from plugins.oracle import SecondOpinion, question
from plugins.pins import Pins, pinned
from plugins.record import Record
from plugins.requirements import PLACES
from plugins.scouts import disallowed
from plugins.services import Frontend, Mirror, Port, Service, Target, family_of, service_spec
from plugins.settle import Deadlines, Settled, Settler
from plugins.slices import Endpoint, Slice
from plugins.wire import Place, Roles, Talk, Wire, talking, watching

PROTOCOLS: tuple[Protocol, ...] = ("TCP", "UDP")


class UnfitError(Exception):
    """This cluster cannot judge the requirement; the sentence says what it lacks."""


class World:
    """What `arrange` functions and tests work with. Not thread-safe."""

    def __init__(
        self,
        cluster: Cluster,
        settler: Settler,
        *,
        families: tuple[Family, ...],
        probe_timeout: float,
        after_settling: Callable[[], None],
        oracle: SecondOpinion | None = None,
    ) -> None:
        self.cluster = cluster
        self._oracle = oracle
        self.families = families
        self.probe_timeout = probe_timeout
        self.mirror = Mirror()
        self.record = Record("", "", "", "", {})
        self._settler = settler
        self._after_settling = after_settling
        self._names = itertools.count(1)
        self._virtual_ips: dict[str, Iterator[int]] = {}
        self._announced = itertools.cycle(range(1, 255))
        self.announcer: Announcer | None = None
        self.arrivals: dict[str, str] = {}
        self._scope: list[Service] = []
        self._done_with: list[Service] = []
        self._nodes = node_views(cluster, cluster.kube.list(NODES))
        self._config = model_config(cluster, DEFAULT)
        self._state: tuple[int, ClusterState] | None = None

    # Who there is.

    @property
    def nodes(self) -> Sequence[Node]:
        return self.cluster.nodes

    def backends(self, count: int) -> list[Backend]:
        """`count` backends, spread over the nodes: the first of each, then the second, … Raises UnfitError."""
        by_node = [node.backends for node in self.nodes]
        spread = [backend for row in itertools.zip_longest(*by_node) for backend in row if backend]
        if len(spread) < count:
            raise UnfitError(f"needs {count} backends, and the cluster's pool has {len(spread)}")
        return spread[:count]

    def many_backends(self, count: int) -> list[Backend]:
        """`count` backends at addresses of their own in one place on the second node. Raises UnfitError.

        They have a name in common: only the address at which a flow was served tells them apart.
        """
        dense: Callable[[str, int], list[Backend]] | None = getattr(self.cluster, "dense_backends", None)
        if dense is None:
            raise UnfitError("the cluster has no place for hundreds of endpoints")
        return dense(self.node_at("second").name, count)

    def vantage(self, name: str) -> Prober:
        """`pod@second`, `node@first` (the first node unless said), or `outside`. Raises UnfitError."""
        kind, _, place = name.partition("@")
        node = self.node_at(place or "first")
        match kind:
            case "pod":
                return self.prober(node.client)
            case "node":
                return self.prober(node.vantage)
            case "outside" if self.cluster.outside:
                return self.prober(self.cluster.outside)
        raise UnfitError(f"the cluster has no vantage {name!r}")

    def everywhere(self, *kinds: str) -> Everywhere:
        """All vantages of these kinds, on every node, however many there are. Raises UnfitError."""
        vantages = {"pod": [node.client for node in self.nodes], "node": [node.vantage for node in self.nodes]}
        probers = []
        for kind in kinds:
            of_kind = [self.prober(vantage) for vantage in vantages.get(kind, ())]
            probers += of_kind or [self.vantage(kind)]
        return Everywhere(tuple(probers))

    def hold_everywhere(self, protocol: Protocol, *services: Service) -> AbstractContextManager[HeldFlows]:
        """A flow from every vantage to every frontend of Services, each kept with its source port.

        Raises UnfitError without an external client, who dials all but ClusterIPs.
        """
        inside, anyone = self.everywhere("pod", "node"), self.everywhere("outside", "pod", "node")
        lines = []
        for service in services:
            lines += inside.lines(service.every_cluster_ip(protocol))
            lines += anyone.lines([target for target in self.outer_frontends(service) if target[1] == protocol])
        return held(lines)

    def crowd(self, *kinds: str) -> Everywhere:
        """All vantages of these kinds, and the pool's pods as clients besides. Raises UnfitError."""
        pool = [self.prober(backend.vantage) for node in self.nodes for backend in node.backends]
        return Everywhere((*self.everywhere(*kinds).probers, *pool))

    def pin(self, lines: Sequence[Line]) -> Pins:
        """One new connection for each line: under session affinity, whom each client is with from now on.

        No client may dial two frontends of one Service port at once: who would have been first?
        """
        return pinned(lines, self._settler.clock)

    def now(self) -> float:
        """Seconds since some moment, by the clock that packets are stamped with."""
        return self._settler.clock.now()

    @property
    def deadlines(self) -> Deadlines:
        return self._settler.deadlines

    def idle(self, seconds: float) -> None:
        """Open no connection for so long."""
        self._settler.clock.let_pass(seconds)

    def outer_frontends(self, service: Service) -> list[Target]:
        """A Service's node ports at every node, external IPs and load balancer's IPs."""
        has_node_ports = any("nodePort" in port for port in service.live["spec"]["ports"])
        at_nodes = [one for node in self.nodes if has_node_ports for one in service.every_node_port(node)]
        return [*at_nodes, *service.every_external_ip(), *service.every_load_balancer_ip()]

    def on(self, node: Node) -> Everywhere:
        """A pod of the node, and a process of its own."""
        return Everywhere((self.prober(node.client), self.prober(node.vantage)))

    def at(self, *vantages: Vantage) -> Everywhere:
        """These vantages at once, backends' own for instance."""
        return Everywhere(tuple(self.prober(vantage) for vantage in vantages))

    def zones(self, count: int) -> list[str]:
        """Zones that the nodes are in, `count` of them. Raises UnfitError."""
        zones = sorted({node.zone for node in self.nodes if node.zone})
        if len(zones) < count or not all(node.zone for node in self.nodes):
            raise UnfitError(f"needs nodes in {count} zones, and the cluster's are in {len(zones)}")
        return zones[:count]

    def node_at(self, place: str) -> Node:
        """The `first`, `second` or `third` node. Raises UnfitError."""
        number = PLACES.index(place)
        if number >= len(self.nodes):
            raise UnfitError(f"needs {number + 1} nodes, and the cluster has {len(self.nodes)}")
        return self.nodes[number]

    def virtual_ips(self, through: str = "first") -> list[str]:
        """An address for a load balancer in each family, which traffic from outside reaches through this node.

        Addresses come round again only after all of a node's ranges have been used. Raises UnfitError.
        """
        node = self.node_at(through)
        if not node.vip_cidrs:
            raise UnfitError("the cluster has no addresses for load balancers")
        number = next(self._virtual_ips.setdefault(node.name, itertools.cycle(range(1, 255))))
        both = [str(ip_network(cidr)[number]) for cidr in node.vip_cidrs]
        return [ip for ip in both if family_of(ip) in self.families]

    def announced_ips(self) -> list[str]:
        """An address for a load balancer in each family that is the announcer's to make known. Raises UnfitError."""
        if not self.cluster.announced_cidrs:
            raise UnfitError("the cluster has no addresses for load balancers on its nodes' LAN")
        number = next(self._announced)
        both = [str(ip_network(cidr)[number]) for cidr in self.cluster.announced_cidrs]
        return [ip for ip in both if family_of(ip) in self.families]

    def enters_at(self, node: Node, target: Target) -> bool:
        """Whether traffic from outside to a virtual IP arrives at this node."""
        return entrance(self.nodes, target[0].ip) == node.name

    def prober(self, vantage: Vantage) -> Prober:
        """Probe from any vantage, a backend's own for instance."""
        return Prober(vantage, self.cluster, self.verdict, self.continued, self.record, self.probe_timeout)

    def watching(self, **roles: Place | Frontend) -> AbstractContextManager[Wire]:
        """Capture at several places at once, each under its role; a frontend's role names its address in failures."""
        return self._watching(roles)

    def talking(
        self, client: Prober, frontend: Frontend, protocol: Protocol, endpoint: Backend, **others: Place
    ) -> AbstractContextManager[Talk]:
        """A flow to a frontend's only endpoint, watched at both ends (and at others' places)."""
        return talking(self._watching, client, self.prober(endpoint.vantage), frontend, protocol, others)

    def received(self) -> Mapping[tuple[str, Protocol, int], int]:
        """Connections and datagrams by (backend, protocol, port), once backends have read all that has arrived."""
        return self.cluster.received()

    def _watching(self, roles: Roles) -> AbstractContextManager[Wire]:
        return watching(self.cluster.capture, self.nodes, self.record, roles)

    # What tests arrange.

    def service(
        self,
        *,
        endpoints: Iterable[Endpoint | Backend] = (),
        slices: Sequence[Slice] | None = None,
        port: int = 80,
        target_port: int = 8080,
        ports: Sequence[Port] | None = None,
        kind: str = "ClusterIP",
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        ingress: Iterable[Object | str] = (),
        cidrs: Iterable[str] = (),
        **spec: Any,
    ) -> Service:
        """Create a Service, on TCP and UDP and in every family unless said otherwise, and its EndpointSlices.

        `endpoints` are those of one slice, unless `slices` are given. `ingress` is what the load balancer's status
        says: addresses, or whole items with an `ipMode`. `cidrs` are ranges that ClusterIPs may be of while
        the Service is there.
        """
        if ports is None:
            ports = [Port(port, target_port, protocol) for protocol in PROTOCOLS]
        made = Service(
            name=f"svc-{next(self._names)}",
            kube=self.cluster.kube,
            mirror=self.mirror,
            ports=tuple(ports),
            spec=service_spec(kind, ports, self.families, spec),
            labels=labels or {},
            families=self.families,
            slices=tuple(slices) if slices is not None else (Slice(endpoints),),
            ingress=tuple({"ip": item} if isinstance(item, str) else item for item in ingress),
            annotations=annotations or {},
            cidrs=tuple(cidrs),
        )
        self._scope.append(made)
        made.create()
        return made

    def restart_proxy(self) -> None:
        """Stop the proxy on every node, start it again, and wait until it follows. Raises UnfitError, ProxyError.

        Nothing else is touched: its rules and all connections stay as it leaves them. Nodes are given their zones
        anew, as after every start (`Cluster.announce_zones`).
        """
        proxy = self._settler.proxy
        if proxy.name == "none":
            raise UnfitError("the proxy is not ours to start again")
        proxy.stop()
        proxy.start()
        self.cluster.announce_zones()
        self.settle()

    def settle(
        self, mode: Literal["converge"] | None = None, *, also: Callable[[], Mapping[str, str]] = dict
    ) -> Settled:
        """Wait until the dataplane has programmed everything written so far; the time goes into the record.

        `converge` waits for what is seen rather than for what was written: after damage that no write undoes, or
        where nothing orders what was written. `also` is what else is not yet as it must be, by what it is of.
        """
        self.delete_what_is_done_with()
        settled = self._settler.settle(mode, lambda: {**disallowed(self, self._settler.deadlines.scout), **also()})
        self.mirror.former.clear()
        self.record.settle_s = (self.record.settle_s or 0.0) + settled.seconds
        self.note(settled, self._scope)
        self._after_settling()
        self.cluster.rewind()  # what waiting sent is not what a failure is about
        return settled

    @contextmanager
    def forwarding_nothing(self, node: Node) -> Iterator[None]:
        """Inside, the node's firewall forwards nothing of itself: what passes, somebody has let pass."""
        self.cluster.set_forward_policy(node.name, "DROP")
        try:
            yield
        finally:
            self.cluster.set_forward_policy(node.name, "ACCEPT")

    def note(self, settled: Settled, services: Iterable[Service]) -> None:
        """Remember in the record if some of a test's own Services had not settled, and why the first time."""
        if self.record.settled and not settled.covers(service.name for service in services):
            self.record.settled = False
            self.record.reason = f"not settled after {settled.seconds:.1f} s: {', '.join(settled.missing[:3])}"

    @contextmanager
    def labelled(self, node: Node, label: str, value: str) -> Iterator[None]:
        """Inside, a node has another value for a label, and afterwards its own again. Watched nodes *converge*."""
        before = (self.cluster.kube.get(NODES, node.name)["metadata"].get("labels") or {}).get(label)
        self._change_node(node, {"metadata": {"labels": {label: value}}})
        try:
            yield
        finally:
            self._change_node(node, {"metadata": {"labels": {label: before}}})

    @contextmanager
    def tainted(self, node: Node, key: str) -> Iterator[None]:
        """Inside, a node has one taint more, which keeps new pods off it."""
        before = (self.cluster.kube.get(NODES, node.name).get("spec") or {}).get("taints") or []
        taint = {"key": key, "effect": "NoSchedule"}
        self._change_node(node, {"spec": {"taints": [*before, taint]}})
        try:
            yield
        finally:
            self._change_node(node, {"spec": {"taints": before or None}})

    def _change_node(self, node: Node, patch: Object) -> None:
        self.cluster.kube.patch(NODES, node.name, patch)
        self._nodes = node_views(self.cluster, self.cluster.kube.list(NODES))
        self._state = None

    @contextmanager
    def scope(self, services: list[Service]) -> Iterator[list[Service]]:
        """Services made inside belong to the given list."""
        before, self._scope = self._scope, services
        try:
            yield services
        finally:
            self._scope = before

    def adopt(self, services: Iterable[Service]) -> None:
        """Services made elsewhere belong to the scope of now on."""
        self._scope.extend(services)

    def done_with(self, services: Iterable[Service]) -> None:
        """They are deleted when something is settled next: until then the dataplane has nothing to do."""
        self._done_with.extend(services)

    def delete_what_is_done_with(self) -> None:
        """Delete them now; the next settle covers it."""
        for service in self._done_with:
            service.delete()
        self._done_with.clear()

    # What may happen.

    def configured(self, configuration: ProxyConfiguration) -> None:
        """The proxies have been started anew, and are judged by this configuration (without placeholders)."""
        self._config = model_config(self.cluster, configuration)
        self._state = None

    def state(self) -> ClusterState:
        """The cluster as the model sees it, built anew only when an object changed."""
        if self._state is None or self._state[0] != self.mirror.version:
            state = ClusterState.from_objects(
                nodes=self._nodes,
                services=list(self.mirror.services.values()),
                endpoint_slices=list(self.mirror.slices.values()),
                config=self._config,
            )
            self._state = (self.mirror.version, state)
        return self._state[1]

    def modelled(self, vantage: Vantage, frontend: Frontend, protocol: Protocol) -> Verdict:
        """What the model allows a flow from a vantage to a frontend."""
        via = self._arrival(vantage, frontend)
        return verdict(self.state(), Flow(entry_of(vantage), protocol, frontend.ip, frontend.port, via))

    def verdict(self, vantage: Vantage, frontend: Frontend, protocol: Protocol) -> Verdict:
        """The same, and the oracle agrees, where there is one. Raises DisagreementError where it does not."""
        judged = self.modelled(vantage, frontend, protocol)
        if self._oracle is not None:
            node = next((one for one in self.nodes if one.name == vantage.node), None)
            via = self._arrival(vantage, frontend)
            asked = question(vantage, node, via, frontend.ip, frontend.port, protocol)
            self.record.oracle_asked |= self._oracle.agrees(self.state(), asked, judged)
        return judged

    def continued(self, vantage: Vantage, frontend: Frontend, protocol: Protocol, past: Past) -> tuple[Verdict, Past]:
        """What the model allows the next packet of a flow with this past; and its past, as it is now."""
        state = self.state()
        flow = Flow(entry_of(vantage), protocol, frontend.ip, frontend.port, self._arrival(vantage, frontend))
        past = past_after_change(state, flow, past)
        return next_packet(state, flow, past), past

    def _arrival(self, vantage: Vantage, frontend: Frontend) -> str | None:
        """An announced address's way in is where it was last seen to be announced (see announcing.py)."""
        return None if vantage.node else self.arrivals.get(frontend.ip) or arrival(self.cluster, frontend.ip)

    def health(self, service: Service, node: Node, family: Family) -> Health:
        """What the model says a Service's health check node port answers on a node."""
        if service.name not in self.mirror.services:
            return Health(service.name, None, 0, "the Service is deleted")
        return health(self.state(), service.live, node.name, family)


def arrival(cluster: Cluster, ip: str) -> str | None:
    """The node at which traffic from outside to a ClusterIP or another virtual IP arrives; None for the rest."""
    number = ip_address(ip)
    to_cluster_ip = any(number in ip_network(cidr) for cidr in cluster.service_cidrs)
    return cluster.service_route if to_cluster_ip else entrance(cluster.nodes, ip)


def entrance(nodes: Iterable[Node], ip: str) -> str | None:
    """The node through which traffic from outside to a virtual IP arrives; None for every other address."""
    number = ip_address(ip)
    return next((node.name for node in nodes for cidr in node.vip_cidrs if number in ip_network(cidr)), None)


def node_views(cluster: Cluster, objects: Iterable[Object]) -> list[NodeView]:
    """The nodes as the model sees them: the API's word, and what it does not say, or only later."""
    views = {view.name: view for view in map(NodeView.from_object, objects)}
    for node in cluster.nodes:
        unknown = (*node.inner_addresses, *node.second_addresses.values())
        view = views[node.name]
        views[node.name] = replace(view, addresses=(*view.addresses, *unknown), zone=view.zone or node.zone)
    return list(views.values())


def model_config(cluster: Cluster, configuration: ProxyConfiguration) -> ProxyConfig:
    """A proxy's configuration as the model sees it."""
    return ProxyConfig(
        cluster_cidrs=cluster.cluster_cidrs,
        masquerade_all=bool(configuration.masquerade_all),
        node_port_addresses=configuration.node_port_addresses,
        localhost_node_ports=configuration.localhost_node_ports,
        detect_local=configuration.detect_local_mode or "ClusterCIDR",
    )


def entry_of(vantage: Vantage) -> Entry:
    """Where a vantage's traffic enters, in the model's words."""
    addresses = tuple(vantage.addresses.values())
    match vantage.kind, vantage.node:
        case "pod", str(node):
            return FromPod(node, addresses)
        case "node", str(node):
            return FromNode(node)
        case _:
            return FromOutside(addresses)
