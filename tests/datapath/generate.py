# SPDX-License-Identifier: Apache-2.0
"""Generated clusters and flows: Services of every type and policy, slices with every condition, every vantage.

The nodes and pods are those of tests/model/cluster.py; zones, proxy configuration and everything else is drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from dataplane_ref.model import ClusterState, Entry, Flow, FromOutside, FromPod, ProxyConfig
from tests.model.cluster import (
    CLUSTER_CIDRS,
    EXTERNAL_IP,
    LB_IP,
    NODE_IP,
    NODE_IP6,
    NODES,
    OUTSIDE,
    POD,
    SECONDARY,
    endpoint,
    endpoint_slice,
    from_node,
    from_pod,
    service,
)

JsonObject = Mapping[str, Any]
PROTOCOLS = ("TCP", "UDP", "SCTP")
EXTERNAL_IP6, LB_IP6 = "2001:db8:1::7", "2001:db8:2::9"
STRANGER = FromOutside(("198.18.0.9", "2001:db8:9::9"))
NAMES = ("web", "api")
# A Service's addresses and node ports are its own; externalIPs and load balancers' may be claimed by both.
CLUSTER_IPS = {name: (f"10.96.0.1{index}", f"fd00:10:96::1{index}") for index, name in enumerate(NAMES)}
PORTS = ((("", 80),), (("", 80),), (("http", 80), ("more", 443)))
ENTROPY = 192
TARGETS = {80: 8080, 443: 8443}


@dataclass(frozen=True)
class Question:
    """A cluster, a flow, and the node at which its first packet meets the Service."""

    state: ClusterState
    flow: Flow
    node: str


class Draw:
    """Choices from bytes that hypothesis draws at once, which is many times faster than one by one, and shrinks well.

    Each takes a byte; where they have come to an end, the first option is taken.
    """

    def __init__(self, entropy: bytes) -> None:
        self._bytes = iter(entropy)

    def below(self, number: int) -> int:
        """0 or more, and less than this."""
        return next(self._bytes, 0) % number

    def of(self, *options: Any) -> Any:
        """One of these; the first is what shrinking tends to."""
        return options[self.below(len(options))]


def configs(draw: Draw) -> ProxyConfig:
    """How the proxies are configured."""
    return ProxyConfig(
        cluster_cidrs=draw.of(CLUSTER_CIDRS, CLUSTER_CIDRS, CLUSTER_CIDRS[:1], ()),
        masquerade_all=draw.of(False, False, False, True),
        node_port_addresses=draw.of(None, None, ("primary",), ("172.18.0.0/16",), ("172.19.0.0/16", "fd00::/8")),
        localhost_node_ports=draw.of(False, True),
        detect_local=draw.of("ClusterCIDR", "ClusterCIDR", "NodeCIDR", "InterfaceNamePrefix", "BridgeInterface"),
    )


def a_service(draw: Draw, name: str) -> dict[str, Any]:
    """A Service of any type; one of ten is none that a proxy serves."""
    kind = draw.of("ClusterIP", "NodePort", "NodePort", "LoadBalancer", "LoadBalancer", "LoadBalancer")
    families = draw.of((0, 1), (0, 1), (0,), (1,))
    protocol = draw.of(*PROTOCOLS)
    ports = [
        {"name": port_name, "port": port, "protocol": protocol if port == 80 else draw.of(*PROTOCOLS)}
        for port_name, port in draw.of(*PORTS)
    ]
    if kind != "ClusterIP":
        for number, port in enumerate(ports):
            port["nodePort"] = 30080 + 10 * NAMES.index(name) + number
    addresses = [CLUSTER_IPS[name][family] for family in families]
    spec: dict[str, Any] = {
        "name": name,
        "type": kind,
        "clusterIP": addresses[0],
        "clusterIPs": addresses,
        "ipFamilies": [("IPv4", "IPv6")[family] for family in families],
        "ports": ports,
        "internalTrafficPolicy": draw.of("Local", "Cluster", "Local"),
        "sessionAffinity": draw.of("None", "None", "ClientIP"),
        "externalIPs": draw.of(None, [EXTERNAL_IP, EXTERNAL_IP6], [EXTERNAL_IP, EXTERNAL_IP6], [SECONDARY["node-a"]]),
        "externalTrafficPolicy": None,
    }
    if kind != "ClusterIP" or spec["externalIPs"]:
        spec["externalTrafficPolicy"] = draw.of("Local", "Local", "Local", "Cluster")
    if spec["sessionAffinity"] == "ClientIP":
        spec["sessionAffinityConfig"] = draw.of(None, {"clientIP": {"timeoutSeconds": 60}})
    if kind == "LoadBalancer":
        mode = draw.of(None, None, None, "VIP", "VIP", "Proxy")
        ingress = [{"ip": address, **({"ipMode": mode} if mode else {})} for address in (LB_IP, LB_IP6)]
        spec["status"] = {"loadBalancer": {"ingress": ingress}}
        spec["loadBalancerSourceRanges"] = draw.of(
            None,
            None,
            None,
            None,
            ["172.18.0.0/16", "fd00:172::/32"],
            ["10.244.0.0/24"],
            ["2001:db8::/32", "10.0.0.0/8"],
        )
    if draw.below(20) == 19:
        hidden = draw.of("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
        spec["labels"] = {hidden: draw.of("", "other")}
    return service(**spec)


# What a slice may say of endpoints' conditions; several of one row are mixed.
ALL_READY: tuple[dict[str, bool], ...] = ({}, {"ready": True}, {"ready": True, "serving": True, "terminating": False})
NOT_READY = ({"ready": False}, {"ready": False, "serving": False}, {"ready": False, "serving": True})
DRAINING = ({"ready": False, "serving": True, "terminating": True},)
ODD = ({"ready": True, "terminating": True}, {"ready": False, "terminating": True}, {"serving": False})
GONE = ({"ready": False, "serving": False, "terminating": True},)
ALL, ROLLING = (*ALL_READY, *ODD), (*ALL_READY, *NOT_READY, *DRAINING)
MIXES = (ALL_READY, ALL_READY, ALL_READY, ALL, ROLLING, (*DRAINING, *GONE), DRAINING, (*NOT_READY, *GONE))
HINTS = (None, None, "zones", "nodes", "some")
PLACES = (*POD, *NODE_IP)
SPREADS = (("IPv4", "IPv6"), ("IPv4", "IPv6"), ("IPv4", "IPv6", "IPv4"), ("IPv6", "IPv4", "IPv6"), ("IPv6",), ())


def slices_of(draw: Draw, of: JsonObject, client: str | None, home: str) -> list[dict[str, Any]]:
    """A Service's slices, of both families.

    `client`, a pod that dials, is often an endpoint itself; `home`, where the flow may be decided, often has some.
    """
    near = [place for place in PLACES if place == home or (place in POD and f"node-{place[0]}" == home)]
    places = draw.of(PLACES, (*PLACES, *near * 3), (*PLACES, *near * 3))
    conditions, hinted = draw.of(*MIXES), draw.of(*HINTS)
    ports = of["spec"]["ports"]
    found: list[dict[str, Any]] = []
    hints: dict[str, dict[str, list[str]]] = {}
    for number, family in enumerate(draw.of(*SPREADS)):
        where = [draw.of(*places) for _ in range(draw.of(2, 1, 3, 4, 0))]
        if client and draw.below(3) == 2:
            where = [client, *where[:1]]
        endpoints = []
        for place in where:
            # Listed twice it is one endpoint on its way between slices, and nothing says whose hints would count.
            if place not in hints:
                hints[place] = _hints(draw, hinted)
            endpoints.append(endpoint(place, family=family, **draw.of(*conditions), **hints[place]))
        moved = draw.below(8) == 7
        listed = [
            {"name": port["name"], "protocol": port["protocol"], "port": TARGETS[port["port"]] + (1 if moved else 0)}
            for port in ports
        ]
        name = f"{of['metadata']['name']}-{number}"
        labels = {"service.kubernetes.io/headless": ""} if draw.below(20) == 19 else None
        found.append(
            endpoint_slice(
                *endpoints, family=family, name=name, service_name=of["metadata"]["name"], ports=listed, labels=labels
            )
        )
    return found


def _hints(draw: Draw, hinted: str | None) -> dict[str, list[str]]:
    found = {}
    if hinted == "zones" or (hinted == "some" and draw.below(2)):
        found["zones"] = [draw.of("zone-1", "zone-2")]
    if hinted == "nodes" or (hinted == "some" and draw.below(2)):
        found["nodes"] = [draw.of(*NODE_IP)]
    return found


def entries(draw: Draw) -> Entry:
    """A client: a pod, a process of a node, or one outside."""
    kind = draw.below(10)
    if kind < 3:
        return from_pod(draw.of(*POD))
    if kind < 5:
        return from_node(draw.of(*NODE_IP))
    return OUTSIDE if draw.below(3) else STRANGER


def _dialled(draw: Draw, services: list[dict[str, Any]], home: str) -> tuple[str, int, str]:
    """An address, port and protocol: most often of a frontend that there is."""
    spec = draw.of(*services)["spec"]
    port = draw.of(*spec["ports"])
    own = [":" in address for address in spec["clusterIPs"]]
    family = int(draw.of(*own, *own, *own, False, True))
    if draw.below(12) == 11:
        address = draw.of(CLUSTER_IPS["web"][family], NODE_IP["node-a"], "10.96.0.99", POD["b1"][family], LB_IP)
        return address, draw.of(80, 81, 30080, 30081, 8080), draw.of(*PROTOCOLS)
    protocol = port["protocol"]
    cluster_ips = spec["clusterIPs"]
    ways = [(cluster_ips[family % len(cluster_ips)], port["port"])] * 2
    if "nodePort" in port:
        node = draw.of(*NODE_IP, home, home)
        primary = (NODE_IP, NODE_IP6)[family][node]
        address = draw.of(primary, primary, SECONDARY[node], *draw.of((), (), (), (), ("127.0.0.1", "::1")))
        ways += [(address, port["nodePort"])] * 6
    if spec.get("externalIPs"):
        external = spec["externalIPs"]
        ways += [(external[family % len(external)], port["port"])] * 3
    if spec["type"] == "LoadBalancer":
        ways += [((LB_IP, LB_IP6)[family], port["port"])] * 8
    address, number = draw.of(*ways)
    return address, number, protocol


def deciding(state: ClusterState, flow: Flow) -> str:
    """The node at which a flow meets its Service: the client's own, or for node ports the address's owner."""
    own = flow.via if isinstance(flow.entry, FromOutside) else flow.entry.node
    assert own is not None
    if (flow.dst, flow.port, flow.protocol) in state.frontends.by_vip or flow.to_loopback:
        return own
    owner = state.owner_of(flow.dst)
    return owner.name if owner else own


def a_question(draw: Draw) -> Question:
    """Any question about a cluster with one Service or two."""
    nodes = [replace(node, zone=draw.of(node.zone, node.zone, "zone-2", None)) for node in NODES]
    services = [a_service(draw, name) for name in draw.of(NAMES[:1], NAMES)]
    entry = entries(draw)
    via = draw.of(*NODE_IP)
    home = draw.of(via, via if isinstance(entry, FromOutside) else entry.node)
    client = None
    if isinstance(entry, FromPod):
        client = next(name for name, addresses in POD.items() if addresses == entry.addresses)
    slices = [one for each in services for one in slices_of(draw, each, client, home)]
    dst, port, protocol = _dialled(draw, services, home)
    if dst in ("127.0.0.1", "::1"):
        entry = from_node(draw.of(*NODE_IP))
    flow = Flow(entry, protocol, dst, port, via=via)  # type: ignore[arg-type]
    state = ClusterState.from_objects(nodes, services, slices, configs(draw))
    return Question(state, flow, deciding(state, flow))


def questions() -> st.SearchStrategy[Question]:
    """The same for hypothesis."""
    return st.binary(min_size=ENTROPY, max_size=ENTROPY).map(lambda entropy: a_question(Draw(entropy)))
