# SPDX-License-Identifier: Apache-2.0
"""What the API fills in, carries over and drops in a Service before anybody validates it.

`https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/` for the defaults. The rules for
updates make two habits work: submitting the original manifest again (allocated values are carried over), and changing
only `type` (fields the new type cannot have are dropped, if the user did not also change them).
"""

from typing import Any

from clusters.apiserver.status import JsonObject

AFFINITY_SECONDS = 10800
"""Three hours, the documented default of ClientIP affinity."""

NEEDS_NODE_PORT = ("NodePort", "LoadBalancer")


def set_defaults(service: JsonObject) -> None:
    """The static defaults, which look at nothing but the Service itself."""
    spec = service.setdefault("spec", {})
    _default(spec, "type", "ClusterIP")
    _default(spec, "sessionAffinity", "None")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client.setdefault("timeoutSeconds", AFFINITY_SECONDS)
    for port in spec.get("ports") or ():
        _default(port, "protocol", "TCP")
        if not port.get("targetPort") and "port" in port:
            port["targetPort"] = port["port"]
    if externally_accessible(spec):
        _default(spec, "externalTrafficPolicy", "Cluster")
    if spec["type"] in ("ClusterIP", *NEEDS_NODE_PORT):
        _default(spec, "internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    default_status(service)


def default_status(service: JsonObject) -> None:
    """Every Service has a load-balancer status; an ingress address of a load balancer is a VIP unless it says so."""
    ingresses = service.setdefault("status", {}).setdefault("loadBalancer", {}).get("ingress") or ()
    if service["spec"].get("type") == "LoadBalancer":
        for ingress in ingresses:
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def _default(spec: JsonObject, field: str, value: Any) -> None:
    """An empty string counts as absent, as in Go."""
    if not spec.get(field):
        spec[field] = value


def externally_accessible(spec: JsonObject) -> bool:
    """Whether traffic from outside the cluster may enter, so that externalTrafficPolicy means something."""
    return bool(spec["type"] in NEEDS_NODE_PORT or (spec["type"] == "ClusterIP" and spec.get("externalIPs")))


def is_headless(spec: JsonObject) -> bool:
    return bool(spec["type"] != "ExternalName" and (spec.get("clusterIPs") or [None])[0] == "None")


def needs_cluster_ip(spec: JsonObject) -> bool:
    return bool(spec["type"] != "ExternalName")


def needs_health_check_port(spec: JsonObject) -> bool:
    return bool(spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local")


def allocates_node_ports(spec: JsonObject) -> bool:
    """Whether ports without a nodePort get one."""
    return bool(
        spec["type"] == "NodePort"
        or (spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True))
    )


def node_ports(spec: JsonObject) -> set[int]:
    """The distinct node ports named in the Service's ports."""
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


def carry_over(new: JsonObject, old: JsonObject) -> None:
    """Allocated values that an update leaves out stay as they are. Both arguments are Service specs."""
    if needs_cluster_ip(new) and needs_cluster_ip(old):
        if not new.get("clusterIP"):
            new["clusterIP"] = old.get("clusterIP", "")
        if not new.get("clusterIPs") and old.get("clusterIPs"):
            new["clusterIPs"] = list(old["clusterIPs"])
    if new["type"] in NEEDS_NODE_PORT and old["type"] in NEEDS_NODE_PORT:
        _carry_node_ports(new, old)
    if needs_health_check_port(new) and needs_health_check_port(old) and not new.get("healthCheckNodePort"):
        new["healthCheckNodePort"] = old.get("healthCheckNodePort", 0)


def _carry_node_ports(new: JsonObject, old: JsonObject) -> None:
    """Ports are recognised by name: other properties may be what the user came to change."""
    kept = node_ports(new) & node_ports(old)
    by_name = {port.get("name", ""): port.get("nodePort") for port in old.get("ports") or ()}
    for port in new.get("ports") or ():
        before = by_name.get(port.get("name", ""))
        if not port.get("nodePort") and before and before not in kept:
            port["nodePort"] = before
            kept.add(before)


def align_cluster_ips(new: JsonObject, old: JsonObject | None) -> None:
    """Make `clusterIPs` follow a `clusterIP` that a client of the older, singular field set, changed or cleared."""
    singular, plural = new.get("clusterIP", ""), new.get("clusterIPs") or []
    if old is None:
        if singular and not plural:
            new["clusterIPs"] = [singular]
        return
    if singular != old.get("clusterIP", "") and plural == (old.get("clusterIPs") or []):
        new["clusterIPs"] = [singular] if singular else []


def drop_what_the_type_cannot_have(new: JsonObject, old: JsonObject) -> None:
    """Fields of the old type that the new type has no use for, unless the user changed them as well."""
    if needs_cluster_ip(old) and not needs_cluster_ip(new):
        same = all(_same(new, old, field) for field in ("clusterIP", "clusterIPs"))
        _drop(new, old, *(("clusterIP", "clusterIPs") if same else ()), "ipFamilies", "ipFamilyPolicy")
    left_node_ports = old["type"] in NEEDS_NODE_PORT and new["type"] not in NEEDS_NODE_PORT
    if left_node_ports and node_ports(new) <= node_ports(old):
        for port in new.get("ports") or ():
            port.pop("nodePort", None)
    if needs_health_check_port(old) and not needs_health_check_port(new):
        _drop(new, old, "healthCheckNodePort")
    if old["type"] == "LoadBalancer" and new["type"] != "LoadBalancer":
        _drop(new, old, "allocateLoadBalancerNodePorts", "loadBalancerClass")
    if externally_accessible(old) and not externally_accessible(new):
        _drop(new, old, "externalTrafficPolicy")
    if old["type"] != "ExternalName" and new["type"] == "ExternalName":
        _drop(new, old, "internalTrafficPolicy")


def _same(new: JsonObject, old: JsonObject, field: str) -> bool:
    return (new.get(field) or None) == (old.get(field) or None)


def _drop(new: JsonObject, old: JsonObject, *fields: str) -> None:
    for field in fields:
        if _same(new, old, field):
            new.pop(field, None)
