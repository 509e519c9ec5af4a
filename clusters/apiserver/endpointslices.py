# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG002 - a hook receives whatever any strategy may need
"""EndpointSlices: defaults and the validation that keeps nonsense from reaching a proxy.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/ with the limits a real server enforces:
1,000 endpoints of at most 100 addresses, 20,000 ports (100 are documented), 8 hints of a kind.
"""

from clusters.apiserver import shapes
from clusters.apiserver.allocators import Transaction
from clusters.apiserver.names import (
    NO_ADDRESS,
    dns_1123_label,
    dns_1123_subdomain,
    parsed_address,
    serving_address,
)
from clusters.apiserver.status import (
    FieldError,
    JsonObject,
    duplicate,
    invalid,
    invalid_value,
    not_supported,
    required,
    too_many,
)
from clusters.apiserver.strategies import Strategy

ADDRESS_TYPES = ("IPv4", "IPv6", "FQDN")
PROTOCOLS = ("TCP", "UDP", "SCTP")
MAX_ENDPOINTS = 1000
MAX_ADDRESSES = 100
MAX_PORTS = 20000
MAX_HINTS = 8


class EndpointSlices(Strategy):
    """Defaults (`protocol: TCP`, `name: ""`: a proxy ignores a port without a name) and 422 for what breaks rules."""

    shape = shapes.ENDPOINT_SLICE

    def prepare_create(self, obj: JsonObject, transaction: Transaction) -> None:
        obj["endpoints"] = obj.get("endpoints") or []
        for port in obj.get("ports") or ():
            port.setdefault("name", "")
            port.setdefault("protocol", "TCP")
        if errors := slice_errors(obj):
            raise invalid("EndpointSlice", "discovery.k8s.io", obj["metadata"]["name"], errors)

    def prepare_update(self, new: JsonObject, old: JsonObject, transaction: Transaction) -> None:
        if new.get("addressType") != old["addressType"]:
            error = invalid_value("addressType", new.get("addressType"), "field is immutable")
            raise invalid("EndpointSlice", "discovery.k8s.io", new["metadata"]["name"], [error])
        self.prepare_create(new, transaction)


def slice_errors(obj: JsonObject) -> list[FieldError]:
    """Everything wrong with a defaulted EndpointSlice."""
    address_type = obj.get("addressType")
    errors: list[FieldError] = []
    if not address_type:
        errors.append(required("addressType"))
    elif address_type not in ADDRESS_TYPES:
        errors.append(not_supported("addressType", address_type, ADDRESS_TYPES))
    endpoints = obj["endpoints"]
    if len(endpoints) > MAX_ENDPOINTS:
        errors.append(too_many("endpoints", len(endpoints), MAX_ENDPOINTS))
    for i, endpoint in enumerate(endpoints):
        errors += _endpoint_errors(endpoint, address_type, f"endpoints[{i}]")
    return errors + _port_errors(obj.get("ports") or [])


def _endpoint_errors(endpoint: JsonObject, address_type: str | None, path: str) -> list[FieldError]:
    addresses = endpoint.get("addresses") or []
    errors: list[FieldError] = []
    if not addresses:
        errors.append(required(f"{path}.addresses", "must contain at least 1 address"))
    if len(addresses) > MAX_ADDRESSES:
        errors.append(too_many(f"{path}.addresses", len(addresses), MAX_ADDRESSES))
    for i, address in enumerate(addresses):
        if problem := _address_problem(address, address_type):
            errors.append(invalid_value(f"{path}.addresses[{i}]", address, problem))
    if (node := endpoint.get("nodeName")) is not None and (problem := dns_1123_subdomain(node)):
        errors.append(invalid_value(f"{path}.nodeName", node, problem))
    if (hostname := endpoint.get("hostname")) and (problem := dns_1123_label(hostname)):
        errors.append(invalid_value(f"{path}.hostname", hostname, problem))
    for kind, hints in (endpoint.get("hints") or {}).items():
        errors += _hint_errors(hints or [], f"{path}.hints.{kind}")
    return errors


def _address_problem(address: str, address_type: str | None) -> str | None:
    if address_type == "FQDN":
        return dns_1123_subdomain(address)
    if address_type not in ADDRESS_TYPES:
        return None
    parsed = parsed_address(address)
    if parsed is None:
        return NO_ADDRESS
    if f"IPv{parsed.version}" != address_type:
        return f"must be an {address_type} address"
    return serving_address(address)


def _hint_errors(hints: list[JsonObject], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(hints) > MAX_HINTS:
        errors.append(too_many(path, len(hints), MAX_HINTS))
    names = [hint.get("name") for hint in hints]
    for i, name in enumerate(names):
        if not name:
            errors.append(required(f"{path}[{i}].name"))
        elif name in names[:i]:
            errors.append(duplicate(f"{path}[{i}].name", name))
    return errors


def _port_errors(ports: list[JsonObject]) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(ports) > MAX_PORTS:
        return [too_many("ports", len(ports), MAX_PORTS)]
    seen: set[str] = set()
    for i, port in enumerate(ports):
        path = f"ports[{i}]"
        name = port["name"]
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
        if name and (problem := dns_1123_label(name)):
            errors.append(invalid_value(f"{path}.name", name, problem))
        if port["protocol"] not in PROTOCOLS:
            errors.append(not_supported(f"{path}.protocol", port["protocol"], PROTOCOLS))
    return errors
