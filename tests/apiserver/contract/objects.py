# SPDX-License-Identifier: Apache-2.0
"""Objects and paths that these tests speak of."""

from typing import Any

from tests.apiserver.contract.servers import Answer, Standing


def path(namespace: str, plural: str = "configmaps", name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def slices(namespace: str, name: str = "") -> str:
    return f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices" + (f"/{name}" if name else "")


def config_map(name: str, data: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}}
    return made | ({"data": data} if data is not None else {})


def service(name: str, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A Service with one port, unless the spec says otherwise."""
    metadata = {"name": name} | ({"labels": labels} if labels else {})
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}], **spec}}


def endpoint_slice(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "some"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["10.244.0.9"]}],
        **fields,
    }


def definition(group: str, *, scope: str = "Namespaced", **version: Any) -> dict[str, Any]:
    """A CustomResourceDefinition of Gadgets, whose objects may hold anything."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "shortNames": ["gdg"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gadgets.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": names,
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema, **version}],
        },
    }


def gadget(group: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": f"{group}/v1", "kind": "Gadget", "metadata": {"name": name}, **fields}


def add(server: Standing, where: str, *objects: dict[str, Any]) -> list[Answer]:
    """Create objects; the answers."""
    return [server.call("POST", where, one).must_be(201) for one in objects]
