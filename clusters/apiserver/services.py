# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG002 - a hook receives whatever any strategy may need
"""Services: which addresses and node ports they hold, from creation through every change to deletion.

The order of an update is upstream's: carry over what was allocated, drop what the new type cannot have, validate,
settle the IP families, then allocate and release. Everything is taken within one transaction, so a refused request
and a dry run leave the pools as they were.

https://kubernetes.io/docs/concepts/services-networking/dual-stack/,
https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/ and, for node ports,
https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport.
"""

from collections.abc import Mapping

from clusters.apiserver import shapes
from clusters.apiserver.allocators import (
    Pool,
    PoolError,
    Transaction,
    address_number,
    address_text,
    family_of,
)
from clusters.apiserver.names import dns_1035_label
from clusters.apiserver.service_defaults import (
    NEEDS_NODE_PORT,
    align_cluster_ips,
    allocates_node_ports,
    carry_over,
    default_status,
    drop_what_the_type_cannot_have,
    is_headless,
    needs_cluster_ip,
    needs_health_check_port,
    node_ports,
    set_defaults,
)
from clusters.apiserver.service_validation import spec_errors, status_errors, update_errors
from clusters.apiserver.status import FieldError, JsonObject, internal_error, invalid, invalid_value
from clusters.apiserver.strategies import Strategy
from clusters.observation import Family


class Services(Strategy):
    """The rules of v1 Services.

    `addresses` holds one pool per IP family (an empty pool: the cluster lacks the family), `default_family` is the
    family of a Service that names none, `ports` the node ports. As upstream, a node port is one number for all
    protocols: the ports of *one* Service may share it across protocols, two Services never do.
    """

    shape = shapes.SERVICE

    def __init__(self, addresses: Mapping[Family, Pool], default_family: Family, ports: Pool) -> None:
        self._addresses = addresses
        self._default_family = default_family
        self._ports = ports

    def name_problem(self, name: str) -> str | None:
        return dns_1035_label(name)

    def prepare_create(self, obj: JsonObject, transaction: Transaction) -> None:
        obj["status"] = {"loadBalancer": {}}
        set_defaults(obj)
        spec = obj["spec"]
        align_cluster_ips(spec, None)
        self._refuse(obj, spec_errors(spec))
        self._settle_families(obj, None)
        self._update_cluster_ips(obj, {"type": "ExternalName"}, transaction)
        self._update_node_ports(obj, {"type": "ExternalName"}, transaction)

    def prepare_update(self, new: JsonObject, old: JsonObject, transaction: Transaction) -> None:
        set_defaults(new)
        spec, before = new["spec"], old["spec"]
        carry_over(spec, before)
        align_cluster_ips(spec, before)
        drop_what_the_type_cannot_have(spec, before)
        if spec["type"] != "LoadBalancer":
            new["status"] = new["status"] | {"loadBalancer": {}}
        self._refuse(new, spec_errors(spec) + update_errors(spec, before))
        self._settle_families(new, before)
        self._update_cluster_ips(new, before, transaction)
        self._update_node_ports(new, before, transaction)

    def prepare_status(self, new: JsonObject, old: JsonObject) -> None:
        default_status(new)
        self._refuse(new, status_errors(new))

    def prepare_delete(self, old: JsonObject, transaction: Transaction) -> None:
        spec = old["spec"]
        for family, ip in _held(spec).items():
            self._addresses[family].release(address_number(ip), transaction)
        for number in _held_ports(spec):
            self._ports.release(number, transaction)

    def _refuse(self, service: JsonObject, errors: list[FieldError]) -> None:
        if errors:
            raise invalid("Service", "", service["metadata"]["name"], errors)

    def _settle_families(self, service: JsonObject, before: JsonObject | None) -> None:
        """Fill in ipFamilyPolicy and ipFamilies from what the user said, what was there and what the cluster has."""
        spec = service["spec"]
        if not needs_cluster_ip(spec):
            return
        selectorless_headless = is_headless(spec) and not spec.get("selector")
        if not spec.get("ipFamilyPolicy"):
            inherited = (before or {}).get("ipFamilyPolicy")
            spec["ipFamilyPolicy"] = inherited or ("RequireDualStack" if selectorless_headless else "SingleStack")
        if before is not None:
            self._refuse(service, _shrink(spec, before))
        self._refuse(service, self._infer_families(spec))
        families = spec["ipFamilies"]
        single = spec["ipFamilyPolicy"] == "SingleStack"
        if not selectorless_headless:
            self._refuse(service, self._family_errors(spec))
        if not families:
            families.append(self._default_family)
        other: Family = "IPv6" if families[0] == "IPv4" else "IPv4"
        if not single and len(families) == 1 and (selectorless_headless or self._addresses[other]):
            families.append(other)

    def _infer_families(self, spec: JsonObject) -> list[FieldError]:
        """Families of addresses the user picked; `spec.ipFamilies` is a list afterwards."""
        families = spec["ipFamilies"] = list(spec.get("ipFamilies") or [])
        ips = spec.get("clusterIPs") or []
        errors: list[FieldError] = []
        if spec["ipFamilyPolicy"] == "SingleStack":
            for values, what in ((ips, "cluster IPs"), (families, "IP families")):
                if len(values) == 2:
                    why = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                    errors.append(invalid_value("spec.ipFamilyPolicy", "SingleStack", why))
        for i, ip in enumerate(ips):
            if ip == "None":
                break
            family = family_of(ip)
            if i < len(families):
                continue
            if self._addresses[family]:
                families.append(family)
            else:
                why = f"{family} is not configured on this cluster"
                errors.append(invalid_value(f"spec.clusterIPs[{i}]", ips, why))
        return errors

    def _family_errors(self, spec: JsonObject) -> list[FieldError]:
        errors: list[FieldError] = []
        if spec["ipFamilyPolicy"] == "RequireDualStack" and not all(self._addresses.values()):
            why = "this cluster is not configured for dual-stack services"
            errors.append(invalid_value("spec.ipFamilyPolicy", "RequireDualStack", why))
        for i, family in enumerate(spec["ipFamilies"]):
            if not self._addresses[family]:
                why = "not configured on this cluster"
                errors.append(invalid_value(f"spec.ipFamilies[{i}]", family, why))
        return errors

    def _update_cluster_ips(self, service: JsonObject, before: JsonObject, transaction: Transaction) -> None:
        """Take the addresses the Service wants and does not hold, release those it holds no longer."""
        spec = service["spec"]
        held = _held(before)
        kept: set[Family] = set()
        if needs_cluster_ip(spec) and not is_headless(spec):
            ips = list(spec.get("clusterIPs") or [])
            ips += [""] * (len(spec["ipFamilies"]) - len(ips))
            for i, family in enumerate(spec["ipFamilies"]):
                if ips[i] and ips[i] == held.get(family):
                    kept.add(family)
                else:
                    ips[i] = self._take_address(service, family, ips[i], transaction)
            spec["clusterIPs"] = ips
            spec["clusterIP"] = ips[0]
        for family, ip in held.items():
            if family not in kept:
                self._addresses[family].release(address_number(ip), transaction)

    def _take_address(self, service: JsonObject, family: Family, ip: str, transaction: Transaction) -> str:
        pool = self._addresses[family]
        try:
            if not ip:
                return address_text(pool.take_next(transaction), family)
            pool.take(address_number(ip), transaction, "IP")
        except PoolError as problem:
            if not ip:
                raise internal_error(f"failed to allocate a serviceIP: {problem}") from problem
            why = f"failed to allocate IP {ip}: {problem}"
            shown = service["spec"].get("clusterIPs")
            error = invalid_value("spec.clusterIPs", shown, why)
            raise invalid("Service", "", service["metadata"]["name"], [error]) from problem
        return ip

    def _update_node_ports(self, service: JsonObject, before: JsonObject, transaction: Transaction) -> None:
        """The same for node ports and the health check port."""
        spec = service["spec"]
        held = _held_ports(before)
        if spec["type"] in NEEDS_NODE_PORT:
            self._fill_node_ports(service, held, transaction)
        if needs_health_check_port(spec):
            wanted = spec.get("healthCheckNodePort") or 0
            if not wanted or wanted not in held:
                field = "spec.healthCheckNodePort"
                spec["healthCheckNodePort"] = self._take_port(service, field, wanted, transaction)
        for number in held - _held_ports(spec):
            self._ports.release(number, transaction)

    def _fill_node_ports(self, service: JsonObject, held: set[int], transaction: Transaction) -> None:
        """Chosen numbers first; then ports that share a number across protocols share the node port as well."""
        spec = service["spec"]
        ports = spec.get("ports") or []
        mine = set(held)
        for i, port in enumerate(ports):
            wanted = port.get("nodePort")
            if wanted and wanted not in mine:
                self._take_port(service, f"spec.ports[{i}].nodePort", wanted, transaction)
                mine.add(wanted)
        if not allocates_node_ports(spec):
            return
        for i, port in enumerate(ports):
            if not port.get("nodePort"):
                port["nodePort"] = _sibling_node_port(ports, port) or self._take_port(
                    service, f"spec.ports[{i}].nodePort", 0, transaction
                )

    def _take_port(self, service: JsonObject, field: str, wanted: int, transaction: Transaction) -> int:
        try:
            if not wanted:
                return self._ports.take_next(transaction)
            self._ports.take(wanted, transaction, "port")
        except PoolError as problem:
            if not wanted:
                raise internal_error(f"failed to allocate a nodePort: {problem}") from problem
            error = invalid_value(field, wanted, str(problem))
            raise invalid("Service", "", service["metadata"]["name"], [error]) from problem
        return wanted


def _sibling_node_port(ports: list[JsonObject], port: JsonObject) -> int:
    """The node port of another port with the same number, if this port's protocol is still free on it."""
    same = [o for o in ports if o is not port and o["port"] == port["port"] and o.get("nodePort")]
    for other in same:
        number: int = other["nodePort"]
        if not any(o.get("nodePort") == number and o["protocol"] == port["protocol"] for o in ports):
            return number
    return 0


def _shrink(spec: JsonObject, before: JsonObject) -> list[FieldError]:
    """Going to SingleStack trims what was dual; any other policy may not lose its second address or family."""
    errors: list[FieldError] = []
    for field, what in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
        now, was = spec.get(field) or [], before.get(field) or []
        if spec["ipFamilyPolicy"] == "SingleStack":
            if now == was and len(now) > 1:
                spec[field] = now[:1]
        elif len(was) == 2 and len(now) == 1:
            why = f"must be 'SingleStack' to release the secondary {what}"
            errors.append(invalid_value("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], why))
    return errors


def _held(spec: JsonObject) -> dict[Family, str]:
    """The cluster addresses a stored Service holds, by family."""
    if not needs_cluster_ip(spec) or is_headless(spec):
        return {}
    return {family_of(ip): ip for ip in spec.get("clusterIPs") or ()}


def _held_ports(spec: JsonObject) -> set[int]:
    """The node ports a stored Service holds, its health check port included."""
    if spec["type"] not in NEEDS_NODE_PORT:
        return set()
    numbers = node_ports(spec)
    if needs_health_check_port(spec) and spec.get("healthCheckNodePort"):
        numbers.add(spec["healthCheckNodePort"])
    return numbers
