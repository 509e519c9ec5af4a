# SPDX-License-Identifier: Apache-2.0
"""A small dual-stack cluster to ask the model about: three nodes, two pods on each, an outside client."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from dataplane_ref.model import (
    ClusterState,
    Endpoint,
    FromNode,
    FromOutside,
    FromPod,
    NodeView,
    ProxyConfig,
    Verdict,
)

CLUSTER_CIDRS = ("10.244.0.0/16", "fd00:10:244::/48")
NODE_IP = {"node-a": "172.18.0.10", "node-b": "172.18.0.11", "node-c": "172.18.0.12"}
NODE_IP6 = {"node-a": "fd00:172:18::a", "node-b": "fd00:172:18::b", "node-c": "fd00:172:18::c"}
SECONDARY = {"node-a": "172.19.0.10", "node-b": "172.19.0.11", "node-c": "172.19.0.12"}
NODES = tuple(
    NodeView(
        name=name,
        addresses=(NODE_IP[name], SECONDARY[name], NODE_IP6[name]),
        pod_cidrs=(f"10.244.{index}.0/24", f"fd00:10:244:{index}::/64"),
        zone=zone,
    )
    for index, (name, zone) in enumerate((("node-a", "zone-1"), ("node-b", "zone-1"), ("node-c", "zone-2")))
)
CLUSTER_IP, CLUSTER_IP6, NODE_PORT = "10.96.0.10", "fd00:10:96::10", 30080
EXTERNAL_IP, LB_IP = "198.51.100.7", "203.0.113.9"
DETECT = ProxyConfig(cluster_cidrs=CLUSTER_CIDRS)

# pod → its IPv4 and IPv6 address; a1 and a2 are on node-a, and so on.
POD = {
    f"{letter}{number}": (f"10.244.{index}.{number + 1}", str(ip_address(f"fd00:10:244:{index}::{number + 1}")))
    for index, letter in enumerate("abc")
    for number in (1, 2)
}
OUTSIDE = FromOutside(("172.18.0.2", "fd00:172:18::2"))


def from_pod(pod: str) -> FromPod:
    """A client in a pod, named like `b2`."""
    return FromPod(f"node-{pod[0]}", POD[pod])


def from_node(name: str) -> FromNode:
    """A process on a node, named like `node-b`."""
    return FromNode(name)


def service(**spec: Any) -> dict[str, Any]:
    """The Service default/web: dual-stack, one TCP port 80 with a node port; keyword arguments replace spec fields.

    `labels`, `annotations` and `status` go where they belong; a field given as None is left out.
    """
    metadata = {"namespace": "default", "name": spec.pop("name", "web")}
    for field in ("labels", "annotations"):
        if field in spec:
            metadata[field] = spec.pop(field)
    status = spec.pop("status", {})
    body = {
        "type": "NodePort",
        "clusterIP": CLUSTER_IP,
        "clusterIPs": [CLUSTER_IP, CLUSTER_IP6],
        "ipFamilies": ["IPv4", "IPv6"],
        "ports": [{"protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": NODE_PORT}],
        "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
        **spec,
    }
    kept = {name: value for name, value in body.items() if value is not None}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": kept, "status": status}


def endpoint(where: str, *, family: str = "IPv4", **fields: Any) -> dict[str, Any]:
    """An endpoint of a slice: a pod (`a1`), a node (`node-a`: hostNetwork) or an address; conditions by keyword.

    `ready`, `serving` and `terminating` become conditions (absent: left out), `nodes` and `zones` hints.
    """
    index = 1 if family == "IPv6" else 0
    if where in POD:
        address, node = POD[where][index], f"node-{where[0]}"
    elif where in NODE_IP:
        address, node = (NODE_IP[where], NODE_IP6[where])[index], where
    else:
        address, node = where, None
    item: dict[str, Any] = {"addresses": [address], "nodeName": fields.pop("node", node)}
    hints = {
        name: [{"name": hint} for hint in fields.pop(key)]
        for key, name in (("nodes", "forNodes"), ("zones", "forZones"))
        if key in fields
    }
    conditions = {name: fields.pop(name) for name in ("ready", "serving", "terminating") if name in fields}
    assert not fields, f"unknown fields {sorted(fields)}"
    return {
        **item,
        **({"conditions": conditions} if conditions else {}),
        **({"hints": hints} if hints else {}),
    }


def endpoint_slice(
    *endpoints: str | Mapping[str, Any],
    family: str = "IPv4",
    name: str = "web-1",
    service_name: str = "web",
    labels: Mapping[str, str] | None = None,
    ports: Iterable[Mapping[str, Any]] = ({"name": "", "protocol": "TCP", "port": 8080},),
) -> dict[str, Any]:
    """An EndpointSlice of default/web; endpoints as dicts, or as names that `endpoint` understands."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default",
            "name": name,
            "labels": {"kubernetes.io/service-name": service_name, **(labels or {})},
        },
        "addressType": family,
        "ports": [dict(port) for port in ports],
        "endpoints": [endpoint(item, family=family) if isinstance(item, str) else dict(item) for item in endpoints],
    }


def cluster(*objects: Mapping[str, Any], config: ProxyConfig = DETECT) -> ClusterState:
    """A state with the three nodes and the given Services and EndpointSlices."""
    return ClusterState.from_objects(
        NODES,
        [item for item in objects if item["kind"] == "Service"],
        [item for item in objects if item["kind"] == "EndpointSlice"],
        config,
    )


def at(where: str, *, family: str = "IPv4", port: int = 8080) -> Endpoint:
    """The place a pod or a hostNetwork endpoint answers at."""
    index = 1 if family == "IPv6" else 0
    address = POD[where][index] if where in POD else (NODE_IP[where], NODE_IP6[where])[index]
    return Endpoint(address, port)


def node_addresses(name: str, family: str = "IPv4") -> frozenset[str]:
    """Every address of a node in one family."""
    return frozenset({NODE_IP6[name]} if family == "IPv6" else {NODE_IP[name], SECONDARY[name]})


def sets(result: Verdict) -> tuple[set[str], set[Endpoint]]:
    """A verdict's outcomes and the endpoints that may answer."""
    return set(result.outcomes), set(result.answers)
