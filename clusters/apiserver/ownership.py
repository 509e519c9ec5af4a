# SPDX-License-Identifier: Apache-2.0
"""Who owns which field: managedFields, and server-side apply with its conflicts.

Real ownership, kept from an object's first apply on. Until then nothing is recorded (no managedFields), which keeps
ordinary writes as cheap as they are; what was there before the first apply then belongs to the manager
`before-first-apply`, as upstream's own fallback has it (fieldmanager/skipnonapplied.go). From there on every write is
tracked: an apply that would change what another manager owns is refused with 409 and one cause per field, `force`
takes the fields over, and what a manager applied before and leaves out now is removed unless somebody else owns it.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from clusters.apiserver.fieldpaths import (
    LIST_MAPS,
    Path,
    Paths,
    decode,
    encode,
    has_below,
    is_atomic,
    list_steps,
    nodes,
    owned_by_config,
    show,
)
from clusters.apiserver.status import ApiError, JsonObject

BEFORE_FIRST_APPLY = "before-first-apply"

Operation: TypeAlias = Literal["Apply", "Update"]


@dataclass(frozen=True, slots=True)
class Manager:
    """One owner of fields: a name, how it writes, and through which subresource."""

    name: str
    operation: Operation = "Update"
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a manager owns since when, in the words of which version of the API."""

    paths: Paths
    api_version: str
    time: str | None = None


Claims: TypeAlias = dict[Manager, Claim]


def read_claims(obj: JsonObject) -> Claims:
    """The claims an object carries; what cannot be read claims nothing."""
    claims: Claims = {}
    for entry in obj["metadata"].get("managedFields") or ():
        try:
            operation = "Apply" if entry["operation"] == "Apply" else "Update"
            manager = Manager(entry.get("manager", ""), operation, entry.get("subresource", ""))  # type: ignore[arg-type]
            claims[manager] = Claim(decode(entry["fieldsV1"]), entry["apiVersion"], entry.get("time"))
        except (KeyError, TypeError, ValueError):
            continue
    return claims


def write_claims(obj: JsonObject, claims: Claims) -> None:
    """Put the claims into the object's metadata, applied ones first, then by time; empty ones are dropped."""
    kept = [(manager, claim) for manager, claim in claims.items() if claim.paths]
    kept.sort(key=lambda one: (one[0].operation, one[1].time or "", one[0].name, one[0].subresource))
    entries = [_entry(manager, claim) for manager, claim in kept]
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


def _entry(manager: Manager, claim: Claim) -> JsonObject:
    entry: JsonObject = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": claim.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": encode(claim.paths),
    }
    if claim.time:
        entry["time"] = claim.time
    if manager.subresource:
        entry["subresource"] = manager.subresource
    return entry


def settle_managed_fields(obj: JsonObject, before: JsonObject) -> None:
    """What a plain write may say about managedFields: nothing (they stay), an empty list (forget them), or others."""
    given = obj["metadata"].get("managedFields")
    if given is None:
        if "managedFields" in before["metadata"]:
            obj["metadata"]["managedFields"] = before["metadata"]["managedFields"]
    elif given in ([], [{}]):
        del obj["metadata"]["managedFields"]
    elif not read_claims(obj):
        obj["metadata"]["managedFields"] = before["metadata"].get("managedFields")


def track_update(obj: JsonObject, before: JsonObject, manager: Manager, now: str) -> None:
    """Record in a changed object who changed what, if it is tracked at all."""
    if not obj["metadata"].get("managedFields"):
        return
    claims = read_claims(obj)
    was, now_there = nodes(obj["kind"], before), nodes(obj["kind"], obj)
    removed = was.keys() - now_there.keys()
    changed = {path for path, value in now_there.items() if path not in was or _differs(was[path], value)}
    # The top level (spec, status) is always there: nobody owns it as such.
    changed = {path for path in changed if len(path) > 1 or now_there[path] is not ...}
    if not changed and not removed:
        return
    mine = claims.get(manager, Claim(frozenset(), obj["apiVersion"]))
    for other, claim in claims.items():
        claims[other] = replace(claim, paths=claim.paths - changed - removed)
    claims[manager] = Claim(frozenset(mine.paths - removed | changed), obj["apiVersion"], now)
    write_claims(obj, claims)


def first_claims(config: JsonObject, manager: Manager, now: str) -> Claims:
    """The claims of an object that its first apply creates."""
    return {manager: Claim(owned_by_config(config["kind"], config), config["apiVersion"], now)}


def apply(
    live: JsonObject, config: JsonObject, manager: Manager, now: str, *, force: bool
) -> tuple[JsonObject, Claims]:
    """`live` with `config` applied to it, and who owns what then.

    Raises ApiError 409 where another manager owns a field that would change and `force` does not say to take it.
    """
    kind = live["kind"]
    claims = read_claims(live) or {Manager(BEFORE_FIRST_APPLY): Claim(_from_before(live), live["apiVersion"], None)}
    last = claims.pop(manager, None)
    wanted = owned_by_config(kind, config)
    merged: JsonObject = _merge(kind, live, config, "")
    was, then = nodes(kind, live), nodes(kind, merged)
    changed = {path for path, value in then.items() if path not in was or _differs(was[path], value)}
    conflicts = [(other, path) for other, claim in claims.items() for path in sorted(claim.paths & changed)]
    if conflicts and not force:
        raise _conflict_error(conflicts, claims)
    for other, path in conflicts:
        claims[other] = replace(claims[other], paths=claims[other].paths - {path})
    if last is not None:
        others = [claim.paths for claim in claims.values()]
        for path in sorted(last.paths - wanted):
            if not has_below(wanted, path) and not any(has_below(paths, path) for paths in others):
                _remove(kind, merged, path)
    same = last is not None and last.paths == wanted and not changed
    claims[manager] = Claim(wanted, live["apiVersion"], last.time if last is not None and same else now)
    return merged, claims


def _from_before(live: JsonObject) -> Paths:
    """What an object without claims holds, but for the empty status that a server gives it."""
    empty = {path for path, value in nodes(live["kind"], live).items() if path[0] == "f:status" and value == {}}
    return owned_by_config(live["kind"], live) - empty


def _differs(one: Any, other: Any) -> bool:
    if one is ... or other is ...:
        return (one is ...) != (other is ...)
    return type(one) is not type(other) or one != other


def _merge(kind: str, live: Any, config: Any, where: str) -> Any:
    """`config` laid over `live`: maps and keyed lists merge, everything else is replaced."""
    if is_atomic(kind, where, config) or type(live) is not type(config):
        return copy.deepcopy(config)
    if isinstance(config, dict):
        merged = dict(live)
        for name, value in config.items():
            merged[name] = _merge(kind, live.get(name), value, f"{where}.{name}" if where else name)
        return merged
    steps, known = list_steps(kind, where, config) or [], list_steps(kind, where, live) or []
    elements = dict(zip(known, live, strict=True))
    for step, element in zip(steps, config, strict=True):
        elements[step] = _merge(kind, elements.get(step), element, f"{where}[]")
    return list(elements.values())


def _remove(kind: str, obj: JsonObject, path: Path) -> None:
    """Take the value at `path` out, and containers that are empty for it; keys of a list element stay with it."""
    trail: list[tuple[Any, Any]] = []
    at: Any = obj
    where = ""
    for step in path:
        if step.startswith("f:"):
            key: Any = step[2:]
            if not isinstance(at, dict) or key not in at or key in LIST_MAPS.get(f"{kind}:{where[:-2]}", ()):
                return
            where = f"{where}.{key}" if where else key
        else:
            steps = list_steps(kind, where, at) if isinstance(at, list) else None
            if not steps or step not in steps:
                return
            key = steps.index(step)
            where += "[]"
        trail.append((at, key))
        at = at[key]
    for container, key in reversed(trail):
        # What is shared with the live object must stay as it is there; only the way down was copied by the merge.
        del container[key]
        if container or container is obj:
            return


def _conflict_error(conflicts: Sequence[tuple[Manager, Path]], claims: Mapping[Manager, Claim]) -> ApiError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {_show_manager(manager, claims[manager])}",
            "field": show(path),
        }
        for manager, path in conflicts
    ]
    if len(conflicts) == 1:
        told = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        lines = _conflict_lines(conflicts, claims)
        told = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", told, {"causes": causes})


def _conflict_lines(conflicts: Iterable[tuple[Manager, Path]], claims: Mapping[Manager, Claim]) -> list[str]:
    lines: list[str] = []
    for manager in claims:
        fields = [f"- {show(path)}" for owner, path in conflicts if owner == manager]
        if fields:
            lines += [f"conflicts with {_show_manager(manager, claims[manager])}:", *fields]
    return lines


def _show_manager(manager: Manager, claim: Claim) -> str:
    shown = f'"{manager.name}"'
    if manager.subresource:
        shown += f' with subresource "{manager.subresource}"'
    if manager.operation == "Update":
        shown += f" using {claim.api_version}" + (f" at {claim.time}" if claim.time else "")
    return shown
