# SPDX-License-Identifier: Apache-2.0
"""A cluster without a packet: the lab's plan, an in-process API, and a dataplane that answers from the model.

It is true unless it is told to lie (`lies.py`). Time does not pass in it: what is silent is a timeout at once.
"""

import itertools
import json
import os
import random
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self

from clusters.agent.client import CapturedPacket, HeldConnection, ProbeRequest, Recording
from clusters.api import Backend, HttpAnswer, Link, Node, Vantage
from clusters.apiserver.bootstrap import ClusterConfig, new_cluster
from clusters.apiserver.kinds import Resource
from clusters.apiserver.store import Change
from clusters.kube import NODES, Object
from clusters.lab.provider import RANGES, TO_PODS
from clusters.lab.topology import PODS4, PODS6, SERVICES4, SERVICES6, LabPlan
from clusters.observation import Address, FlowOutcome, Icmp, Observation, Protocol
from clusters.proxies.configuration import DEFAULT, ProxyConfiguration
from dataplane_ref.model import (
    ClusterState,
    Endpoint,
    Flow,
    Past,
    SourceRule,
    Verdict,
    health,
    next_packet,
    verdict,
)
from plugins.healthchecks import JSON, PATH, PROXY_PORT, WEIGHT
from plugins.settle import Clock
from plugins.world import arrival, entry_of, model_config, node_views
from tests.plugin.fake_flows import FakeCapture, FakeHeld, FakePaced
from tests.plugin.fake_kube import FakeKube
from tests.plugin.fake_nodes import POOL_PORTS, addresses_of, node_of, pool_of, vantage_of
from tests.plugin.fake_schedulers import Schedulers
from tests.plugin.lies import LIES, Key, Objects, key_of

# The first settle is the first batch's, the second the first transition's; each has two generations.
IN_A_TRANSITION = 4
# Where what no proxy translated ends: the lab's router says so (ICMP net unreachable, ICMPv6 no route).
LEAVES = "ToBeDeletedByClusterAutoscaler"
UNROUTED = {"IPv4": (3, 0), "IPv6": (1, 0)}


@dataclass(slots=True)
class Facts:
    """What tests want to know afterwards; written beside the logs when the cluster goes down."""

    generations: int = 0
    flows: int = 0
    left: list[str] | None = None
    created: int = 0
    restarts: list[str] = field(default_factory=list)


class FakeClock(Clock):
    """A time that passes only where it is let pass, and by itself too little to matter."""

    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> float:
        return self.passed

    def let_pass(self, seconds: float) -> None:
        self.passed += seconds


class FakeCluster:
    """Implements `clusters.api.Cluster`; use as a context manager."""

    name = "fake"
    cluster_cidrs = (str(PODS4), str(PODS6))
    service_cidrs = (SERVICES4, SERVICES6)
    announced_cidrs: tuple[str, ...] = ()
    placeholders: Mapping[str, str] = MappingProxyType({**RANGES, **TO_PODS[True]})
    abilities = frozenset(
        {"external-client", "lb-route", "raw-packets", "host-rules", "proxy-restart", "disruptive"}
        | {"second-address", "service-route", "sctp"}
    )

    def __init__(
        self,
        nodes: int,
        pods_per_node: int,
        *,
        lies: frozenset[str],
        seed: int,
        directory: Path,
        clock: Clock | None = None,
    ) -> None:
        self._plan = plan = LabPlan.of(nodes, pods_per_node)
        self.api = new_cluster(ClusterConfig((SERVICES4, SERVICES6)))
        self.kube: FakeKube = FakeKube(self.api)
        self.nodes: Sequence[Node] = [node_of(node) for node in plan.nodes]
        self.router = plan.router
        self.outside: Vantage | None = vantage_of(plan.client, "outside", None)
        self.lies = lies
        self.facts = Facts()
        self.captures: list[FakeCapture] = []
        self.service_route: str | None = self.nodes[0].name
        self.stray = False
        self._config = model_config(self, DEFAULT)
        self._configured = 0
        self._damaged: set[str] = set()
        self._closed: set[str] = set()
        self.rewound = 0
        self._directory = directory
        self._random = random.Random(seed)
        self.clock = clock or FakeClock()
        self._affinities: dict[tuple[str, str], tuple[Endpoint, float]] = {}
        self.schedulers = Schedulers(self._random)
        self._ports = itertools.cycle(range(32768, 61000))
        self._backends = {ip: one for node in self.nodes for one in pool_of(node) for ip in one.addresses.values()}
        self._vantages = {one.vantage.name: one.vantage for one in self._backends.values()}
        self._vantages |= {node.client.name: node.client for node in self.nodes}
        self._vantages[self.outside.name] = self.outside
        self._primary = frozenset(ip for node in self.nodes for ip in node.addresses.values())
        self._resources = {
            plural: self._resource(group, plural)
            for group, plural in (("", "nodes"), ("", "services"), ("discovery.k8s.io", "endpointslices"))
        }
        self._deleted: dict[tuple[str, Key], Object] = {}
        self._ever: dict[Key, list[Object]] = {}
        self._former: list[Object] = []
        self._true: tuple[int, ClusterState] | None = None
        self._believed: tuple[int, ClusterState] | None = None
        self._frozen: ClusterState | None = None
        self._verdicts: dict[tuple[int, str, Protocol, Address], Verdict] = {}
        self._answers: dict[int, tuple[Verdict, list[Endpoint]]] = {}

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        self.api.store.listen(self._changed)
        for node in self.nodes:
            addresses = [{"type": "InternalIP", "address": ip} for ip in node.addresses.values()]
            self.kube.create(
                NODES,
                {
                    "metadata": {
                        "name": node.name,
                        "labels": {"kubernetes.io/hostname": node.name, "topology.kubernetes.io/zone": node.zone},
                    },
                    "spec": {"podCIDR": node.pod_cidrs[0], "podCIDRs": list(node.pod_cidrs)},
                    "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]},
                },
            )
        return self

    def announce_zones(self) -> None:
        """The nodes have had theirs from the beginning."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        objects = [*self._list("services"), *self._list("endpointslices")]
        self.facts.left = sorted(name for namespace, name in map(key_of, objects) if namespace == "default")
        (self._directory / "fake.json").write_text(json.dumps(asdict(self.facts)), encoding="utf-8")

    # What a cluster offers.

    def probe(
        self,
        requests: Sequence[ProbeRequest],
        *,
        timeout: float = 2.0,  # noqa: ARG002 - silence takes no time here
        concurrency: int = 64,  # noqa: ARG002
    ) -> list[Observation]:
        return [self.observe(request, request.sport or next(self._ports)) for request in requests]

    def hold(self, request: ProbeRequest, *, request_size: int = 0) -> FakeHeld:  # noqa: ARG002
        return FakeHeld(self, request, request.sport or next(self._ports))

    def hold_each(self, requests: Sequence[ProbeRequest]) -> list[HeldConnection]:
        return [self.hold(request) for request in requests]

    def paced(self, request: ProbeRequest, interval: float) -> FakePaced:
        return FakePaced(self, request, request.sport or next(self._ports), interval)

    def rewind(self) -> None:
        self.rewound += 1

    def forget_flows(self) -> None:
        """No flow outlives its test here."""

    def recorded(self) -> Mapping[str, Recording]:
        packet = CapturedPacket(1.0, "eth0", "outgoing", b"\2" * 12 + b"\x08\0" + bytes(20), 34)
        return {node.name: Recording((packet,), dropped=self.rewound and 3) for node in self.nodes[:1]}

    def capture(self, vantage: Vantage, interface: str | None = None) -> FakeCapture:
        return FakeCapture(self.captures, vantage, interface or "eth0")

    def inject(self, vantage: Vantage, packet: bytes, link: Link | None = None) -> None:  # noqa: ARG002
        """A packet that belongs to a connection, and yet does not: see FakeHeld."""
        self.stray = "passes-invalid" in self.lies

    def reload_firewall(self, node: str) -> None:
        """The rules come back in no time, unless nobody looks after them."""
        if "unwatched" in self.lies:
            self._damaged.add(node)

    def set_forward_policy(self, node: str, policy: Literal["ACCEPT", "DROP"]) -> None:
        """The node's proxy has opened the firewall for what it forwards, unless it does not care for that."""
        addresses = {ip for one in self.nodes if one.name == node for ip in one.addresses.values()}
        self._closed = addresses if policy == "DROP" and "firewalled" in self.lies else set()

    def fetch(self, vantage: Vantage, address: Address, path: str) -> HttpAnswer | None:
        """What a health check node port answers, or the proxy of itself; nothing else here speaks HTTP."""
        self._disturb()
        node = next(one for one in self.nodes if address.ip in one.addresses.values())
        if address.port == PROXY_PORT:
            return self._told(vantage, address, self._of_itself(node, path))
        state = self._state_for(sentinel=False)
        for service in state.services:
            if service["spec"].get("healthCheckNodePort") == address.port:
                judged = health(state, service, node.name, "IPv6" if ":" in address.ip else "IPv4")
                if not judged.status:
                    return None
                metadata = service["metadata"]
                about = {"namespace": metadata["namespace"], "name": metadata["name"]}
                told = json.dumps({"service": about, "localEndpoints": judged.local_endpoints})
                headers = {"content-type": JSON, WEIGHT: str(judged.local_endpoints)}
                return self._told(vantage, address, HttpAnswer(judged.status, headers, told))
        return None

    def _of_itself(self, node: Node, path: str) -> HttpAnswer:
        """The proxy's own health: bad at /healthz once its node is marked to go."""
        spec = self.kube.get(NODES, node.name)["spec"]
        is_leaving = any(taint["key"] == LEAVES for taint in spec.get("taints") or ())
        is_bad = is_leaving and path == PATH and "stays-eligible" not in self.lies
        return HttpAnswer(503 if is_bad else 200, {"content-type": JSON}, json.dumps({"lastUpdated": "now"}))

    def _told(self, vantage: Vantage, address: Address, answer: HttpAnswer) -> HttpAnswer | None:
        """A health check's answer as lies leave it: what makes a reply silent silences this one too."""
        request = ProbeRequest(vantage.name, vantage.node, vantage.place, "HealthCheck", "TCP", address)
        seen = self._flow(request, address, FlowOutcome.REPLY)
        for lie in self.lies:
            seen = LIES[lie].tell(seen)
        if seen.outcome is not FlowOutcome.REPLY:
            return None
        return replace(answer, status=200) if "always-healthy" in self.lies else answer

    def received(self) -> Mapping[tuple[str, Protocol, int], int]:
        return {}

    def dense_backends(self, node: str, count: int) -> list[Backend]:
        """As the lab has them: one name, many addresses."""
        plan = self._plan.dense(node)
        made = []
        for ipv4, ipv6 in map(plan.addresses, range(count)):
            vantage = Vantage(plan.name, "pod", node, {"IPv4": ipv4, "IPv6": ipv6}, plan.name)
            made.append(Backend(plan.name, node, vantage.addresses, POOL_PORTS, vantage))
            self._backends |= dict.fromkeys((ipv4, ipv6), made[-1])
        return made

    def diagnostics(self, node: str) -> Mapping[str, str]:
        return {"conntrack -L": f"the connections of {node}"}

    # What the proxy does to it.

    def freeze(self) -> None:
        """From now on, what is there now is what frozen dataplanes, and frozen sentinels, go by."""
        self._frozen = self._state(Objects(self._list("services"), self._list("endpointslices")))

    def configure(self, configuration: ProxyConfiguration) -> None:
        """The proxy has been started anew."""
        self._configured += 1
        self._damaged.clear()
        if "config-ignored" not in self.lies and ("config-sticks" not in self.lies or self._configured == 1):
            self._config = model_config(self, configuration)
            self._true = self._believed = None

    def observe(self, request: ProbeRequest, sport: int, stuck_to: Address | None = None) -> Observation:
        """One flow: what the model allows, chosen at random, or what a lie makes of it."""
        self.facts.flows += 1
        sentinel = request.frontend == "sentinel"
        if not sentinel:
            self._disturb()
        vantage = self._vantages[request.vantage]
        src = Address(vantage.addresses[request.family], sport)
        fresh = judged = self._verdict(self._state_for(sentinel=sentinel), vantage, request)
        stuck = stuck_to and Endpoint(stuck_to.ip, stuck_to.port)
        if stuck and "restless-flows" not in self.lies:
            judged = self._continued(vantage, request, stuck)
        endpoints = list(self._sorted(judged))
        for lie in () if sentinel else self.lies:
            endpoints = list(LIES[lie].choose(endpoints))
        if stuck and "stale-flows" in self.lies:
            seen = self._answered(request, src, stuck, judged.answers.get(stuck))
        elif endpoints:
            services = self._state_for(sentinel=sentinel).services
            chosen = self._affine(judged, src, endpoints)
            chosen = chosen or self.schedulers.choose(services, endpoints, request, src)
            self._remember(judged, src, chosen)
            # A flow that goes on is seen from where a new one would be.
            seen = self._answered(request, src, chosen, fresh.answers.get(chosen, judged.answers[chosen]))
        else:
            seen = self._unanswered(request, src, judged, vantage)
        if sentinel:
            return self._flow(request, src, FlowOutcome.TIMEOUT) if "never-ready" in self.lies else seen
        if request.node in self._damaged or request.dst.ip in self._closed:
            seen = self._flow(request, src, FlowOutcome.TIMEOUT)
        for lie in self.lies:
            seen = LIES[lie].tell(seen)
        for capture in self.captures:
            capture.notice(seen)
        return seen

    def _continued(self, vantage: Vantage, request: ProbeRequest, endpoint: Endpoint) -> Verdict:
        """What the model allows a flow that was with this endpoint."""
        return next_packet(
            self._state_for(sentinel=False), self._asked(vantage, request), Past(endpoint, answered=True)
        )

    def _affine(self, judged: Verdict, src: Address, endpoints: Sequence[Endpoint]) -> Endpoint | None:
        """The endpoint that a client under affinity was with, if it is still one to choose from."""
        if judged.affinity_s is None:
            return None
        endpoint, expires = self._affinities.get(self._client(judged, src), (None, 0.0))
        is_over = self.clock.now() >= expires and "eternal-affinity" not in self.lies
        return None if is_over or endpoint not in endpoints else endpoint

    def _remember(self, judged: Verdict, src: Address, endpoint: Endpoint) -> None:
        if judged.affinity_s is not None:
            client = self._client(judged, src)
            expires = self.clock.now() + judged.affinity_s * (0.5 if "short-affinity" in self.lies else 1)
            if "affinity-from-first" in self.lies and self._affinities.get(client, (None, 0.0))[0] == endpoint:
                expires = self._affinities[client][1]
            self._affinities[client] = endpoint, expires

    def _client(self, judged: Verdict, src: Address) -> tuple[str, str]:
        """A client's address (all of a family, if told to confuse them), and the Service port that it dials."""
        family = "IPv6" if ":" in src.ip else "IPv4"
        return family if "one-client" in self.lies else src.ip, f"{judged.service} {family}"

    def _disturb(self) -> None:
        """The lies that are about this process rather than about flows."""
        if self.facts.generations < IN_A_TRANSITION:
            return
        if "crashes" in self.lies and not (once := self._directory.parent / "crashed").exists():
            once.touch()
            os._exit(99)
        if "stalls" in self.lies:
            with (self._directory.parents[1] / "stalled").open("wb"):
                signal.pause()

    def _answered(
        self, request: ProbeRequest, src: Address, endpoint: Endpoint, rule: SourceRule | None
    ) -> Observation:
        backend = self._backends.get(endpoint.address)
        if backend is None or endpoint.port not in backend.ports:
            return self._flow(request, src, FlowOutcome.TIMEOUT)
        client = src
        if rule and rule.allowed and src.ip not in rule.allowed:
            # Of a node's addresses a kernel takes the one on the route, and that is never the second here.
            known = sorted(rule.allowed & self._primary) or sorted(rule.allowed)
            client = Address(self._random.choice(known), next(self._ports))
        return self._flow(
            request,
            src,
            FlowOutcome.REPLY,
            backend=backend.name,
            served_at=Address(endpoint.address, endpoint.port),
            client_seen=client,
            reply_src=request.dst,
            t_first_byte=0.0004,
            t_connect=None if request.protocol == "UDP" else 0.0002,
        )

    def _unanswered(self, request: ProbeRequest, src: Address, judged: Verdict, vantage: Vantage) -> Observation:
        """Refused by the node that decides, unknown to the router, a closed port of a node, or silence."""
        outcomes, expected = judged.outcomes, judged.must_refuse_with
        if vantage.kind == "node" and request.dst.ip in ("127.0.0.1", "::1"):
            owner: Node | None = next(node for node in self.nodes if node.name == vantage.node)
        else:
            owner = next((node for node in self.nodes if request.dst.ip in addresses_of(node)), None)
        if expected and "refused" in outcomes:
            at = owner or next((node for node in self.nodes if node.name == vantage.node), self.nodes[0])
            icmp = Icmp(expected.type, expected.code, at.addresses[request.family])
            return self._flow(request, src, FlowOutcome.REFUSED, errno="ECONNREFUSED", icmp=icmp)
        if owner and "refused" in outcomes:
            code = {"IPv4": (3, 3), "IPv6": (1, 4)}[request.family]
            closed = Icmp(*code, request.dst.ip) if request.protocol == "UDP" else None
            return self._flow(request, src, FlowOutcome.REFUSED, errno="ECONNREFUSED", icmp=closed)
        if "unreachable" in outcomes:
            router = self.router.ipv6 if request.family == "IPv6" else self.router.ipv4
            icmp = Icmp(*UNROUTED[request.family], router)
            return self._flow(request, src, FlowOutcome.UNREACHABLE, errno="ENETUNREACH", icmp=icmp)
        return self._flow(request, src, FlowOutcome.TIMEOUT)

    def _flow(self, request: ProbeRequest, src: Address, outcome: FlowOutcome, **more: Any) -> Observation:
        return Observation(
            vantage=request.vantage,
            node=request.node,
            frontend=request.frontend,
            protocol=request.protocol,
            family=request.family,
            src=src,
            dst=request.dst,
            outcome=outcome,
            **more,
        )

    # What it goes by.

    def _state_for(self, *, sentinel: bool) -> ClusterState:
        if self._frozen and ("frozen" in self.lies or (sentinel and "never-settles" in self.lies)):
            return self._frozen
        revision = self.api.store.revision
        known = self._true if sentinel else self._believed
        if known is None or known[0] != revision:
            objects = self._objects()
            for lie in () if sentinel else self.lies:
                objects = LIES[lie].believe(objects)
            known = (revision, self._state(objects))
            self._verdicts.clear()
            self._answers.clear()
            if sentinel:
                self._true = known
            else:
                self._believed = known
        return known[1]

    def _objects(self) -> Objects:
        deleted = {
            plural: [one for (kind, _), one in self._deleted.items() if kind == plural]
            for plural in ("services", "endpointslices")
        }
        return Objects(
            self._list("services"),
            self._list("endpointslices"),
            deleted["services"],
            deleted["endpointslices"],
            self._ever,
            self._former,
        )

    def _state(self, objects: Objects) -> ClusterState:
        nodes = node_views(self, self._list("nodes"))
        return ClusterState.from_objects(nodes, objects.services, objects.slices, self._config)

    def _verdict(self, state: ClusterState, vantage: Vantage, request: ProbeRequest) -> Verdict:
        key = (id(state), vantage.name, request.protocol, request.dst)
        found = self._verdicts.get(key)
        if found is None:
            found = self._verdicts[key] = verdict(state, self._asked(vantage, request))
        return found

    def _asked(self, vantage: Vantage, request: ProbeRequest) -> Flow:
        via = None if vantage.node else arrival(self, request.dst.ip)
        return Flow(entry_of(vantage), request.protocol, request.dst.ip, request.dst.port, via)

    def _sorted(self, judged: Verdict) -> list[Endpoint]:
        """A verdict's endpoints in order; there may be hundreds, and thousands of flows to them."""
        # The verdict is kept beside them, so that no other comes to have its identity.
        found = self._answers.get(id(judged))
        if found is None:
            found = self._answers[id(judged)] = judged, sorted(judged.answers)
        return found[1]

    def _changed(self, resource: Resource, change: Change) -> None:
        """The store's every change: count the sentinel's generations, remember what is gone."""
        if resource.plural not in ("services", "endpointslices"):
            return
        now = change.new or change.old
        assert now is not None
        obj = now.load()
        key = key_of(obj)
        if key == ("plumbline", "sentinel") and change.old is not None:
            self.facts.generations += 1
        elif resource.plural == "services" and change.new and change.old:
            self._former.append(change.old.load())
        if change.new is None:
            self._deleted[resource.plural, key] = obj
            self._former = [one for one in self._former if key_of(one) != key]
        else:
            self._deleted.pop((resource.plural, key), None)
        self.facts.created += change.old is None and resource.plural == "services"
        ever = self._ever.setdefault(key, [])
        ever += [one for one in obj.get("endpoints") or () if one not in ever]

    def _list(self, plural: str) -> list[Object]:
        return self.kube.objects(self._resources[plural])

    def _resource(self, group: str, plural: str) -> Resource:
        found = self.api.registry.find(group, "v1", plural)
        assert found is not None
        return found
