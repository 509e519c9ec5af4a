# SPDX-License-Identifier: Apache-2.0
"""A small Kubernetes API client for plain JSON objects, on one kept-open connection.

plumbline writes thousands of objects as data and reads them back as data; the typed models of the `kubernetes`
package cost more than the request itself. Authentication is a bearer token, over TLS where the server speaks it.
"""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from clusters.errors import PlumblineError

Object = dict[str, Any]
MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server refused a request: its HTTP status and the Status object's message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a resource lives: its API group and version (`v1`, `discovery.k8s.io/v1`) and plural name."""

    api_version: str
    plural: str
    kind: str
    namespaced: bool = True

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        root = "/api/" if "/" not in self.api_version else "/apis/"
        parts = [root + self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)


SERVICES = Resource("v1", "services", "Service")
ENDPOINT_SLICES = Resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
SERVICE_CIDRS = Resource("networking.k8s.io/v1", "servicecidrs", "ServiceCIDR", namespaced=False)
NODES = Resource("v1", "nodes", "Node", namespaced=False)
NAMESPACES = Resource("v1", "namespaces", "Namespace", namespaced=False)


class KubeClient:
    """The verbs plumbline uses. Not thread-safe."""

    def __init__(self, server: str, token: str, ca: str | None = None) -> None:
        """`ca`: the certificates (PEM) to trust in place of this machine's own, for a server at https://."""
        self.server = server
        self.token = token
        self.ca = ca
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=1,
            timeout=urllib3.Timeout(connect=5.0, read=30.0),
            retries=False,
            ssl_context=ssl.create_default_context(cadata=ca) if ca else None,
        )
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}

    def close(self) -> None:
        self._pool.clear()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        """One request. Raises ApiError for any status from 300 on, PlumblineError when the server is gone."""
        headers = dict(self._headers)
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body)
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        try:
            response = self._pool.request(method, url, body=data, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise PlumblineError(f"the API server at {self.server} does not answer: {error}") from None
        answer: Object = json.loads(response.data) if response.data else {}
        if response.status >= 300:
            raise ApiError(response.status, answer.get("reason", "?"), answer.get("message", "?"))
        return answer

    def get(self, resource: Resource, name: str, namespace: str | None = "default") -> Object:
        return self.request("GET", resource.path(namespace, name))

    def list(
        self, resource: Resource, namespace: str | None = None, label_selector: str | None = None
    ) -> list[Object]:
        query = {"labelSelector": label_selector} if label_selector else None
        items: list[Object] = self.request("GET", resource.path(namespace), query=query)["items"]
        return items

    def create(self, resource: Resource, body: Object) -> Object:
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        return self.request("POST", resource.path(body["metadata"].get("namespace", "default")), body)

    def replace(self, resource: Resource, body: Object) -> Object:
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        metadata = body["metadata"]
        return self.request("PUT", resource.path(metadata.get("namespace", "default"), metadata["name"]), body)

    def patch(
        self,
        resource: Resource,
        name: str,
        patch: Object,
        namespace: str = "default",
        subresource: str | None = None,
    ) -> Object:
        """A JSON merge patch (RFC 7386)."""
        path = resource.path(namespace, name, subresource)
        return self.request("PATCH", path, patch, content_type=MERGE_PATCH)

    def delete(self, resource: Resource, name: str, namespace: str | None = "default") -> Object:
        return self.request("DELETE", resource.path(namespace, name))
