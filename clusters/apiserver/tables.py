# SPDX-License-Identifier: Apache-2.0
"""Objects as the rows people read: `meta.k8s.io/v1` Tables for the kinds a dataplane is looked at through.

kubectl prints what the server puts into the cells. Columns are upstream's for Services, EndpointSlices, Nodes and
Pods (pkg/printers/internalversion/printers.go); every other kind is answered as plain JSON, which kubectl prints as
NAME and AGE. https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

import time
from calendar import timegm
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import orjson

from clusters.apiserver.kinds import Resource
from clusters.apiserver.negotiation import Form
from clusters.apiserver.status import JsonObject, bad_request

IncludeObject: TypeAlias = Literal["None", "Metadata", "Object"]
NONE = "<none>"
UNSET = "<unset>"
WIDE_ADDRESSES = 3
"""How many endpoint addresses or ports a cell names before it counts the rest."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, how a cell is read from an object, and 1 if only `-o wide` shows it."""

    name: str
    cell: Callable[[JsonObject], Any]
    priority: int = 0
    format: str = ""
    type: str = "string"

    def definition(self) -> JsonObject:
        described = {"name": self.name, "type": self.type, "format": self.format}
        return described | {"description": "", "priority": self.priority}


def age(obj: JsonObject) -> str:
    """How long ago the object was created, as kubectl shortens it: 5s, 3m12s, 4h7m, 2d."""
    created = obj["metadata"].get("creationTimestamp")
    if not created:
        return "<unknown>"
    return duration(int(time.time()) - timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ")))


def duration(seconds: int) -> str:
    """Seconds with two units at most (k8s.io/apimachinery/pkg/util/duration)."""
    seconds = max(seconds, 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m" + (f"{seconds % 60}s" if seconds % 60 else "")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h" + (f"{minutes % 60}m" if minutes % 60 else "")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d" + (f"{hours % 24}h" if hours % 24 else "")
    return f"{days}d" if days < 730 else f"{days // 365}y"


def _name(obj: JsonObject) -> str:
    return str(obj["metadata"]["name"])


def _pairs(mapping: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((mapping or {}).items())) or NONE


def _spec(obj: JsonObject) -> JsonObject:
    return obj.get("spec") or {}


def _status(obj: JsonObject) -> JsonObject:
    return obj.get("status") or {}


def _ingress(service: JsonObject) -> list[str]:
    balancer = _status(service).get("loadBalancer") or {}
    return [one.get("ip") or one.get("hostname") or "" for one in balancer.get("ingress") or ()]


def _external_ip(service: JsonObject) -> str:
    spec = _spec(service)
    outside = list(spec.get("externalIPs") or ())
    match spec.get("type"):
        case "ExternalName":
            return spec.get("externalName") or NONE
        case "LoadBalancer":
            return ",".join(_ingress(service) + outside) or "<pending>"
    return ",".join(outside) or NONE


def _service_port(port: JsonObject) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}"


def _service_ports(service: JsonObject) -> str:
    return ",".join(map(_service_port, _spec(service).get("ports") or ())) or NONE


def _some(items: Sequence[str], nothing: str) -> str:
    if not items:
        return nothing
    more = f" + {len(items) - WIDE_ADDRESSES} more..." if len(items) > WIDE_ADDRESSES else ""
    return ",".join(items[:WIDE_ADDRESSES]) + more


def _slice_ports(obj: JsonObject) -> str:
    return _some([str(port.get("port", "*")) for port in obj.get("ports") or ()], UNSET)


def _slice_addresses(obj: JsonObject) -> str:
    return _some([ip for endpoint in obj.get("endpoints") or () for ip in endpoint.get("addresses") or ()], UNSET)


def _node_status(node: JsonObject) -> str:
    conditions = {one["type"]: one.get("status") for one in _status(node).get("conditions") or () if "type" in one}
    ready = {"True": "Ready", "False": "NotReady"}.get(conditions.get("Ready") or "", "Unknown")
    return ready + (",SchedulingDisabled" if _spec(node).get("unschedulable") else "")


def _node_roles(node: JsonObject) -> str:
    prefix = "node-role.kubernetes.io/"
    labels: Mapping[str, str] = node["metadata"].get("labels") or {}
    return ",".join(sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix))) or NONE


def _node_address(kind: str) -> Callable[[JsonObject], str]:
    def cell(node: JsonObject) -> str:
        addresses = _status(node).get("addresses") or ()
        return next((one["address"] for one in addresses if one.get("type") == kind), NONE)

    return cell


def _node_info(field: str, nothing: str) -> Callable[[JsonObject], str]:
    return lambda node: (_status(node).get("nodeInfo") or {}).get(field) or nothing


def _pod_ready(pod: JsonObject) -> str:
    states = _status(pod).get("containerStatuses") or ()
    return f"{sum(bool(one.get('ready')) for one in states)}/{len(_spec(pod).get('containers') or ())}"


def _pod_status(pod: JsonObject) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = _status(pod)
    return status.get("reason") or status.get("phase") or "Unknown"


def _restarts(pod: JsonObject) -> str:
    return str(sum(one.get("restartCount", 0) for one in _status(pod).get("containerStatuses") or ()))


def _pod_ip(pod: JsonObject) -> str:
    ips = _status(pod).get("podIPs") or ()
    return (ips[0].get("ip") if ips else _status(pod).get("podIP")) or NONE


_NAME, _AGE = Column("Name", _name, format="name"), Column("Age", age)

_COLUMNS: dict[tuple[str, str, str], tuple[Column, ...]] = {
    ("", "v1", "services"): (
        _NAME,
        Column("Type", lambda o: _spec(o).get("type", NONE)),
        Column("Cluster-IP", lambda o: _spec(o).get("clusterIP") or NONE),
        Column("External-IP", _external_ip),
        Column("Port(s)", _service_ports),
        _AGE,
        Column("Selector", lambda o: _pairs(_spec(o).get("selector")), 1),
    ),
    ("discovery.k8s.io", "v1", "endpointslices"): (
        _NAME,
        Column("AddressType", lambda o: o.get("addressType", NONE)),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_addresses),
        _AGE,
    ),
    ("", "v1", "nodes"): (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", _node_roles),
        _AGE,
        Column("Version", _node_info("kubeletVersion", "")),
        Column("Internal-IP", _node_address("InternalIP"), 1),
        Column("External-IP", _node_address("ExternalIP"), 1),
        Column("OS-Image", _node_info("osImage", "<unknown>"), 1),
        Column("Kernel-Version", _node_info("kernelVersion", "<unknown>"), 1),
        Column("Container-Runtime", _node_info("containerRuntimeVersion", "<unknown>"), 1),
    ),
    ("", "v1", "pods"): (
        _NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _restarts),
        _AGE,
        Column("IP", _pod_ip, 1),
        Column("Node", lambda o: _spec(o).get("nodeName") or NONE, 1),
        Column("Nominated Node", lambda o: _status(o).get("nominatedNodeName") or NONE, 1),
        Column("Readiness Gates", lambda _: NONE, 1),
    ),
}


def include_object(query: Mapping[str, str]) -> IncludeObject:
    """How much of each object goes along with its row. Raises ApiError 400 for another word."""
    match query.get("includeObject", "") or "Metadata":
        case "None":
            return "None"
        case "Metadata":
            return "Metadata"
        case "Object":
            return "Object"
        case other:
            raise bad_request(f"includeObject must be None, Metadata or Object, not {other!r}")


def partial_metadata(obj: JsonObject) -> JsonObject:
    """An object reduced to its metadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def partial_metadata_list(listed: JsonObject) -> JsonObject:
    items = [partial_metadata(item) for item in listed["items"]]
    head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": listed["metadata"]}
    return head | {"items": items}


def table(
    resource: Resource, objects: Iterable[JsonObject], metadata: JsonObject, include: IncludeObject
) -> JsonObject:
    """Objects of `resource`, which must have columns, as one Table."""
    columns = _COLUMNS[resource.key]
    rows: list[JsonObject] = []
    for obj in objects:
        row: JsonObject = {"cells": [column.cell(obj) for column in columns]}
        if include != "None":
            row["object"] = obj if include == "Object" else partial_metadata(obj)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [column.definition() for column in columns],
        "rows": rows,
    }


def as_form(resource: Resource, form: Form, answer: bytes, include: IncludeObject) -> bytes:
    """An encoded object or list in the form its reader chose."""
    decoded: JsonObject = orjson.loads(answer)
    # Only a list has items and no name; a delete may also have answered with a Status.
    is_list = decoded["kind"] == resource.list_kind
    if not is_list and decoded["kind"] != resource.kind:
        return answer
    if form == "metadata":
        return orjson.dumps(partial_metadata_list(decoded) if is_list else partial_metadata(decoded))
    if is_list:
        return orjson.dumps(table(resource, decoded["items"], decoded["metadata"], include))
    revision: JsonObject = {"resourceVersion": decoded["metadata"].get("resourceVersion", "")}
    return orjson.dumps(table(resource, [decoded], revision, include))


class Presenter:
    """One watch's events in the form its reader chose; a Table's columns are defined in its first event only."""

    def __init__(self, resource: Resource, form: Form, include: IncludeObject) -> None:
        self._resource = resource
        self._form = form
        self._include = include
        self._defined = False

    def frames(self, chunk: bytes) -> bytes:
        """Whole frames, each event's object replaced."""
        return b"".join(map(self._frame, chunk.splitlines(keepends=True)))

    def _frame(self, line: bytes) -> bytes:
        event: JsonObject = orjson.loads(line)
        if event["type"] == "ERROR":
            return line
        obj: JsonObject = event["object"]
        event["object"] = partial_metadata(obj) if self._form == "metadata" else self._table(event["type"], obj)
        return orjson.dumps(event) + b"\n"

    def _table(self, kind: str, obj: JsonObject) -> JsonObject:
        metadata = {"resourceVersion": obj["metadata"]["resourceVersion"]}
        shown = table(self._resource, [] if kind == "BOOKMARK" else [obj], metadata, self._include)
        if kind == "BOOKMARK":
            # Whether the initial events are over is said by the metadata of the row's object.
            blank = [""] * len(shown["columnDefinitions"])
            shown["rows"] = [{"cells": blank, "object": partial_metadata(obj)}]
        if self._defined:
            shown["columnDefinitions"] = None
        self._defined = True
        return shown
