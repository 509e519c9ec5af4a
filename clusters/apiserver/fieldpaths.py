# SPDX-License-Identifier: Apache-2.0
"""Fields of objects as sets of paths: the currency of field ownership, and its FieldsV1 encoding.

A path is a tuple of steps in FieldsV1's own spelling: `f:<name>` a field, `k:{…}` the element of a list that is a
map by those keys, `v:…` the element of a list that is a set. How lists merge is a property of the Go types
(`+listType`, `+listMapKey`, `+mapType`); the tables hold those that Service dataplanes see, and a list in none of
them is atomic, as upstream treats lists without a marker.
https://kubernetes.io/docs/reference/using-api/server-side-apply/ and sigs.k8s.io/structured-merge-diff.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import orjson

from clusters.apiserver.status import ApiError, JsonObject

Path: TypeAlias = tuple[str, ...]
Paths: TypeAlias = frozenset[Path]

LIST_MAPS: Mapping[str, tuple[str, ...]] = {
    "Service:spec.ports": ("port", "protocol"),
    "*:status.conditions": ("type",),
    "*:metadata.ownerReferences": ("uid",),
    "Node:status.addresses": ("type",),
    "Pod:spec.containers": ("name",),
    "Pod:spec.initContainers": ("name",),
    "Pod:spec.volumes": ("name",),
    "Pod:spec.containers[].ports": ("containerPort", "protocol"),
    "Pod:spec.containers[].env": ("name",),
    "Pod:spec.containers[].volumeMounts": ("mountPath",),
    "Pod:status.podIPs": ("ip",),
    "Pod:status.hostIPs": ("ip",),
    "ServiceAccount:secrets": ("name",),
}
"""Lists whose elements are identified by keys: "<kind or *>:<path>" to those keys."""

LIST_SETS = frozenset({"*:metadata.finalizers", "Node:spec.podCIDRs"})
"""Lists of scalars of which every element has its own owners."""

ATOMIC_MAPS = frozenset({"Service:spec.selector", "Pod:spec.nodeSelector"})
"""Objects that are owned and replaced as a whole."""

KEY_DEFAULTS: Mapping[str, str] = {"protocol": "TCP"}
"""What a key that an element leaves out stands for."""

_UNTRACKED = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "name",
                "namespace",
                "generateName",
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "selfLink",
                "managedFields",
            )
        ),
    }
)
"""Fields nobody owns."""


def _known(kind: str, where: str) -> tuple[str, ...] | None:
    return LIST_MAPS.get(f"{kind}:{where}") or LIST_MAPS.get(f"*:{where}")


def _is_set(kind: str, where: str) -> bool:
    return f"{kind}:{where}" in LIST_SETS or f"*:{where}" in LIST_SETS


def list_steps(kind: str, where: str, value: list[Any]) -> list[str] | None:
    """The step of each element of a list that is not atomic, else None. `where` is its dotted path.

    Raises ApiError 500, as upstream does, where two elements are the same or one cannot be told.
    """
    steps: list[str]
    if keys := _known(kind, where):
        steps = [_key_step(keys, element, where) for element in value]
    elif _is_set(kind, where):
        steps = [f"v:{orjson.dumps(element).decode()}" for element in value]
    else:
        return None
    for i, step in enumerate(steps):
        if step in steps[:i]:
            raise untyped(where, f"duplicate entries for key {_show_step(step)}")
    return steps


def _key_step(keys: tuple[str, ...], element: Any, where: str) -> str:
    if not isinstance(element, dict):
        raise untyped(where, "associative list with keys has an element that is not an object")
    found: JsonObject = {}
    for key in sorted(keys):
        value = element.get(key, KEY_DEFAULTS.get(key))
        if value is None:
            raise untyped(where, f'element omits key field "{key}" (and doesn\'t have default value)')
        found[key] = value
    return f"k:{orjson.dumps(found).decode()}"


def untyped(where: str, why: str) -> ApiError:
    """500: an applied object that its schema cannot hold."""
    return ApiError(500, "", f"failed to create typed patch object: .{where}: {why}")


def is_atomic(kind: str, where: str, value: Any) -> bool:
    """Whether a value is owned as a whole: scalars, lists without keys, maps declared so."""
    if isinstance(value, dict):
        return f"{kind}:{where}" in ATOMIC_MAPS or f"*:{where}" in ATOMIC_MAPS
    return not (isinstance(value, list) and (_known(kind, where) or _is_set(kind, where)))


def nodes(kind: str, obj: JsonObject) -> dict[Path, Any]:
    """Every path of an object that can be owned. Leaves carry their value, containers and list elements `...`."""
    return dict(_nodes(kind, obj, (), ""))


def _nodes(kind: str, value: Any, path: Path, where: str) -> Iterator[tuple[Path, Any]]:
    if path in _UNTRACKED:
        return
    if is_atomic(kind, where, value) or (path and not value):
        yield path, value
    elif isinstance(value, dict):
        if path:
            yield path, ...
        for name, inner in value.items():
            yield from _nodes(kind, inner, (*path, f"f:{name}"), f"{where}.{name}" if where else name)
    else:
        yield path, ...
        for step, element in zip(list_steps(kind, where, value) or (), value, strict=True):
            yield (*path, step), ...
            if isinstance(element, dict):
                for name, inner in element.items():
                    yield from _nodes(kind, inner, (*path, step, f"f:{name}"), f"{where}[].{name}")


def owned_by_config(kind: str, config: JsonObject) -> Paths:
    """What applying `config` claims: its leaves, and every list element it names."""
    return frozenset(
        path for path, value in nodes(kind, config).items() if value is not ... or not path[-1].startswith("f:")
    )


def has_below(paths: Iterable[Path], path: Path) -> bool:
    """Whether `path` or anything inside it is among `paths`."""
    return any(one[: len(path)] == path for one in paths)


def encode(paths: Iterable[Path]) -> JsonObject:
    """FieldsV1: a tree of steps, with "." where a path with more inside it is itself a member."""
    tree: JsonObject = {}
    for path in sorted(paths):
        at = tree
        for step in path:
            at = at.setdefault(step, {})
        at["."] = {}
    return _without_lone_dots(tree)


def _without_lone_dots(tree: JsonObject) -> JsonObject:
    if set(tree) == {"."}:
        return {}
    return {step: {} if step == "." else _without_lone_dots(inner) for step, inner in tree.items()}


def decode(tree: Any) -> Paths:
    """The paths of a FieldsV1 tree; raises ValueError for what is none."""
    return frozenset(_decode(tree, ()))


def _decode(tree: Any, path: Path) -> Iterator[Path]:
    if not isinstance(tree, dict):
        raise ValueError("FieldsV1 is a tree of objects")
    if path and (not tree or "." in tree):
        yield path
    for step, inner in tree.items():
        if step != ".":
            yield from _decode(inner, (*path, step))


def show(path: Path) -> str:
    """A path as messages show it: `.spec.ports[port=80,protocol="TCP"].name`."""
    return "".join(map(_show_step, path))


def _show_step(step: str) -> str:
    kind, _, rest = step.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "v":
        return f"[={rest}]"
    keys: JsonObject = orjson.loads(rest)
    return "[" + ",".join(f"{key}={orjson.dumps(value).decode()}" for key, value in keys.items()) + "]"
