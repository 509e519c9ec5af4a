# SPDX-License-Identifier: Apache-2.0
"""The lab as a cluster: supervisor, network, API server, agents and pool, up in well under a second."""

import base64
import http.client
import json
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from clusters.agent.client import (
    AgentClient,
    BackendSpec,
    Capture,
    HeldConnection,
    PacedFlow,
    ProbeRequest,
    Recording,
)
from clusters.api import Backend, HttpAnswer, Link, Node, Vantage
from clusters.errors import PlumblineError
from clusters.host import IptablesBackend, iptables_programs
from clusters.kube import NODES, KubeClient
from clusters.lab import router
from clusters.lab.control_plane import ControlPlane, Embedded, Stage
from clusters.lab.logged import Logged
from clusters.lab.namespaces import netns
from clusters.lab.supervised import Exit, Supervisor, search_path
from clusters.lab.topology import (
    ANNOUNCED4,
    ANNOUNCED6,
    LAN4,
    LAN6,
    POD_BRIDGE,
    POD_INTERFACES,
    PODS4,
    PODS6,
    SECOND4,
    SECOND6,
    SERVICES4,
    SERVICES6,
    UPLINK,
    HostPlan,
    LabPlan,
    NodePlan,
    PodNetwork,
    PodPlan,
)
from clusters.observation import Address, Family, Observation, Protocol
from clusters.processes import children
from clusters.proxies.base import Place

API_PORT = 6443
ZONE_LABEL = "topology.kubernetes.io/zone"
# Nodes whose packets are recorded: rewinding costs a call per node and test.
MAX_RECORDED_NODES = 8
POOL_PORTS = (8080, 8081, 8082)
# Bytes of a packet that a capture keeps: more than any error or fragment has.
WHOLE = 2048
# What the lab puts in the place of a proxy configuration's placeholders; the rest depends on the pod network.
RANGES = {
    "lan-ipv4": str(LAN4),
    "lan-ipv6": str(LAN6),
    "second-lan-ipv4": str(SECOND4),
    "second-lan-ipv6": str(SECOND6),
}
# Packets of pods come in by the bridge, where there is one.
TO_PODS = {
    False: {"pod-interfaces": POD_INTERFACES},
    True: {"pod-interfaces": POD_BRIDGE, "pod-bridge": POD_BRIDGE},
}
# Sysctls that kube-proxy sets and never takes back, as a new node has them.
UNSET = (
    *("net/ipv4/conf/all/route_localnet", "net/netfilter/nf_conntrack_tcp_be_liberal"),
    *("net/ipv4/conf/all/arp_ignore", "net/ipv4/conf/all/arp_announce"),
)
EMPTY_TABLES = "".join(f"*{table}\nCOMMIT\n" for table in ("mangle", "nat", "filter"))
NODE_DIAGNOSTICS = (
    ("conntrack", "-L"),
    ("conntrack", "-L", "-f", "ipv6"),
    ("ip", "-d", "address"),
    ("ip", "route"),
    ("ip", "-6", "route"),
    # Those of the proxy to the API server too: one that stalls is a proxy that does not follow.
    ("ss", "-tanoi"),
)


def lab_abilities(*, bpf: bool, sctp: bool, announcer: bool = False) -> frozenset[str]:
    """Which of the closed list of needs a lab can meet, being there to be disturbed.

    `bpf`: where BPF loads; `sctp`: where the agent can speak SCTP; `announcer`: where one runs beside the proxies.
    """
    always = {"external-client", "lb-route", "raw-packets", "captures", "host-rules", "proxy-restart", "disruptive"}
    sometimes = {name for name, has in (("bpf", bpf), ("sctp", sctp), ("announcer", announcer)) if has}
    return frozenset(always | {"second-address", "service-route"} | sometimes)


class Lab:
    """A running lab; use as a context manager. Implements `clusters.api.Cluster` and `clusters.proxies.base.Host`."""

    name = "lab"
    cluster_cidrs = (str(PODS4), str(PODS6))
    service_cidrs = (SERVICES4, SERVICES6)
    announced_cidrs = (str(ANNOUNCED4), str(ANNOUNCED6))

    def __init__(
        self,
        *,
        nodes: int = 3,
        pods_per_node: int = 4,
        pod_network: PodNetwork = "routed",
        log_directory: Path,
        watched_pids: Sequence[int] = (),
        iptables_backend: IptablesBackend | None = None,
        control_plane: ControlPlane | None = None,
        bpf: bool = False,
        sctp: bool = False,
        announcer: bool = False,
    ) -> None:
        """`iptables_backend`: the programs that nodes find as iptables; None is what the machine calls so.

        `bpf`: whether BPF can be loaded on this machine, which is an ability; `sctp`: whether the agent can speak
        SCTP here, which is one too, and which the pool then serves; `announcer`: whether one will run on the nodes.
        """
        self.abilities = lab_abilities(bpf=bpf, sctp=sctp, announcer=announcer)
        self._sctp_ports = POOL_PORTS if sctp else ()
        self.plan = LabPlan.of(nodes, pods_per_node, pod_network)
        self.log_directory = log_directory
        self.timings: dict[str, float] = {}
        self._watched = watched_pids
        self._programs = iptables_programs(iptables_backend, search_path()) if iptables_backend else {}
        self._control_plane = control_plane or Embedded()
        self._ca: str | None = None
        self._token = secrets.token_urlsafe(24)
        self._dense: set[str] = set()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Build everything. Raises UsageError where the machine forbids it, PlumblineError where a part fails."""
        self.log_directory.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        try:
            self.supervisor = self._stack.enter_context(Supervisor(self._watched))
            self.processes = Logged(self.supervisor, self.log_directory)
            self.supervisor.call("build", plan=self.plan.as_json(), programs=self._programs)
            self.timings["network"] = time.monotonic() - started
            routing = self.supervisor.start(["sh"], netns=self.plan.router.name, text=router.SCRIPT)
            await_control_plane = self._start_control_plane()
            self._server_agent, self._prober = self._start_agent("backends"), self._start_agent("probes")
            self._describe()
            self._serve_pool()
            if (done := self.supervisor.finished(routing)).status != 0:
                raise PlumblineError(f"the lab's router could not be set up: {done.err.strip()}")
            await_control_plane()
            self.timings["control plane"] = time.monotonic() - started
            self._register_nodes()
            # Not the API server's own traffic on the nodes' loopback.
            self._prober.record([str(netns(vantage.name)) for vantage in self._recorded], except_tcp_port=API_PORT)
        except BaseException:
            self._stack.close()
            raise
        self.timings["lab"] = time.monotonic() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # What a cluster offers.

    def probe(
        self, requests: Sequence[ProbeRequest], *, timeout: float = 2.0, concurrency: int = 64
    ) -> list[Observation]:
        return self._prober.probe(requests, timeout=timeout, concurrency=concurrency)

    def hold(self, request: ProbeRequest, *, request_size: int = 0) -> HeldConnection:
        return self._prober.hold(request, request_size=request_size)

    def hold_each(self, requests: Sequence[ProbeRequest]) -> list[HeldConnection]:
        return self._prober.hold_each(requests)

    def paced(self, request: ProbeRequest, interval: float) -> PacedFlow:
        return self._prober.paced(request, interval=interval)

    @property
    def placeholders(self) -> Mapping[str, str]:
        return {**RANGES, **TO_PODS[self.plan.nodes[0].bridge is not None]}

    @property
    def service_route(self) -> str:
        """The external client's route to ClusterIPs leads through the first node (see build.py)."""
        return self.plan.nodes[0].name

    def inject(self, vantage: Vantage, packet: bytes, link: Link | None = None) -> None:
        self._prober.inject(vantage.place, packet, (link.interface, link.mac) if link else None)

    def reload_firewall(self, node: str) -> None:
        """Raises PlumblineError when the node's rules could not be removed."""
        for program in ("iptables-restore", "ip6tables-restore"):
            done = self.supervisor.run([program], node=node, text=EMPTY_TABLES)
            if done.status != 0:
                raise PlumblineError(f"the rules of {node} could not be removed: {done.err.strip()}")

    def capture(self, vantage: Vantage, interface: str | None = None) -> Capture:
        return self._prober.capture(netns=vantage.place, interface=interface, snaplen=WHOLE)

    def set_forward_policy(self, node: str, policy: Literal["ACCEPT", "DROP"]) -> None:
        """Raises PlumblineError when it could not be set."""
        for program in ("iptables", "ip6tables"):
            done = self.supervisor.run([program, "--policy", "FORWARD", policy], node=node)
            if done.status != 0:
                raise PlumblineError(f"the firewall of {node} could not be set up: {done.err.strip()}")

    def rewind(self) -> None:
        self._prober.rewind()

    def forget_flows(self) -> None:
        self.supervisor.call("forget-flows", netns=[node.name for node in self.plan.nodes])

    def unrecorded(self) -> None:
        """Record no packets from now on: for measurements, in which a copy of each would count."""
        self._prober.record([], except_tcp_port=API_PORT)

    def recorded(self) -> Mapping[str, Recording]:
        names = {str(netns(vantage.name)): vantage.name for vantage in self._recorded}
        return {names[place]: seen for place, seen in self._prober.recorded(list(names)).items()}

    def fetch(self, vantage: Vantage, address: Address, path: str) -> HttpAnswer | None:
        try:
            return self._http_get(vantage.name, address.ip, address.port, path)
        except PlumblineError:
            return None

    def received(self) -> Mapping[tuple[str, Protocol, int], int]:
        return self._server_agent.counts()

    def diagnostics(self, node: str) -> Mapping[str, str]:
        return self.outputs(node, NODE_DIAGNOSTICS)

    def dense_backends(self, node: str, count: int) -> list[Backend]:
        """`count` backends on a node in one namespace, made when they are first asked for; for scale.

        They share a name and listen on the pool's ports at their own addresses: `served_at` tells them apart.
        Raises ValueError for more than MAX_DENSE, or a node that there is not.
        """
        plan = self.plan.dense(node)
        addresses = [plan.addresses(number) for number in range(count)]
        if plan.name not in self._dense:
            self._dense.add(plan.name)
            self.supervisor.call("dense", node=node)
            self._server_agent.serve([BackendSpec(plan.name, str(netns(plan.name)), POOL_PORTS, POOL_PORTS)])
        backends = []
        for ipv4, ipv6 in addresses:
            known: dict[Family, str] = {"IPv4": ipv4, "IPv6": ipv6}
            vantage = Vantage(plan.name, "pod", node, known, str(netns(plan.name)))
            backends.append(Backend(plan.name, node, known, POOL_PORTS, vantage))
        return backends

    # What a proxy needs.

    @property
    def places(self) -> list[Place]:
        return [
            Place(node.name, node.host.ipv4, node.host.ipv6, (node.pod_cidr4, node.pod_cidr6))
            for node in self.plan.nodes
        ]

    def kubeconfig(self, place: Place | None = None) -> str:
        """A kubeconfig for a node's own loopback, or for this machine's."""
        cluster = self._node_cluster() if place else self._host_cluster()
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "lab", "cluster": cluster}],
                "users": [{"name": "plumbline", "user": {"token": self._token}}],
                "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "plumbline"}}],
                "current-context": "lab",
            }
        )

    def _node_cluster(self) -> dict[str, str]:
        server = {"server": f"{self._control_plane.scheme}://127.0.0.1:{API_PORT}"}
        return server | (_trusting(self._ca) if self._ca else {})

    def _host_cluster(self) -> dict[str, str]:
        """The server as kubectl can reach it with a token, which client-go does not send over plain http."""
        if self._ca:
            return {"server": self.kube.server, **_trusting(self._ca)}
        certificate: str = self.kube.request("GET", "/plumbline/certificate")["certificate"]
        return {"server": self.kube.server.replace("http://", "https://"), **_trusting(certificate)}

    def write_file(self, place: Place, name: str, text: str) -> str:
        self.supervisor.call("write", path=f"/run/nodes/{place.name}/plumbline/{name}", text=text)
        return f"/run/plumbline/{name}"

    def forget(self) -> None:
        """On every node: no tracked connection, and the sysctls that kube-proxy leaves set as they were."""
        started = []
        for node in self.plan.nodes:
            started += [
                self.supervisor.start(["tee", f"/proc/sys/{name}"], node=node.name, text="0")
                for name in UNSET
                if Path("/proc/sys", name).exists()
            ]
            started += [
                self.supervisor.start(["conntrack", "-F", "-f", family], node=node.name)
                for family in ("ipv4", "ipv6")
            ]
        for request in started:
            if (done := self.supervisor.finished(request)).status != 0:
                raise PlumblineError(f"a node could not be put back between two proxies: {done.err.strip()}")

    def outputs(self, node: str, commands: Sequence[Sequence[str]]) -> dict[str, str]:
        """What commands print on a node, all run at once; for one that cannot be run, why."""
        started = [(argv, self.supervisor.start(argv, node=node)) for argv in commands]
        texts = {}
        for argv, request in started:
            try:
                done = self.supervisor.finished(request)
                texts[" ".join(argv)] = done.out or done.err
            except PlumblineError as error:
                texts[" ".join(argv)] = str(error)
        return texts

    def exits(self) -> list[Exit]:
        """Proxies that have ended since the last call. Raises PlumblineError if a part of the lab itself has."""
        return self.processes.exits()

    def inside(self) -> tuple[int, dict[str, int]]:
        """PID 1 of the lab as this machine numbers it, and its descriptors of the nodes' mount namespaces."""
        return children(self.supervisor.pid)[0], self.supervisor.call("mounts")

    def http_get(self, node: str, port: int, path: str) -> tuple[int, str]:
        answer = self._http_get(node, "127.0.0.1", port, path)
        return answer.status, answer.body

    def _http_get(self, namespace: str, ip: str, port: int, path: str) -> HttpAnswer:
        """Raises PlumblineError when nobody answers."""
        connection = http.client.HTTPConnection(ip, port, timeout=2.0)
        connection.sock = self.supervisor.connect(namespace, ip, port)
        try:
            connection.sock.settimeout(2.0)
            connection.request("GET", path)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return HttpAnswer(response.status, headers, response.read().decode())
        except (OSError, http.client.HTTPException) as error:
            raise PlumblineError(f"port {port} on {namespace} does not answer {path}: {error}") from None
        finally:
            connection.close()

    # Bringing it up.

    def _start_control_plane(self) -> Callable[[], None]:
        """Start it on a port of this machine's loopback and on every node's; returns how to wait for it."""
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            port = listener.getsockname()[1]
            requests = [self.supervisor.ask("listen", [listener.fileno()], name="host")]
            requests += [
                self.supervisor.ask("listen", name=node.name, netns=node.name, ip="127.0.0.1", port=API_PORT)
                for node in self.plan.nodes
            ]
            for request in requests:
                self.supervisor.answer(request)
        names = ["host", *(node.name for node in self.plan.nodes)]
        await_ready = self._control_plane.start(Stage(self.processes, names, port, self._token, self.service_cidrs))

        def wait() -> None:
            self._ca = await_ready()
            self.kube = KubeClient(f"{self._control_plane.scheme}://127.0.0.1:{port}", self._token, self._ca)
            self._stack.callback(self.kube.close)

        return wait

    def _start_agent(self, name: str) -> AgentClient:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self.processes.python(
                f"agent-{name}", ["-S", "-m", "clusters.agent", "--control-fd=3"], descriptors=[theirs.fileno()]
            )
        return self._stack.enter_context(AgentClient(ours, f"the lab's agent for {name}"))

    def _describe(self) -> None:
        self.outside = _vantage(self.plan.client, "outside", None)
        self.nodes = [_node(node) for node in self.plan.nodes]
        self._recorded = [self.outside, *(node.vantage for node in self.nodes[:MAX_RECORDED_NODES])]

    def _serve_pool(self) -> None:
        backends = [
            backend
            for plan, node in zip(self.plan.nodes, self.nodes, strict=True)
            for backend in (*(_backend(plan, pod) for pod in plan.pods), node.host_backend)
        ]
        self._server_agent.serve(
            BackendSpec(backend.name, backend.vantage.place, backend.ports, backend.ports, sctp=self._sctp_ports)
            for backend in backends
        )

    def announce_zones(self) -> None:
        for node in self.plan.nodes:
            for zone in (None, node.zone):  # only a change is news to a proxy that has started again
                self.kube.patch(NODES, node.name, {"metadata": {"labels": {ZONE_LABEL: zone}}})

    def _register_nodes(self) -> None:
        for node in self.plan.nodes:
            addresses = [{"type": "InternalIP", "address": ip} for ip in (node.host.ipv4, node.host.ipv6)]
            cidrs = [node.pod_cidr4, node.pod_cidr6]
            body = {
                "metadata": {"name": node.name, "labels": {"kubernetes.io/hostname": node.name}},
                "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
                "status": {
                    "addresses": [*addresses, {"type": "Hostname", "address": node.name}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
            self.kube.create(NODES, body)


def _trusting(certificate: str) -> dict[str, str]:
    return {"certificate-authority-data": base64.b64encode(certificate.encode()).decode()}


def _vantage(plan: HostPlan | PodPlan, kind: Any, node: str | None) -> Vantage:
    addresses: dict[Family, str] = {"IPv4": plan.ipv4, "IPv6": plan.ipv6}
    return Vantage(plan.name, kind, node, addresses, str(netns(plan.name)), UPLINK, plan.mac)


def _backend(node: NodePlan, plan: HostPlan | PodPlan) -> Backend:
    kind = "node" if plan is node.host else "pod"
    vantage = _vantage(plan, kind, node.name)
    return Backend(plan.name, node.name, vantage.addresses, POOL_PORTS, vantage)


def _node(plan: NodePlan) -> Node:
    """Roles: the last pod is the scout, the one before it the client, the rest are backends."""
    pods = [_backend(plan, pod) for pod in plan.pods]
    host = _backend(plan, plan.host)
    return Node(
        name=plan.name,
        addresses=host.addresses,
        pod_cidrs=(plan.pod_cidr4, plan.pod_cidr6),
        vantage=host.vantage,
        backends=tuple(pods[:-2]),
        client=pods[-2].vantage,
        scout=pods[-1],
        host_backend=host,
        second_addresses={"IPv4": plan.second4, "IPv6": plan.second6},
        inner_addresses=plan.inner_addresses,
        vip_cidrs=(plan.vip_cidr4, plan.vip_cidr6),
        zone=plan.zone,
        uplink=UPLINK,
    )
