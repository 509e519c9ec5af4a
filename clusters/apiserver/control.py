# SPDX-License-Identifier: Apache-2.0
"""`/plumbline/…`: what this server offers besides the Kubernetes API. The token is needed on every socket.

GET    /plumbline/certificate   {"certificate": PEM}; from then on guarded sockets answer https too
POST   /plumbline/faults        begin a fault (see `faults`); 201 with its id
GET    /plumbline/faults        {"items": […]}, those that are over included
DELETE /plumbline/faults        end and forget all of them
GET    /plumbline/faults/<id>   one fault, with how often it has struck
DELETE /plumbline/faults/<id>   end and forget it
"""

from collections.abc import Callable
from typing import Any

from clusters.apiserver.faults import Faults
from clusters.apiserver.status import JsonObject, method_not_allowed, no_such_path
from clusters.apiserver.tls import Certificate

ROOT = "/plumbline/"


class Control:
    """The handlers behind ROOT; `decode` turns a request's body into JSON when it is needed."""

    def __init__(self, faults: Faults, certificate: Certificate) -> None:
        self._faults = faults
        self._certificate = certificate

    async def answer(self, method: str, path: str, decode: Callable[[], Any]) -> tuple[int, JsonObject]:
        """Status code and document. Raises ApiError."""
        match path.removeprefix(ROOT).strip("/").split("/"):
            case ["certificate"]:
                if method != "GET":
                    raise method_not_allowed()
                return 200, {"certificate": await self._certificate.pem()}
            case ["faults"]:
                return self._all(method, decode)
            case ["faults", name]:
                return 200, self._one(method, name)
        raise no_such_path()

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
