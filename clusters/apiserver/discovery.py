# SPDX-License-Identifier: Apache-2.0
"""What a client learns before it knows a resource: versions, groups and the resources of each.

Both in the aggregated form that clients ask for first and, for those who do not know it (the Python DynamicClient),
document by document (https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api).
"""

from clusters.apiserver.kinds import Registry, Resource
from clusters.apiserver.status import JsonObject, no_such_path

SERVED_RELEASE = ("1", "37")
"""The Kubernetes minor release whose behaviour this server follows."""

_OBJECT_VERBS = ("get", "patch", "update")
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


def version() -> JsonObject:
    """/version."""
    major, minor = SERVED_RELEASE
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{major}.{minor}.0+plumbline",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }


def core_versions() -> JsonObject:
    """/api."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_list(registry: Registry) -> JsonObject:
    """/apis."""
    groups = [_group(name, versions) for name, versions in registry.groups().items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(registry: Registry, name: str) -> JsonObject:
    """/apis/<group>; ApiError 404 for one that is not served."""
    versions = registry.groups().get(name)
    if versions is None:
        raise no_such_path()
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def resource_list(registry: Registry, group_name: str, version_name: str) -> JsonObject:
    """/api/v1 and /apis/<group>/<version>; ApiError 404 for a version that is not served."""
    resources = registry.of(group_name, version_name)
    if not resources:
        raise no_such_path()
    entries = [entry for resource in resources for entry in _entries(resource)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": resources[0].api_version,
        "resources": entries,
    }


def aggregated(registry: Registry, *, core: bool) -> JsonObject:
    """/api or /apis in one document with every resource."""
    groups = {"": ["v1"]} if core else registry.groups()
    items = [
        {
            "metadata": {"name": name} if name else {},
            "versions": [
                {
                    "version": version,
                    "resources": [_aggregated_resource(one) for one in registry.of(name, version)],
                    "freshness": "Current",
                }
                for version in versions
            ],
        }
        for name, versions in groups.items()
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated_resource(resource: Resource) -> JsonObject:
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    described: JsonObject = {
        "resource": resource.plural,
        "responseKind": kind,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(_VERBS),
    }
    if resource.short_names:
        described["shortNames"] = list(resource.short_names)
    if resource.categories:
        described["categories"] = list(resource.categories)
    if resource.status_apart:
        described["subresources"] = [{"subresource": "status", "responseKind": kind, "verbs": list(_OBJECT_VERBS)}]
    return described


def _group(name: str, versions: list[str]) -> JsonObject:
    entries = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


def _entries(resource: Resource) -> list[JsonObject]:
    main: JsonObject = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(_VERBS),
    }
    if resource.short_names:
        main["shortNames"] = list(resource.short_names)
    if resource.categories:
        main["categories"] = list(resource.categories)
    if not resource.status_apart:
        return [main]
    status = {
        "name": f"{resource.plural}/status",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(_OBJECT_VERBS),
    }
    return [main, status]
