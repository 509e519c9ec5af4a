# SPDX-License-Identifier: Apache-2.0
"""`/plumbline/…`: what this server offers besides the Kubernetes API. The token is needed on every socket.

GET    /plumbline/certificate   {"certificate": PEM}; from then on guarded sockets answer https too
POST   /plumbline/faults        begin a fault (see `faults`); 201 with its id
GET    /plumbline/faults        {"items": […]}, those that are over included
DELETE /plumbline/faults        end and forget all of them
GET    /plumbline/faults/<id>   one fault, with how often it has struck
DELETE /plumbline/faults/<id>   end and forget it
POST   /plumbline/create/<path> a list of objects, each created as by a POST to that path: without HTTP for each,
                                thousands are there in the time that a client of a lab wants to wait
"""

import asyncio
from collections.abc import Callable
from typing import Any

from clusters.apiserver.api import Api
from clusters.apiserver.decoding import ONE_OF_MANY
from clusters.apiserver.faults import Faults
from clusters.apiserver.paths import parse_target
from clusters.apiserver.status import JsonObject, bad_request, method_not_allowed, no_such_path
from clusters.apiserver.tls import Certificate

ROOT = "/plumbline/"
AT_A_TIME = 200
"""So many objects are created before whoever else waits for an answer, or an event, has a turn."""


class Control:
    """The handlers behind ROOT; `decode` turns a request's body into JSON when it is needed."""

    def __init__(self, api: Api, faults: Faults, certificate: Certificate) -> None:
        self._api = api
        self._faults = faults
        self._certificate = certificate

    async def answer(self, method: str, path: str, decode: Callable[[], Any]) -> tuple[int, JsonObject]:
        """Status code and document. Raises ApiError."""
        match path.removeprefix(ROOT).strip("/").split("/"):
            case ["certificate"]:
                if method != "GET":
                    raise method_not_allowed()
                return 200, {"certificate": await self._certificate.pem()}
            case ["create", "api", version, *rest] if rest:
                return await self._create(method, "", version, rest, decode)
            case ["create", "apis", group, version, *rest] if rest:
                return await self._create(method, group, version, rest, decode)
            case ["faults"]:
                return self._all(method, decode)
            case ["faults", name]:
                return 200, self._one(method, name)
        raise no_such_path()

    async def _create(
        self, method: str, group: str, version: str, rest: list[str], decode: Callable[[], Any]
    ) -> tuple[int, JsonObject]:
        """One after the other; those before one that is refused are there."""
        target = parse_target(group, version, rest)
        resource = self._api.registry.find(target.group, target.version, target.plural)
        if resource is None or target.name is not None or resource.namespaced != (target.namespace is not None):
            raise no_such_path()
        if method != "POST":
            raise method_not_allowed()
        objects = decode()
        if not isinstance(objects, list):
            raise bad_request("the body must be a list of objects")
        for number, obj in enumerate(objects):
            self._api.create(resource, target.namespace or "", obj, ONE_OF_MANY)
            if number % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
        return 201, {"created": len(objects)}

    def _all(self, method: str, decode: Callable[[], Any]) -> tuple[int, JsonObject]:
        match method:
            case "POST":
                return 201, self._faults.add(decode()).describe()
            case "GET" | "DELETE":
                found = self._faults.list()
                if method == "DELETE":
                    for fault in found:
                        self._faults.remove(fault)
                return 200, {"items": [fault.describe() for fault in found]}
        raise method_not_allowed()

    def _one(self, method: str, name: str) -> JsonObject:
        fault = self._faults.get(name)
        match method:
            case "GET":
                return fault.describe()
            case "DELETE":
                self._faults.remove(fault)
                return fault.describe()
        raise method_not_allowed()
