# SPDX-License-Identifier: Apache-2.0
"""Which resources exist: the built-in table, and those learnt from CustomResourceDefinitions or a first POST.

A resource is one (group, version, plural). Versions of one group are stored apart: there is no conversion, so an
object posted as `discovery.k8s.io/v1` is not seen under `v1beta1`.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resource:
    """One served resource.

    - `status_apart`: a write to the main path leaves `.status` alone, only `/status` changes it.
    - `returns_deleted`: DELETE answers with the object, not with a Status.
    - `indexed`: dotted field paths kept beside each object, so that field selectors need not decode it.
    - `keep_at_most`: a ring of that many objects (events).
    - `builtin`: its schema is typed, so `null` in a body means absent.
    - `categories`: what `kubectl get all` and its like expand to.
    - `printed`: it can be had as a Table (see `tables`).
    - `selectable`: fields that field selectors may name besides name and namespace; None for any.
    - `learnt`: nobody defined it, an object of it was simply posted.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    status_apart: bool = False
    returns_deleted: bool = False
    indexed: tuple[str, ...] = ()
    keep_at_most: int | None = None
    builtin: bool = True
    categories: tuple[str, ...] = ()
    printed: bool = False
    selectable: tuple[str, ...] | None = ()
    learnt: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def list_kind(self) -> str:
        return self.kind + "List"

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.group, self.version, self.plural)


EVENTS_KEPT = 1000
"""Events are notes for people; a long session must not collect them without bound."""

_POD_FIELDS = (
    *(f"spec.{field}" for field in ("hostNetwork", "nodeName", "restartPolicy", "schedulerName")),
    "spec.serviceAccountName",
    *(f"status.{field}" for field in ("nominatedNodeName", "phase", "podIP", "podIPs")),
)
_REFERENCE = ("apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid")
_EVENT_FIELDS = (
    *(f"involvedObject.{field}" for field in _REFERENCE),
    "reason",
    "reportingComponent",
    "source",
    "type",
)
_NEW_EVENT_FIELDS = (*(f"regarding.{field}" for field in _REFERENCE), "reason", "reportingController", "type")


def builtin_resources() -> tuple[Resource, ...]:
    """The resources of a Kubernetes control plane that dataplanes and their tools touch."""
    net, crd = "networking.k8s.io", "apiextensions.k8s.io"
    return (
        Resource(
            "",
            "v1",
            "namespaces",
            "Namespace",
            namespaced=False,
            short_names=("ns",),
            status_apart=True,
            selectable=("status.phase",),
        ),
        Resource(
            "",
            "v1",
            "nodes",
            "Node",
            namespaced=False,
            short_names=("no",),
            status_apart=True,
            printed=True,
            selectable=("spec.unschedulable",),
        ),
        Resource(
            "",
            "v1",
            "services",
            "Service",
            short_names=("svc",),
            status_apart=True,
            returns_deleted=True,
            indexed=("spec.clusterIP", "spec.type"),
            categories=("all",),
            printed=True,
            selectable=("spec.clusterIP", "spec.type"),
        ),
        Resource("", "v1", "endpoints", "Endpoints", short_names=("ep",)),
        Resource(
            "",
            "v1",
            "pods",
            "Pod",
            short_names=("po",),
            status_apart=True,
            returns_deleted=True,
            indexed=("spec.nodeName", "status.phase"),
            categories=("all",),
            printed=True,
            selectable=_POD_FIELDS,
        ),
        Resource("", "v1", "configmaps", "ConfigMap", short_names=("cm",)),
        Resource("", "v1", "secrets", "Secret", selectable=("type",)),
        Resource("", "v1", "serviceaccounts", "ServiceAccount", short_names=("sa",), returns_deleted=True),
        Resource(
            "", "v1", "events", "Event", short_names=("ev",), keep_at_most=EVENTS_KEPT, selectable=_EVENT_FIELDS
        ),
        Resource(
            "events.k8s.io",
            "v1",
            "events",
            "Event",
            short_names=("ev",),
            keep_at_most=EVENTS_KEPT,
            selectable=_NEW_EVENT_FIELDS,
        ),
        Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", printed=True),
        Resource(net, "v1", "servicecidrs", "ServiceCIDR", namespaced=False, status_apart=True),
        Resource(net, "v1", "ipaddresses", "IPAddress", namespaced=False, short_names=("ip",)),
        Resource(net, "v1", "networkpolicies", "NetworkPolicy", short_names=("netpol",)),
        Resource(net, "v1", "ingresses", "Ingress", short_names=("ing",), status_apart=True),
        Resource(net, "v1", "ingressclasses", "IngressClass", namespaced=False),
        Resource(
            "apps", "v1", "deployments", "Deployment", short_names=("deploy",), status_apart=True, categories=("all",)
        ),
        Resource(
            "apps", "v1", "daemonsets", "DaemonSet", short_names=("ds",), status_apart=True, categories=("all",)
        ),
        Resource("coordination.k8s.io", "v1", "leases", "Lease"),
        Resource(
            crd,
            "v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
            namespaced=False,
            short_names=("crd", "crds"),
            status_apart=True,
        ),
    )


class Registry:
    """The resources served now; grows when a new one is posted or defined."""

    def __init__(self) -> None:
        self._resources = {resource.key: resource for resource in builtin_resources()}

    def __iter__(self) -> Iterator[Resource]:
        return iter(tuple(self._resources.values()))

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._resources.get((group, version, plural))

    def add(self, resource: Resource) -> Resource:
        """Serve `resource` from now on; a built-in of the same name stays as it is."""
        known = self._resources.get(resource.key)
        if known is not None and known.builtin:
            return known
        self._resources[resource.key] = resource
        return resource

    def remove(self, resource: Resource) -> None:
        if not resource.builtin:
            self._resources.pop(resource.key, None)

    def learn(self, group: str, version: str, plural: str, kind: str, *, namespaced: bool) -> Resource:
        """A resource seen for the first time, in a POST of an object of `kind`."""
        resource = Resource(group, version, plural, kind, namespaced, builtin=False, selectable=None, learnt=True)
        return self.add(resource)

    def groups(self) -> dict[str, list[str]]:
        """Every group but the core one, with its versions, in the order they were first served."""
        found: dict[str, list[str]] = {}
        for resource in self:
            if resource.group:
                versions = found.setdefault(resource.group, [])
                if resource.version not in versions:
                    versions.append(resource.version)
        return found

    def of(self, group: str, version: str) -> list[Resource]:
        return [r for r in self if (r.group, r.version) == (group, version)]
