# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.apiserver.fields`: writes clusters/apiserver/fields.json, the fields of every built-in kind.

They are read from the models of the `kubernetes` package, which are generated from the API itself. The server keeps
them as data because importing those models takes longer than everything else it does to start; a test holds the two
together.
"""

import re
from typing import Any

import orjson
from kubernetes.client import models

from clusters.apiserver.fields import DATA
from clusters.apiserver.kinds import Resource, builtin_resources

_PLAIN = {
    "str": "string",
    "bytes": "string",
    "datetime": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "object": "any",
}
# A schema contains schemas, and metadata has a shape of its own.
_OPAQUE = {"JSONSchemaProps", "ObjectMeta"}


def model_of(resource: Resource) -> str:
    """The name of the model of a resource's objects; only Events have two of one version."""
    if resource.kind == "Event":
        return "EventsV1Event" if resource.group else "CoreV1Event"
    return f"V1{resource.kind}"


def generate() -> bytes:
    """The file's content: the type of each resource, and the fields of each type."""
    types: dict[str, dict[str, str]] = {}
    resources = {"/".join(one.key): _learn(model_of(one), types) for one in builtin_resources()}
    return orjson.dumps({"resources": resources, "types": types}, option=orjson.OPT_INDENT_2) + b"\n"


def _learn(model: str, types: dict[str, dict[str, str]]) -> str:
    """Add a model, and all that it refers to, under its own name; that name."""
    name = model.removeprefix("V1")
    if name not in types:
        described: Any = getattr(models, model)
        fields = types[name] = {}
        for attribute, kind in sorted(described.openapi_types.items()):
            fields[described.attribute_map[attribute]] = _told(kind, types)
    return name


def _told(kind: str, types: dict[str, dict[str, str]]) -> str:
    if found := re.fullmatch(r"[Ll]ist\[(.*)\]", kind):
        return f"[{_told(found[1], types)}]"
    if found := re.fullmatch(r"[Dd]ict[\[(]str, (.*)[\])]", kind):
        return f"{{{_told(found[1], types)}}}"
    if kind in _PLAIN:
        return _PLAIN[kind]
    return "any" if kind.removeprefix("V1") in _OPAQUE else _learn(kind, types)


if __name__ == "__main__":
    DATA.write_bytes(generate())
