# SPDX-License-Identifier: Apache-2.0
"""Objects that are written to the compared servers, and the paths where."""

from typing import Any

SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
NODES = "/api/v1/nodes"
NAMESPACES = "/api/v1/namespaces"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
MERGE, STRATEGIC, JSON_PATCH, APPLY = (
    f"application/{kind}" for kind in ("merge-patch+json", "strategic-merge-patch+json", "json-patch+json",
                                       "apply-patch+yaml")
)  # fmt: skip


def service(name: str, **spec: Any) -> dict[str, Any]:
    """A Service with one port, unless the spec says otherwise."""
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def endpoint_slice(name: str, **fields: Any) -> dict[str, Any]:
    """An EndpointSlice with one IPv4 endpoint and one port, unless the fields say otherwise."""
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "some"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["10.244.0.9"]}],
        **fields,
    }
