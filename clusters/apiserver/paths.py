# SPDX-License-Identifier: Apache-2.0
"""Resource paths, and what is asked of what they name."""

from dataclasses import dataclass

from clusters.apiserver.status import no_such_path


@dataclass(frozen=True, slots=True)
class Target:
    """What a resource path names. `namespace` is None in paths without one."""

    group: str
    version: str
    plural: str
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None


def parse_target(group: str, version: str, rest: list[str]) -> Target:
    """The part of a path behind group and version; ApiError 404 for a path that can name nothing."""
    if not all(rest):
        raise no_such_path()
    namespace: str | None = None
    inside = len(rest) >= 3 and rest[0] == "namespaces"
    if inside and not (group == "" and len(rest) == 3 and rest[2] in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        raise no_such_path()
    plural, name, subresource = (*rest, None, None)[:3]
    assert plural is not None
    return Target(group, version, plural, namespace, name, subresource)


def verb(method: str, *, named: bool, watches: bool) -> str:
    """A request's verb in the API's own words."""
    match method:
        case "GET" if named:
            return "get"
        case "GET":
            return "watch" if watches else "list"
        case "DELETE":
            return "delete" if named else "deletecollection"
    return {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(method, method.lower())
