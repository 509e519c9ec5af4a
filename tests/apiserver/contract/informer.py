# SPDX-License-Identifier: Apache-2.0
"""An informer: what keeps a copy of a collection by a list, a watch from there on, and a new list after 410."""

from collections.abc import Callable
from typing import Any

from kubernetes import watch
from kubernetes.client.exceptions import ApiException

SECONDS = 30
"""How long a single watch may last."""


class Informer:
    """A copy of what `list_` lists, by name. `list_` is a method of the Python client, with its arguments."""

    def __init__(self, list_: Callable[..., Any], *arguments: str) -> None:
        self._list = list_
        self._arguments = arguments
        self.cache: dict[str, Any] = {}
        self.version = ""
        self.lists = 0

    def list(self) -> None:
        """Begin afresh."""
        self.lists += 1
        listed = self._list(*self._arguments)
        if isinstance(listed, dict):
            self.cache = {one["metadata"]["name"]: one for one in listed["items"]}
            self.version = listed["metadata"]["resourceVersion"]
        else:
            self.cache = {one.metadata.name: one for one in listed.items}
            self.version = listed.metadata.resource_version

    def follow(self, until: Callable[[dict[str, Any]], bool]) -> None:
        """Watch until the copy is as wanted; whoever is told that the past is forgotten lists again."""
        while not until(self.cache):
            try:
                self._watch(until)
            except ApiException as error:
                if error.status != 410:
                    raise
                self.list()

    def _watch(self, until: Callable[[dict[str, Any]], bool]) -> None:
        watching = watch.Watch()  # type: ignore[no-untyped-call]
        query = {"resource_version": self.version, "timeout_seconds": SECONDS}
        for event in watching.stream(self._list, *self._arguments, **query):  # type: ignore[no-untyped-call]
            metadata = event["raw_object"]["metadata"]
            self.version = metadata["resourceVersion"]
            if event["type"] == "DELETED":
                self.cache.pop(metadata["name"], None)
            else:
                self.cache[metadata["name"]] = event["object"]
            if until(self.cache):
                watching.stop()  # type: ignore[no-untyped-call]
