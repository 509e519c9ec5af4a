# SPDX-License-Identifier: Apache-2.0
"""The API server without a server: `KubeClient`'s requests go straight to the in-process API."""

import json
from collections.abc import Mapping

from clusters import kube
from clusters.apiserver.api import Api
from clusters.apiserver.kinds import Resource
from clusters.apiserver.status import ApiError
from clusters.apiserver.store import Selection
from clusters.kube import Object


class FakeKube(kube.KubeClient):
    """Every verb of the client works; there is neither a socket nor a token."""

    def __init__(self, api: Api) -> None:
        super().__init__("http://in-process.invalid", "no token")
        self.api = api

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        """One request, its body copied as a wire would. Raises kube.ApiError as the client does."""
        if query:
            raise NotImplementedError("the fake API server lists everything, without selectors")
        resource, namespace, name, status = self._parse(path)
        given = json.loads(json.dumps(body))
        try:
            match method:
                case "GET" if name:
                    return self.api.get(resource, namespace, name).load()
                case "GET":
                    return {"items": self.objects(resource, namespace or None)}
                case "POST":
                    raw = self.api.create(resource, namespace, given)
                case "PUT":
                    raw = self.api.replace(resource, namespace, name, given, status=status)
                case "PATCH":
                    raw = self.api.patch(resource, namespace, name, content_type, given, status=status)
                case "DELETE":
                    raw = self.api.delete(resource, namespace, name)
                case _:
                    raise NotImplementedError(f"{method} {path}")
        except ApiError as error:
            raise kube.ApiError(error.code, error.reason, error.message) from None
        answer: Object = json.loads(raw)
        return answer

    def objects(self, resource: Resource, namespace: str | None = None) -> list[Object]:
        """Every object of a resource, of one namespace or of all."""
        return [stored.load() for stored in self.api.store.shelf(resource).select(Selection(namespace))]

    def _parse(self, path: str) -> tuple[Resource, str, str, bool]:
        """`/api/v1/…` and `/apis/<group>/<version>/…` as resource, namespace, name, and whether it is `/status`."""
        root, *parts = path.strip("/").split("/")
        group = parts.pop(0) if root == "apis" else ""
        version = parts.pop(0)
        namespace = ""
        if parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        plural, name, subresource, *_ = (*parts, "", "")
        found = self.api.registry.find(group, version, plural)
        if found is None:
            raise kube.ApiError(404, "NotFound", f"there is no resource at {path}")
        return found, namespace, name, subresource == "status"
