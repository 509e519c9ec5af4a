# SPDX-License-Identifier: Apache-2.0
"""The three patch languages of the API, as pure functions from an object and a patch to a new object.

- JSON merge patch, RFC 7386
- JSON patch, RFC 6902
- strategic merge patch: merge patch that merges some lists by a key, with `$patch: delete|replace|merge`,
  `$retainKeys`, `$deleteFromPrimitiveList/<field>` and `$setElementOrder/<field>`
  (https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md)

Which lists merge is a property of the Go types (`patchMergeKey`). MERGE_KEYS holds those of the types that Service
dataplanes see; a list that is not in it is replaced, as upstream does with lists that declare no strategy.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from clusters.apiserver.status import ApiError, JsonObject, bad_request

MERGE_KEYS: Mapping[str, tuple[str, ...]] = {
    # Upstream declares `port` alone, and so cannot patch a port that two protocols share; with `protocol` as a
    # second key (used when the patch names it) such a patch hits the one it means.
    "Service:spec.ports": ("port", "protocol"),
    "*:status.conditions": ("type",),
    "Node:status.addresses": ("type",),
    "Pod:status.podIPs": ("ip",),
    "Pod:status.hostIPs": ("ip",),
    "Pod:spec.containers": ("name",),
    "*:metadata.ownerReferences": ("uid",),
}
"""Lists of objects that strategic merge patch merges: "<kind or *>:<path>" to the keys that identify an element."""

PRIMITIVE_SETS = frozenset({"*:metadata.finalizers", "Node:spec.podCIDRs"})
"""Lists of scalars that strategic merge patch unites instead of replacing."""


MAX_OPERATIONS = 10_000
COPIED_BYTES = 3 << 20


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: objects merge, null deletes, everything else replaces. `target` is not changed."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(target: JsonObject, operations: Any) -> Any:
    """RFC 6902. Raises ApiError 400 for what is no list, 422 for what cannot be applied (as a failed test).

    413 for more than MAX_OPERATIONS, or copies of more than COPIED_BYTES in all: each may double the document.
    """
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise _too_large(f"a JSON patch has at most {MAX_OPERATIONS} operations")
    document: Any = copy.deepcopy(target)
    copied = 0
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise _inapplicable("every operation of a JSON patch is an object with an op and a path")
        if operation.get("op") == "copy":
            copied += len(orjson.dumps(_resolve(document, _pointer(_member(operation, "from")))))
            if copied > COPIED_BYTES:
                raise _too_large(f"a JSON patch may copy at most {COPIED_BYTES} bytes")
        document = _apply_operation(document, operation)
    return document


def _apply_operation(document: Any, operation: JsonObject) -> Any:
    path = _pointer(operation["path"])
    match operation.get("op"):
        case "add":
            return _add(document, path, copy.deepcopy(_member(operation, "value")))
        case "remove":
            return _remove(document, path)
        case "replace":
            value = copy.deepcopy(_member(operation, "value"))
            return value if not path else _add(_remove(document, path), path, value)
        case "move":
            source = _pointer(_member(operation, "from"))
            moved = _resolve(document, source)
            return _add(_remove(document, source), path, moved)
        case "copy":
            return _add(document, path, copy.deepcopy(_resolve(document, _pointer(_member(operation, "from")))))
        case "test":
            if _resolve(document, path) != _member(operation, "value"):
                raise _inapplicable(f"testing value {operation['path']} failed")
            return document
        case other:
            raise _inapplicable(f"unknown JSON patch operation {other!r}")


def _member(operation: JsonObject, name: str) -> Any:
    if name not in operation:
        raise _inapplicable(f"the JSON patch operation {operation.get('op')!r} needs {name!r}")
    return operation[name]


def _pointer(text: Any) -> list[str]:
    """RFC 6901: "" is the whole document, "~1" is "/", "~0" is "~"."""
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise _inapplicable(f"{text!r} is not a JSON pointer")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _index(step: str, length: int) -> int:
    if not re.fullmatch("[0-9]{1,9}", step) or int(step) >= length:
        raise _inapplicable(f"index {step!r} is not in the list")
    return int(step)


def _resolve(document: Any, path: Sequence[str]) -> Any:
    for step in path:
        if isinstance(document, dict):
            if step not in document:
                raise _inapplicable(f"{step!r} does not exist")
            document = document[step]
        elif isinstance(document, list):
            document = document[_index(step, len(document))]
        else:
            raise _inapplicable(f"{step!r} is not inside an object or a list")
    return document


def _add(document: Any, path: Sequence[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _resolve(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent) + 1), value)
    else:
        raise _inapplicable(f"{last!r} cannot be added to a scalar")
    return document


def _remove(document: Any, path: Sequence[str]) -> Any:
    if not path:
        return None
    parent, last = _resolve(document, path[:-1]), path[-1]
    _resolve(parent, [last])
    del parent[_index(last, len(parent)) if isinstance(parent, list) else last]
    return document


def _too_large(why: str) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", why)


def _inapplicable(why: str) -> ApiError:
    message = f"the server rejected our request due to an error in our request: {why}"
    return ApiError(422, "Invalid", message)


def strategic_merge_patch(target: JsonObject, patch: Any, kind: str) -> JsonObject:
    """Merge `patch` into a copy of `target`, an object of `kind`. Raises ApiError 400 for a malformed patch."""
    if not isinstance(patch, dict):
        raise bad_request("a strategic merge patch is an object")
    return _strategic(target, patch, kind, "")


def _strategic(target: Any, patch: JsonObject, kind: str, path: str) -> JsonObject:
    directive = patch.get("$patch")
    if directive == "replace":
        replaced: JsonObject = _without_directives(patch)
        return replaced
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"{directive!r} is no $patch directive: use replace, delete or merge")
    merged = _retained(target, patch) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name, removed = key.partition("/")[2], _listed(value, key)
            merged[name] = [item for item in _listed(merged.get(name) or [], name) if item not in removed]
        elif not key.startswith("$"):
            where = f"{path}.{key}" if path else key
            if value is None:
                merged.pop(key, None)
            elif isinstance(value, dict):
                merged[key] = _strategic(merged.get(key), value, kind, where)
            elif isinstance(value, list):
                merged[key] = _strategic_list(_listed(merged.get(key) or [], where), value, kind, where)
            else:
                merged[key] = value
    for key, order in patch.items():
        if key.startswith("$setElementOrder/"):
            _reorder(merged, key.partition("/")[2], order, kind, path)
    return merged


def _retained(target: JsonObject, patch: JsonObject) -> JsonObject:
    """A copy of `target` with the fields that the patch says to keep, which are all unless it says so."""
    if "$retainKeys" not in patch:
        return dict(target)
    retained = _listed(patch["$retainKeys"], "$retainKeys")
    return {key: value for key, value in target.items() if key in retained}


def _listed(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise bad_request(f"{what} must be a list")
    return value


def _merge_keys(kind: str, path: str) -> tuple[str, ...] | None:
    return MERGE_KEYS.get(f"{kind}:{path}") or MERGE_KEYS.get(f"*:{path}")


def _strategic_list(target: list[Any], patch: list[Any], kind: str, path: str) -> list[Any]:
    if f"{kind}:{path}" in PRIMITIVE_SETS or f"*:{path}" in PRIMITIVE_SETS:
        return target + [item for item in patch if item not in target]
    keys = _merge_keys(kind, path)
    if keys is None:
        return copy.deepcopy(patch)
    if not all(isinstance(element, dict) for element in patch):
        raise bad_request(f"the patch of {path} must be a list of objects")
    replaces = any(element.get("$patch") == "replace" for element in patch)
    merged = [] if replaces else list(target)
    for element in patch:
        if element.get("$patch") == "replace":
            continue
        if keys[0] not in element:
            raise bad_request(f"map: {path} does not contain declared merge key: {keys[0]}")
        wanted = {key: element[key] for key in keys if key in element}
        at = next((i for i, known in enumerate(merged) if _identified(known, wanted)), None)
        if element.get("$patch") == "delete":
            merged = [known for known in merged if not _identified(known, wanted)]
        elif at is None:
            merged.append(_without_directives(element))
        else:
            merged[at] = _strategic(merged[at], element, kind, path + "[]")
    return merged


def _identified(element: Any, wanted: Mapping[str, Any]) -> bool:
    return isinstance(element, dict) and all(element.get(key) == value for key, value in wanted.items())


def _reorder(merged: JsonObject, name: str, order: Any, kind: str, path: str) -> None:
    """Sort the list `name` as `order` says; elements it does not mention keep their place behind."""
    elements = merged.get(name)
    if not isinstance(elements, list) or not isinstance(order, list):
        return
    keys = _merge_keys(kind, f"{path}.{name}" if path else name)
    ranked: dict[int, int] = {}
    for i, element in enumerate(elements):
        for rank, wanted in enumerate(order):
            named = {k: wanted[k] for k in keys if k in wanted} if keys and isinstance(wanted, dict) else None
            if _identified(element, named) if named else element == wanted:
                ranked[i] = rank
                break
    merged[name] = [elements[i] for i in sorted(range(len(elements)), key=lambda i: ranked.get(i, len(order)))]


def _without_directives(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_directives(v) for k, v in value.items() if not k.startswith("$") and v is not None}
    if isinstance(value, list):
        return [_without_directives(item) for item in value]
    return value
