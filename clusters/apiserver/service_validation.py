# SPDX-License-Identifier: Apache-2.0
"""What the API refuses in a Service (422), field by field, for the fields a dataplane acts on.

Every function takes a defaulted spec and returns the errors it found, in the API's own vocabulary.
https://kubernetes.io/docs/concepts/services-networking/service/
"""

from collections.abc import Callable, Sequence

from clusters.apiserver.allocators import family_of
from clusters.apiserver.names import (
    cidr,
    dns_1123_label,
    dns_1123_subdomain,
    ip_address,
    port_name,
    port_number,
    serving_address,
)
from clusters.apiserver.service_defaults import (
    NEEDS_NODE_PORT,
    externally_accessible,
    is_headless,
    needs_cluster_ip,
    needs_health_check_port,
)
from clusters.apiserver.status import (
    FieldError,
    JsonObject,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
PROTOCOLS = ("SCTP", "TCP", "UDP")
POLICIES = ("Cluster", "Local")
FAMILIES = ("IPv4", "IPv6")
FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
MAX_AFFINITY_SECONDS = 86400


def spec_errors(spec: JsonObject) -> list[FieldError]:
    """Everything wrong with one Service spec, looked at by itself."""
    errors = [*_port_errors(spec), *_choice_errors(spec), *_affinity_errors(spec), *_external_errors(spec)]
    if spec["type"] not in TYPES:
        return [not_supported("spec.type", spec["type"], TYPES), *errors]
    return [*_type_errors(spec), *errors, *cluster_ip_errors(spec)]


def _type_errors(spec: JsonObject) -> list[FieldError]:
    errors: list[FieldError] = []
    if spec["type"] == "ExternalName":
        name = (spec.get("externalName") or "").removesuffix(".")
        if not name:
            errors.append(required("spec.externalName"))
        elif problem := dns_1123_subdomain(name):
            errors.append(invalid_value("spec.externalName", spec["externalName"], problem))
    elif spec["type"] in NEEDS_NODE_PORT and is_headless(spec):
        why = f"may not be set to 'None' for {spec['type']} services"
        errors.append(invalid_value("spec.clusterIPs[0]", "None", why))
    if spec["type"] != "LoadBalancer":
        only = "may only be used when `type` is 'LoadBalancer'"
        fields = ("allocateLoadBalancerNodePorts", "loadBalancerClass", "loadBalancerSourceRanges")
        errors += [
            forbidden_field(f"spec.{field}", only) for field in fields if spec.get(field) not in (None, [], "")
        ]
    if spec["type"] not in NEEDS_NODE_PORT:
        errors += [
            forbidden_field(f"spec.ports[{i}].nodePort", f"may not be used when `type` is '{spec['type']}'")
            for i, port in enumerate(spec.get("ports") or ())
            if port.get("nodePort")
        ]
    if spec.get("externalTrafficPolicy") and not externally_accessible(spec):
        why = "may only be set for externally-accessible services"
        errors.append(invalid_value("spec.externalTrafficPolicy", spec["externalTrafficPolicy"], why))
    if spec.get("healthCheckNodePort") and not needs_health_check_port(spec):
        why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        errors.append(invalid_value("spec.healthCheckNodePort", spec["healthCheckNodePort"], why))
    return errors


def _port_errors(spec: JsonObject) -> list[FieldError]:
    ports = spec.get("ports") or []
    if not ports and spec["type"] != "ExternalName" and not is_headless(spec):
        return [required("spec.ports")]
    errors: list[FieldError] = []
    for i, port in enumerate(ports):
        path = f"spec.ports[{i}]"
        errors += _one_port_errors(port, path, must_have_name=len(ports) > 1)
        before = ports[:i]
        name, pair = port.get("name"), (port["protocol"], port.get("port"))
        if name and any(name == other.get("name") for other in before):
            errors.append(duplicate(f"{path}.name", name))
        if any(pair == (other["protocol"], other.get("port")) for other in before):
            errors.append(duplicate(path, {"protocol": pair[0], "port": pair[1]}))
        node_pair = (port["protocol"], port.get("nodePort"))
        if node_pair[1] and any(node_pair == (o["protocol"], o.get("nodePort")) for o in before):
            errors.append(duplicate(f"{path}.nodePort", node_pair[1]))
    return errors


def _one_port_errors(port: JsonObject, path: str, *, must_have_name: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    name = port.get("name") or ""
    if must_have_name and not name:
        errors.append(required(f"{path}.name"))
    elif name and (problem := dns_1123_label(name)):
        errors.append(invalid_value(f"{path}.name", name, problem))
    if problem := port_number(port.get("port", 0)):
        errors.append(invalid_value(f"{path}.port", port.get("port", 0), problem))
    if port["protocol"] not in PROTOCOLS:
        errors.append(not_supported(f"{path}.protocol", port["protocol"], PROTOCOLS))
    target = port.get("targetPort", 0)
    problem = port_name(target) if isinstance(target, str) else port_number(target)
    # A port number out of range was already named; its default target port would only repeat that.
    if problem and target != port.get("port", 0):
        errors.append(invalid_value(f"{path}.targetPort", target, problem))
    return errors


def _choice_errors(spec: JsonObject) -> list[FieldError]:
    choices: tuple[tuple[str, Sequence[str]], ...] = (
        ("sessionAffinity", ("ClientIP", "None")),
        ("externalTrafficPolicy", POLICIES),
        ("internalTrafficPolicy", POLICIES),
        ("ipFamilyPolicy", FAMILY_POLICIES),
        ("trafficDistribution", DISTRIBUTIONS),
    )
    return [
        not_supported(f"spec.{field}", spec[field], supported)
        for field, supported in choices
        if spec.get(field) and spec[field] not in supported
    ]


def _affinity_errors(spec: JsonObject) -> list[FieldError]:
    if spec["sessionAffinity"] != "ClientIP":
        return []
    seconds = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
    if 0 < seconds <= MAX_AFFINITY_SECONDS:
        return []
    why = f"must be greater than 0 and less than or equal to {MAX_AFFINITY_SECONDS}"
    return [invalid_value("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, why)]


def _external_errors(spec: JsonObject) -> list[FieldError]:
    lists: tuple[tuple[str, Callable[[str], str | None]], ...] = (
        ("externalIPs", serving_address),
        ("loadBalancerSourceRanges", cidr),
    )
    return [
        invalid_value(f"spec.{field}[{i}]", value, problem)
        for field, check in lists
        for i, value in enumerate(spec.get(field) or ())
        if (problem := check(value))
    ]


def cluster_ip_errors(spec: JsonObject) -> list[FieldError]:
    """`clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` against each other, before allocation."""
    ips, families = spec.get("clusterIPs") or [], spec.get("ipFamilies") or []
    if not needs_cluster_ip(spec):
        why = "may not be set for ExternalName services"
        return [
            forbidden_field(f"spec.{field}", why)
            for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
            if spec.get(field)
        ]
    errors: list[FieldError] = []
    if spec.get("clusterIP") and not ips:
        errors.append(required("spec.clusterIPs"))
    if ips and spec.get("clusterIP", "") != ips[0]:
        errors.append(invalid_value("spec.clusterIPs", ips, "first value must match `clusterIP`"))
    if len(ips) > 2:
        errors.append(invalid_value("spec.clusterIPs", ips, "may only hold up to 2 values"))
    if "None" in ips:
        if len(ips) > 1:
            why = "'None' must be the first and only value"
            errors.append(invalid_value("spec.clusterIPs", ips, why))
        return errors + _family_errors(families, [])
    for i, ip in enumerate(ips):
        if problem := ip_address(ip):
            errors.append(invalid_value(f"spec.clusterIPs[{i}]", ip, problem))
    if len(ips) == 2 and family_of(ips[0]) == family_of(ips[1]):
        why = "may specify no more than one IP for each IP family"
        errors.append(invalid_value("spec.clusterIPs", ips, why))
    return errors + _family_errors(families, ips)


def _family_errors(families: list[str], ips: list[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, family in enumerate(families):
        if family not in FAMILIES:
            errors.append(not_supported(f"spec.ipFamilies[{i}]", family, FAMILIES))
        elif family in families[:i]:
            errors.append(duplicate(f"spec.ipFamilies[{i}]", family))
        elif i < len(ips) and family_of(ips[i]) != family:
            errors.append(invalid_value(f"spec.clusterIPs[{i}]", ips[i], f"expected an {family} value"))
    return errors


def update_errors(new: JsonObject, old: JsonObject) -> list[FieldError]:
    """What may not change while a Service keeps its cluster address. Both arguments are specs, after carry-over."""
    errors: list[FieldError] = []
    if needs_cluster_ip(old) and needs_cluster_ip(new):
        errors += _kept_cluster_ip_errors(new, old)
    both_check = needs_health_check_port(old) and needs_health_check_port(new)
    if both_check and new.get("healthCheckNodePort") != old.get("healthCheckNodePort"):
        shown = new.get("healthCheckNodePort")
        errors.append(invalid_value("spec.healthCheckNodePort", shown, "field is immutable"))
    both_balance = old["type"] == new["type"] == "LoadBalancer"
    if both_balance and new.get("loadBalancerClass") != old.get("loadBalancerClass"):
        shown = new.get("loadBalancerClass")
        errors.append(invalid_value("spec.loadBalancerClass", shown, "may not change once set"))
    return errors


def _kept_cluster_ip_errors(new: JsonObject, old: JsonObject) -> list[FieldError]:
    new_ips, old_ips = new.get("clusterIPs") or [], old.get("clusterIPs") or []
    new_families, old_families = new.get("ipFamilies") or [], old.get("ipFamilies") or []
    frozen = "may not change once set"
    errors: list[FieldError] = []
    if old_ips and new_ips[:1] != old_ips[:1]:
        errors.append(invalid_value("spec.clusterIPs[0]", new_ips, frozen))
    elif len(old_ips) == 2 and len(new_ips) == 2 and new_ips[1] != old_ips[1]:
        errors.append(invalid_value("spec.clusterIPs[1]", new_ips, frozen))
    if old_families and new_families and new_families[0] != old_families[0]:
        errors.append(invalid_value("spec.ipFamilies[0]", new_families, frozen))
    elif len(old_families) == 2 and len(new_families) == 2 and new_families[1] != old_families[1]:
        errors.append(invalid_value("spec.ipFamilies[1]", new_families, frozen))
    return errors


def status_errors(service: JsonObject) -> list[FieldError]:
    """The load-balancer status: addresses must be addresses, a mode needs one, and only load balancers have any."""
    ingresses = service["status"]["loadBalancer"].get("ingress") or []
    path = "status.loadBalancer.ingress"
    if ingresses and service["spec"]["type"] != "LoadBalancer":
        return [forbidden_field(path, "may only be used when `spec.type` is 'LoadBalancer'")]
    errors: list[FieldError] = []
    for i, ingress in enumerate(ingresses):
        if (ip := ingress.get("ip")) and (problem := ip_address(ip)):
            errors.append(invalid_value(f"{path}[{i}].ip", ip, problem))
        mode = ingress.get("ipMode")
        if mode is not None and mode not in ("Proxy", "VIP"):
            errors.append(not_supported(f"{path}[{i}].ipMode", mode, ("Proxy", "VIP")))
        elif mode is not None and not ip:
            errors.append(forbidden_field(f"{path}[{i}].ipMode", "may not be specified when `ip` is not set"))
    return errors
