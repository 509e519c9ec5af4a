# SPDX-License-Identifier: Apache-2.0
"""Which path answers with which of the server's descriptions of itself."""

from clusters.apiserver import discovery, openapi
from clusters.apiserver.kinds import Registry
from clusters.apiserver.status import JsonObject

AGGREGATED = (["api"], ["apis"])
"""Paths whose document can also be had in the aggregated form."""


def document(registry: Registry, path: list[str], *, aggregated: bool) -> JsonObject | None:
    """The document at a path, split at its slashes; None for other paths. ApiError 404 for what is not served."""
    match path:
        case ["version"]:
            return discovery.version()
        case ["api"]:
            return discovery.aggregated(registry, core=True) if aggregated else discovery.core_versions()
        case ["apis"]:
            return discovery.aggregated(registry, core=False) if aggregated else discovery.group_list(registry)
        case ["apis", group]:
            return discovery.group(registry, group)
        case ["api", version]:
            return discovery.resource_list(registry, "", version)
        case ["apis", group, version]:
            return discovery.resource_list(registry, group, version)
        case ["openapi", "v3"]:
            return openapi.index(registry)
        case ["openapi", "v3", "api", version]:
            return openapi.document(registry, "", version)
        case ["openapi", "v3", "apis", group, version]:
            return openapi.document(registry, group, version)
    return None
