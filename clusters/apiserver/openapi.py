# SPDX-License-Identifier: Apache-2.0
"""/openapi/v3: enough of the API's own description for kubectl to validate by the server, and to explain fields.

kubectl asks it one question before it writes: does PATCH of this kind take the parameter `fieldValidation`? Schemas
are there for built-in kinds, by which fields they have (`fields`). There is no /openapi/v2: that document exists in
protobuf only, and kubectl does without.
https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3
"""

import hashlib
from collections.abc import Sequence

import orjson

from clusters.apiserver import fields, shapes
from clusters.apiserver.kinds import Registry, Resource
from clusters.apiserver.status import JsonObject, no_such_path

_WRITES = {"post": "post", "put": "put", "patch": "patch"}
_QUERY = ("dryRun", "fieldManager", "fieldValidation")
_PATCH_TYPES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")


def index(registry: Registry) -> JsonObject:
    """/openapi/v3: where the document of each group and version is."""
    versions = [("", "v1"), *((g, v) for g, found in registry.groups().items() for v in found)]
    return {"paths": {_root(*one): {"serverRelativeURL": _url(registry, *one)} for one in versions}}


def document(registry: Registry, group: str, version: str) -> JsonObject:
    """/openapi/v3/api/v1 and /openapi/v3/apis/<group>/<version>. ApiError 404 for one that is not served."""
    resources = registry.of(group, version)
    if not resources:
        raise no_such_path()
    paths: JsonObject = {}
    for resource in resources:
        paths |= _paths(resource)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": paths,
        "components": {"schemas": _schemas(resources)},
    }


def _root(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _url(registry: Registry, group: str, version: str) -> str:
    """With a hash of the content, as clients keep what they have read until the hash changes."""
    digest = hashlib.sha256(orjson.dumps(document(registry, group, version))).hexdigest()[:32]
    return f"/openapi/v3/{_root(group, version)}?hash={digest.upper()}"


def _paths(resource: Resource) -> JsonObject:
    inside = "/namespaces/{namespace}" if resource.namespaced else ""
    collection = f"/{_root(resource.group, resource.version)}{inside}/{resource.plural}"
    one = collection + "/{name}"
    paths: JsonObject = {
        collection: _operations(resource, ("get", "list"), ("post", "post"), ("delete", "deletecollection")),
        one: _operations(resource, ("get", "get"), ("put", "put"), ("patch", "patch"), ("delete", "delete")),
    }
    if resource.status_apart:
        paths[one + "/status"] = _operations(resource, ("get", "get"), ("put", "put"), ("patch", "patch"))
    return paths


def _operations(resource: Resource, *methods: tuple[str, str]) -> JsonObject:
    return {method: _operation(resource, method, action) for method, action in methods}


def _operation(resource: Resource, method: str, action: str) -> JsonObject:
    schema = {"schema": {"$ref": f"#/components/schemas/{_schema_name(resource)}"}}
    operation: JsonObject = {
        "responses": {"200": {"description": "OK", "content": {"application/json": schema}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _kind(resource),
    }
    if method in _WRITES:
        operation["parameters"] = [_parameter(name) for name in _QUERY]
        types = _PATCH_TYPES if method == "patch" else ("application/json",)
        operation["requestBody"] = {"content": dict.fromkeys(types, schema)}
    return operation


def _parameter(name: str) -> JsonObject:
    return {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}


def _kind(resource: Resource) -> JsonObject:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _schema_name(resource: Resource) -> str:
    return f"{resource.group or 'core'}.{resource.version}.{resource.kind}"


def _schemas(resources: Sequence[Resource]) -> JsonObject:
    """The schemas of resources, and of every type that their fields lead to."""
    schemas: JsonObject = {}
    for resource in resources:
        name = fields.type_of(resource.key)
        inside = _properties(name, schemas) if name else {one: {"type": "string"} for one in ("apiVersion", "kind")}
        schemas[_schema_name(resource)] = {
            "type": "object",
            "properties": {**inside, "metadata": _shape_schema(shapes.METADATA)},
            "x-kubernetes-group-version-kind": [_kind(resource)],
        }
    return schemas


def _properties(name: str, schemas: JsonObject) -> JsonObject:
    """The schemas of a named type's fields; the types that they refer to are added to `schemas`."""
    return {field: _field_schema(kind, schemas) for field, kind in fields.types()[name].items()}


def _field_schema(kind: str, schemas: JsonObject) -> JsonObject:
    if kind.startswith("["):
        return {"type": "array", "items": _field_schema(kind[1:-1], schemas)}
    if kind.startswith("{"):
        return {"type": "object", "additionalProperties": _field_schema(kind[1:-1], schemas)}
    if kind not in fields.types():
        return {"type": "object" if kind == "any" else kind}
    if kind not in schemas:
        schemas[kind] = {}  # known from here on, should it come to contain itself
        schemas[kind] = {"type": "object", "properties": _properties(kind, schemas)}
    return {"$ref": f"#/components/schemas/{kind}"}


def _shape_schema(shape: shapes.Shape) -> JsonObject:
    if isinstance(shape, list):
        return {"type": "array", "items": _shape_schema(shape[0])}
    if isinstance(shape, dict):
        if "*" in shape:
            return {"type": "object", "additionalProperties": _shape_schema(shape["*"])}
        return {"type": "object", "properties": {name: _shape_schema(inner) for name, inner in shape.items()}}
    return {"type": {str: "string", int: "integer", bool: "boolean", None: "object"}[shape]}
