# SPDX-License-Identifier: Apache-2.0
"""Lists and watches of the API, a thread for each resource, feeding one queue.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes: list once, watch from
the list's resourceVersion, go on from the last one seen after a cut, and list again when the server has forgotten it
(410) or says ERROR.
"""

import random
import threading
from collections.abc import Callable, Hashable, Iterator
from http.client import HTTPException, HTTPResponse
from time import monotonic
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from dataplane_ref.controller import objects
from dataplane_ref.controller.kubeconfig import Access

CONNECT_SECONDS = 10.0
LIST_SECONDS = 120.0  # without a byte
WATCH_SECONDS = (240, 480)  # a watch ends by itself, at random: not all nodes' at once
BACKOFF_SECONDS = (0.1, 5.0)
SAY_AGAIN_SECONDS = 60.0

Object = Any
Converted = tuple[Hashable, Object]
"""The key of an object, and what is kept of it."""


class Listing(Struct, frozen=True):
    """All objects of a resource, by key: what is not among them is gone."""

    resource: str
    objects: dict[Hashable, Object]


class Delta(Struct, frozen=True):
    """One object that came, changed, or went (None)."""

    resource: str
    key: Hashable
    object: Object | None


class Sink(Protocol):
    """Where listings and deltas go, in their order."""

    def put(self, item: Listing | Delta, /) -> None: ...


class Resource(Struct, frozen=True):
    """What to watch: a path, selectors, and how an object becomes what is kept (None: nothing of it).

    `convert` raises ValueError (which decoding errors are) for a broken object: it is then left out, and said.
    """

    name: str
    path: str
    selectors: tuple[tuple[str, str], ...]
    convert: Callable[[msgspec.Raw], Converted | None]


class RelistError(Exception):
    """The watch cannot go on from where it was."""


class ApiError(Exception):
    """The server does not answer as it should; one sentence."""


class Watcher(threading.Thread):
    """Keeps a resource listed and watched until `stop`."""

    def __init__(self, access: Access, resource: Resource, sink: Sink, say: Callable[[str], None]) -> None:
        super().__init__(name=f"watch {resource.name}", daemon=True)
        self.resource = resource
        self._access, self._sink, self._say = access, sink, say
        self._stopping = threading.Event()
        self._version = ""
        self._failures = 0
        self._said_at = float("-inf")

    def stop(self) -> None:
        """End soon; a daemon thread, it is not waited for."""
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            began = monotonic()
            try:
                if not self._version:
                    self._list()
                self._watch()
            except RelistError as reason:
                self._version = ""
                self._say(f"{self.resource.name} are listed again: {reason}")
            except (OSError, HTTPException, ApiError, msgspec.DecodeError, UnicodeDecodeError) as error:
                self._complain(error)
                self._pause()
                continue
            if monotonic() - began < 1:  # a server that hangs up at once is not asked in a tight loop
                self._pause()

    def _complain(self, error: Exception) -> None:
        """Once, and again from time to time: an unreachable server is no news for long."""
        if self._failures and monotonic() - self._said_at < SAY_AGAIN_SECONDS:
            return
        self._said_at = monotonic()
        where = f"{self._access.host}:{self._access.port}"
        reason = str(error) or type(error).__name__
        self._say(f"{self.resource.name} cannot be watched at {where}, and that is tried again: {reason}")

    def _pause(self) -> None:
        shortest, longest = BACKOFF_SECONDS
        pause = min(shortest * 2**self._failures, longest)
        self._failures = min(self._failures + 1, 10)
        self._stopping.wait(pause * random.uniform(0.5, 1))  # noqa: S311 - not for secrets

    def _get(self, query: dict[str, str], timeout: float) -> HTTPResponse:
        target = f"{self._access.path}{self.resource.path}?{urlencode(query, quote_via=quote)}"
        connection = self._access.connect(CONNECT_SECONDS)
        try:
            connection.connect()
            connection.sock.settimeout(timeout)
            connection.request("GET", target, headers=self._access.headers())
            response = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        if response.status == 410:
            response.close()
            raise RelistError("the server has forgotten where the watch was (410 Gone)")
        if response.status != 200:
            said = response.read(500).decode("utf-8", "replace").strip()
            response.close()
            raise ApiError(f"it answers {response.status} {response.reason}{': ' if said else ''}{said[:200]}")
        return response

    def _list(self) -> None:
        with self._get(dict(self.resource.selectors), LIST_SECONDS) as response:
            listed = objects.list_decoder.decode(response.read())
        if not listed.metadata.resourceVersion:
            raise ApiError("its list has no resourceVersion")
        found = dict(filter(None, map(self._convert, listed.items or ())))
        self._version = listed.metadata.resourceVersion
        self._recovered()
        self._sink.put(Listing(self.resource.name, found))

    def _watch(self) -> None:
        seconds = random.randint(*WATCH_SECONDS)  # noqa: S311
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(seconds),
            **dict(self.resource.selectors),
        }
        with self._get(query, seconds + 15.0) as response:
            for line in _lines(response):
                if self._stopping.is_set():
                    return
                self._event(line)
                self._recovered()

    def _event(self, line: bytes) -> None:
        event = objects.event_decoder.decode(line)
        if event.type == "ERROR":
            status = objects.status_decoder.decode(event.object)
            raise RelistError(f"the watch says {status.code} {status.reason or status.message}")
        seen = objects.bookmark_decoder.decode(event.object).metadata.resourceVersion
        if event.type in ("ADDED", "MODIFIED", "DELETED"):
            converted = self._convert(event.object)
            if converted is not None:
                key, kept = converted
                self._sink.put(Delta(self.resource.name, key, None if event.type == "DELETED" else kept))
        elif event.type != "BOOKMARK":
            raise RelistError(f"the watch sent an event of the unknown type {event.type!r}")
        self._version = seen or self._version

    def _convert(self, raw: msgspec.Raw) -> Converted | None:
        try:
            return self.resource.convert(raw)
        except ValueError as error:
            self._say(f"one of the {self.resource.name} is left out: {_name(raw)} {error}")
            return None

    def _recovered(self) -> None:
        if self._failures and self._said_at > float("-inf"):
            self._say(f"{self.resource.name} are watched again")
            self._said_at = float("-inf")
        self._failures = 0


def _lines(response: HTTPResponse) -> Iterator[bytes]:
    rest = b""
    while received := response.read1(1 << 16):
        *lines, rest = (rest + received).split(b"\n")
        yield from filter(None, map(bytes.strip, lines))


class _Name(msgspec.Struct):
    name: str = "without a name"
    namespace: str = ""


class _Named(msgspec.Struct):
    metadata: _Name


def _name(raw: msgspec.Raw) -> str:
    """Who a broken object says it is."""
    try:
        found = msgspec.json.decode(raw, type=_Named).metadata
    except msgspec.DecodeError:
        return "an object without metadata"
    return f"{found.namespace}/{found.name}"
