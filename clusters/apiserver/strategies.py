# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG002 - a hook receives whatever any strategy may need
"""What a resource adds to the common rules: defaults, validation, and things held while it exists.

`Strategy` is the hook every write goes through; its base class adds nothing. The small strategies live here, those
of Services and EndpointSlices in modules of their own.
"""

from collections.abc import Callable

from clusters.apiserver import names as naming
from clusters.apiserver import shapes
from clusters.apiserver.allocators import Pool, Transaction, address_span, family_of
from clusters.apiserver.kinds import Registry, Resource
from clusters.apiserver.status import (
    ApiError,
    FieldError,
    JsonObject,
    forbidden,
    forbidden_field,
    invalid,
    invalid_value,
    not_supported,
    required,
    too_long,
    too_many,
)
from clusters.observation import Family

PROTECTED_NAMESPACES = ("default", "kube-system")


class Strategy:
    """The rules of one resource.

    Methods change the new object in place and raise ApiError to refuse it. The old one may share parts with it and
    must stay as it is: a part that changes is replaced, not changed.
    """

    shape: shapes.Shape = None
    """The JSON types checked before any other method sees the object."""

    def name_problem(self, name: str) -> str | None:
        """What is wrong with an object's name, or None."""
        return naming.dns_1123_subdomain(name)

    def prepare_create(self, obj: JsonObject, transaction: Transaction) -> None:
        """Default, validate and reserve for a new object."""

    def prepare_update(self, new: JsonObject, old: JsonObject, transaction: Transaction) -> None:
        """The same for a write to the main path; `.status` is already settled."""

    def prepare_status(self, new: JsonObject, old: JsonObject) -> None:
        """The same for a write to `/status`; only `.status` differs."""

    def prepare_delete(self, old: JsonObject, transaction: Transaction) -> None:
        """Release what the object held, once the transaction commits."""


class Namespaces(Strategy):
    """A namespace is Active as soon as it exists; those every cluster has cannot be deleted."""

    def name_problem(self, name: str) -> str | None:
        return naming.dns_1123_label(name)

    def prepare_create(self, obj: JsonObject, transaction: Transaction) -> None:
        labels = obj["metadata"].setdefault("labels", {})
        labels["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}

    def prepare_delete(self, old: JsonObject, transaction: Transaction) -> None:
        name = old["metadata"]["name"]
        if name in PROTECTED_NAMESPACES:
            raise forbidden("namespaces", "", name, "this namespace may not be deleted")


class Nodes(Strategy):
    """The singular and plural pod CIDR fields of a Node follow each other, as API conversion makes them.

    Once set, they stay, and so does the provider's name for the machine.
    """

    shape = shapes.NODE

    def prepare_create(self, obj: JsonObject, transaction: Transaction) -> None:
        self._agree(obj)
        if errors := _pod_cidr_errors(obj["spec"].get("podCIDRs") or []):
            raise invalid("Node", "", obj["metadata"]["name"], errors)

    def prepare_update(self, new: JsonObject, old: JsonObject, transaction: Transaction) -> None:
        self.prepare_create(new, transaction)
        spec, was = new["spec"], old["spec"]
        errors: list[FieldError] = []
        if was.get("podCIDRs") and spec.get("podCIDRs") != was["podCIDRs"]:
            why = 'node updates may not change podCIDR except from "" to valid'
            errors.append(forbidden_field("spec.podCIDRs", why))
        if was.get("providerID") and spec.get("providerID") != was["providerID"]:
            errors.append(invalid_value("spec.providerID", spec.get("providerID"), "may not change once set"))
        if errors:
            raise invalid("Node", "", new["metadata"]["name"], errors)

    def _agree(self, node: JsonObject) -> None:
        spec = node["spec"] = dict(node.get("spec") or {})
        first, listed = spec.get("podCIDR"), spec.get("podCIDRs")
        if first and (not listed or listed[0] != first):
            spec["podCIDRs"] = [first]
        elif listed:
            spec["podCIDR"] = listed[0]


def _pod_cidr_errors(cidrs: list[str]) -> list[FieldError]:
    errors = [
        invalid_value(f"spec.podCIDRs[{i}]", text, problem)
        for i, text in enumerate(cidrs)
        if (problem := naming.cidr(text))
    ]
    if not errors and len(cidrs) > len({family_of(text) for text in cidrs}):
        why = "may specify no more than one CIDR for each IP family"
        errors.append(invalid_value("spec.podCIDRs", cidrs, why))
    return errors


class Pods(Strategy):
    """A new Pod is Pending; no kubelet will run it, whoever needs more writes `/status`.

    The singular and plural address fields follow each other, as API conversion makes them.
    """

    def prepare_create(self, obj: JsonObject, transaction: Transaction) -> None:
        obj["status"] = {"phase": "Pending", "qosClass": "BestEffort"}

    def prepare_status(self, new: JsonObject, old: JsonObject) -> None:
        for singular, plural in (("podIP", "podIPs"), ("hostIP", "hostIPs")):
            new["status"] = _with_both(new["status"], singular, plural)


def _with_both(status: JsonObject, singular: str, plural: str) -> JsonObject:
    """A Pod's status with one of its addresses in both fields; where they disagree, the singular one wins."""
    first, listed = status.get(singular), status.get(plural)
    if first and (not listed or listed[0].get("ip") != first):
        return {**status, plural: [{"ip": first}]}
    if listed and not first:
        return {**status, singular: listed[0].get("ip", "")}
    return status


CONFIG_BYTES = 1 << 20
"""The most that the keys and values of a ConfigMap may come to."""


class ConfigMaps(Strategy):
    """Keys are file names, a mebibyte is enough, and who says `immutable` is taken at his word."""

    shape = shapes.CONFIG_MAP

    def prepare_create(self, obj: JsonObject, transaction: Transaction) -> None:
        errors: list[FieldError] = []
        size = 0
        for field in ("data", "binaryData"):
            for key, value in (obj.get(field) or {}).items():
                size += len(value.encode())
                if problem := naming.config_key(key):
                    errors.append(invalid_value(f"{field}[{key}]", key, problem))
        if size > CONFIG_BYTES:
            errors.append(too_long("[]", CONFIG_BYTES))
        if errors:
            raise invalid("ConfigMap", "", obj["metadata"]["name"], errors)

    def prepare_update(self, new: JsonObject, old: JsonObject, transaction: Transaction) -> None:
        self.prepare_create(new, transaction)
        if old.get("immutable"):
            fields = [one for one in ("data", "binaryData", "immutable") if new.get(one) != old.get(one)]
            errors = [forbidden_field(one, "field is immutable when `immutable` is set") for one in fields]
            if errors:
                raise invalid("ConfigMap", "", new["metadata"]["name"], errors)


class Endpoints(Strategy):
    """The legacy Endpoints object: ports are TCP unless they say otherwise."""

    shape = shapes.ENDPOINTS

    def prepare_create(self, obj: JsonObject, transaction: Transaction) -> None:
        for subset in obj.get("subsets") or ():
            for port in subset.get("ports") or ():
                port.setdefault("protocol", "TCP")

    def prepare_update(self, new: JsonObject, old: JsonObject, transaction: Transaction) -> None:
        self.prepare_create(new, transaction)


class ServiceCidrs(Strategy):
    """ServiceCIDR objects (KEP-1880) add ranges that cluster addresses come from; each is Ready at once.

    Deleting one stops new allocations from it; addresses already held stay with their Services. (A real server
    keeps the object until they are gone.)
    """

    shape = shapes.SERVICE_CIDR

    def __init__(self, pools: dict[Family, Pool], now: Callable[[], str]) -> None:
        self._pools = pools
        self._now = now

    def prepare_create(self, obj: JsonObject, transaction: Transaction) -> None:
        cidrs = (obj.get("spec") or {}).get("cidrs") or []
        if errors := self._problems(cidrs):
            raise _invalid_cidr(obj, errors)
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "",
            "message": "Kubernetes Service CIDR is ready",
            "lastTransitionTime": self._now(),
        }
        obj["status"] = {"conditions": [ready]}
        transaction.on_commit(lambda: self._offer(cidrs))

    def prepare_update(self, new: JsonObject, old: JsonObject, transaction: Transaction) -> None:
        if new.get("spec") != old.get("spec"):
            shown = (new.get("spec") or {}).get("cidrs")
            raise _invalid_cidr(new, [invalid_value("spec.cidrs", shown, "field is immutable")])

    def prepare_delete(self, old: JsonObject, transaction: Transaction) -> None:
        for cidr in old["spec"]["cidrs"]:
            transaction.on_commit(lambda cidr=cidr: self._pools[family_of(cidr)].drop(cidr))  # type: ignore[misc]

    def _offer(self, cidrs: list[str]) -> None:
        for cidr in cidrs:
            self._pools[family_of(cidr)].add(address_span(cidr))

    def _problems(self, cidrs: list[str]) -> list[FieldError]:
        if not cidrs:
            return [required("spec.cidrs", "at least one CIDR is needed")]
        if len(cidrs) > 2:
            return [too_many("spec.cidrs", len(cidrs), 2)]
        if len(cidrs) == 2 and family_of(cidrs[0]) == family_of(cidrs[1]):
            return [invalid_value("spec.cidrs", cidrs, "may specify no more than one IP for each IP family")]
        errors: list[FieldError] = []
        for i, cidr in enumerate(cidrs):
            try:
                address_span(cidr)
            except ValueError as problem:
                errors.append(invalid_value(f"spec.cidrs[{i}]", cidr, str(problem)))
        return errors


def _invalid_cidr(obj: JsonObject, errors: list[FieldError]) -> ApiError:
    return invalid("ServiceCIDR", "networking.k8s.io", obj["metadata"]["name"], errors)


SCOPES = ("Cluster", "Namespaced")


class CustomResourceDefinitions(Strategy):
    """A definition serves its resources from the moment it exists, and takes their objects with it when it goes.

    Schemas are not enforced. Optional: a custom resource may also simply be used (see `kinds.Registry.learn`).
    """

    shape = shapes.CUSTOM_RESOURCE_DEFINITION

    def __init__(
        self,
        registry: Registry,
        begin: Callable[[Resource], None],
        clear: Callable[[Resource], None],
        now: Callable[[], str],
    ) -> None:
        """`begin` is called with each resource that is served for the first time, `clear` with each that goes."""
        self._registry = registry
        self._begin = begin
        self._clear = clear
        self._now = now

    def prepare_create(self, obj: JsonObject, transaction: Transaction) -> None:
        spec = obj.get("spec") or {}
        names = spec.get("names") or {}
        missing = [
            required(f"spec.{field}")
            for field, value in (
                ("group", spec.get("group")),
                ("scope", spec.get("scope")),
                ("versions", spec.get("versions")),
                ("names.plural", names.get("plural")),
                ("names.kind", names.get("kind")),
            )
            if not value
        ]
        if not missing and obj["metadata"]["name"] != f"{names['plural']}.{spec['group']}":
            why = 'must be spec.names.plural+"."+spec.group'
            missing = [invalid_value("metadata.name", obj["metadata"]["name"], why)]
        if not missing and spec["scope"] not in SCOPES:
            missing = [not_supported("spec.scope", spec["scope"], SCOPES)]
        if missing:
            raise self._invalid(obj, missing)
        names.setdefault("listKind", names["kind"] + "List")
        names.setdefault("singular", names["kind"].lower())
        obj["status"] = {
            "acceptedNames": names,
            "storedVersions": [v["name"] for v in spec["versions"] if v.get("storage")],
            "conditions": [self._condition("NamesAccepted", "NoConflicts"),
                           self._condition("Established", "InitialNamesAccepted")],
        }  # fmt: skip
        transaction.on_commit(lambda: self._serve(obj))

    def prepare_update(self, new: JsonObject, old: JsonObject, transaction: Transaction) -> None:
        for field in ("group", "scope"):
            if new["spec"].get(field) != old["spec"][field]:
                raise self._invalid(new, [forbidden_field(f"spec.{field}", "field is immutable")])
        transaction.on_commit(lambda: self._serve(new))

    def prepare_delete(self, old: JsonObject, transaction: Transaction) -> None:
        def withdraw() -> None:
            for resource in self._resources(old):
                self._clear(resource)
                self._registry.remove(resource)

        transaction.on_commit(withdraw)

    def _serve(self, definition: JsonObject) -> None:
        for resource in self._resources(definition):
            is_new = self._registry.find(*resource.key) is None
            self._registry.add(resource)
            if is_new:
                self._begin(resource)

    def _resources(self, definition: JsonObject) -> list[Resource]:
        spec = definition["spec"]
        names = spec["names"]
        return [
            Resource(
                spec["group"],
                version["name"],
                names["plural"],
                names["kind"],
                namespaced=spec["scope"] == "Namespaced",
                short_names=tuple(names.get("shortNames") or ()),
                status_apart="status" in (version.get("subresources") or {}),
                builtin=False,
                categories=tuple(names.get("categories") or ()),
                selectable=tuple(
                    field["jsonPath"].removeprefix(".") for field in version.get("selectableFields") or ()
                ),
            )
            for version in spec["versions"]
            if version.get("served")
        ]

    def _condition(self, kind: str, reason: str) -> JsonObject:
        return {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": "",
            "lastTransitionTime": self._now(),
        }

    def _invalid(self, obj: JsonObject, errors: list[FieldError]) -> ApiError:
        return invalid("CustomResourceDefinition", "apiextensions.k8s.io", obj["metadata"]["name"], errors)
