# SPDX-License-Identifier: Apache-2.0
"""The heart: objects as encoded bytes, one revision that grows with every change, and a bounded history.

Nothing here knows HTTP, namespaces' existence or Services. An object is encoded once, when it is stored; lists and
watches only join those bytes. The history lets a watch start in the past and a paginated list read the past.

Semantics follow https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions, with one difference
that clients cannot observe: the history is bounded per resource by a number of events, not by time.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter

import orjson

from clusters.apiserver.kinds import Resource
from clusters.apiserver.selectors import EVERYTHING, Selectors, field_text
from clusters.apiserver.status import JsonObject

HISTORY = 100_000
"""Events kept per resource: the churn of a large scale run between a client's list and its watch."""

_NO_LABELS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of one object. `raw` is its JSON; labels and indexed fields are beside it for selectors."""

    namespace: str
    name: str
    revision: int
    raw: bytes
    labels: Mapping[str, str]
    fields: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """Sorts like the keys of a real server: by namespace, then by name."""
        return f"{self.namespace}/{self.name}"

    def load(self) -> JsonObject:
        """A fresh decoded copy, the caller's to change."""
        decoded: JsonObject = orjson.loads(self.raw)
        return decoded

    def field(self, path: str) -> str:
        """The text of one field; indexed ones and the name cost nothing, others a decode."""
        if path == "metadata.name":
            return self.name
        if path == "metadata.namespace":
            return self.namespace
        for known, text in self.fields:
            if known == path:
                return text
        return field_text(self.load(), path)


class Change:
    """One event of the history: what was there (`old`) and what is there since `revision` (`new`)."""

    __slots__ = ("_departed", "new", "old", "revision")

    def __init__(self, revision: int, old: Stored | None, new: Stored | None) -> None:
        self.revision = revision
        self.old = old
        self.new = new
        self._departed: bytes | None = None

    @property
    def key(self) -> str:
        known = self.new or self.old
        assert known is not None
        return known.key

    def departed(self) -> bytes:
        """The last state of an object that leaves a selection or the store, carrying this change's revision."""
        if self._departed is None:
            assert self.old is not None
            obj = self.old.load()
            obj["metadata"]["resourceVersion"] = str(self.revision)
            self._departed = orjson.dumps(obj)
        return self._departed


class HistoryGoneError(Exception):
    """The history no longer reaches back to `asked`; `oldest` is the first revision it can continue from."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {asked} ({oldest})")
        self.asked = asked
        self.oldest = oldest


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a resource a request sees: one namespace or all (None), and its selectors."""

    namespace: str | None = None
    selectors: Selectors = EVERYTHING

    def matches(self, stored: Stored) -> bool:
        if self.namespace is not None and stored.namespace != self.namespace:
            return False
        return self.selectors.match(stored.labels, stored.field)


class Shelf:
    """All objects of one resource, sorted by key, and their history."""

    def __init__(self, history: int) -> None:
        self._objects: dict[str, Stored] = {}
        self._order: list[str] = []
        self._changes: list[Change] = []
        self._history = history
        self._forgotten = 0
        """The highest revision whose change is no longer in the history."""

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Stored]:
        return map(self._objects.__getitem__, self._order)

    def get(self, key: str) -> Stored | None:
        return self._objects.get(key)

    def oldest(self) -> Stored:
        """The object that was created first; the shelf must not be empty."""
        return next(iter(self._objects.values()))

    def apply(self, change: Change) -> None:
        key = change.key
        if change.new is None:
            del self._objects[key]
            del self._order[bisect_left(self._order, key)]
        else:
            if key not in self._objects:
                insort(self._order, key)
            self._objects[key] = change.new
        self._changes.append(change)
        # Forgetting in slices keeps it cheap: a quarter more than promised is kept, then cut at once.
        if len(self._changes) >= self._history + self._history // 4 + 1:
            surplus = len(self._changes) - self._history
            self._forgotten = self._changes[surplus - 1].revision
            del self._changes[:surplus]

    def forget(self, revision: int) -> None:
        """Have no history up to and including `revision`."""
        self._changes = [change for change in self._changes if change.revision > revision]
        self._forgotten = max(self._forgotten, revision)

    def select(self, selection: Selection, objects: Mapping[str, Stored] | None = None) -> Iterator[Stored]:
        """The selected objects in key order, of now or of a `snapshot`."""
        if objects is None:
            source, order = self._objects, self._order
        else:
            source, order = dict(objects), sorted(objects)
        if selection.namespace is not None:
            # "0" follows "/" in ASCII, so this is the range of keys that start with "<namespace>/".
            first = bisect_left(order, selection.namespace + "/")
            order = order[first : bisect_left(order, selection.namespace + "0")]
        chosen: Iterable[Stored] = map(source.__getitem__, order)
        if not selection.selectors:
            return iter(chosen)
        match = selection.selectors.match
        return (stored for stored in chosen if match(stored.labels, stored.field))

    def since(self, revision: int) -> list[Change]:
        """The changes after `revision`; raises HistoryGoneError where some of them are forgotten."""
        if revision < self._forgotten:
            raise HistoryGoneError(revision, self._forgotten)
        first = bisect_right(self._changes, revision, key=attrgetter("revision"))
        return self._changes[first:]

    def snapshot(self, revision: int) -> dict[str, Stored]:
        """The objects as they were at `revision`, found by taking later changes back."""
        objects = dict(self._objects)
        for change in reversed(self.since(revision)):
            if change.old is None:
                del objects[change.key]
            else:
                objects[change.key] = change.old
        return objects


class Store:
    """Every shelf, under one growing revision; tells one listener of each change, after it was applied."""

    def __init__(self, history: int = HISTORY) -> None:
        self._history = history
        self._shelves: dict[tuple[str, str, str], Shelf] = {}
        self._listener: Callable[[Resource, Change], None] | None = None
        self.revision = 1
        """Starts at 1, as "0" means "any version" to clients."""

    def listen(self, listener: Callable[[Resource, Change], None]) -> None:
        """`listener(resource, change)` is called for every change from now on; it must not write to the store."""
        self._listener = listener

    def shelf(self, resource: Resource) -> Shelf:
        found = self._shelves.get(resource.key)
        if found is None:
            found = self._shelves[resource.key] = Shelf(self._history)
        return found

    def begin(self, resource: Resource) -> None:
        """A resource that was not served before: whoever asks what happened to it earlier cannot be answered."""
        self.shelf(resource).forget(self.revision)

    def get(self, resource: Resource, namespace: str, name: str) -> Stored | None:
        return self.shelf(resource).get(f"{namespace}/{name}")

    def put(self, resource: Resource, obj: JsonObject) -> Stored:
        """Store `obj` under its metadata's namespace and name, stamped with the next revision."""
        self.revision += 1
        metadata = obj["metadata"]
        metadata["resourceVersion"] = str(self.revision)
        stored = Stored(
            namespace=metadata.get("namespace", ""),
            name=metadata["name"],
            revision=self.revision,
            # orjson's result keeps the kilobytes it was built in; a copy is as large as the object.
            raw=bytes(memoryview(orjson.dumps(obj))),
            labels=metadata.get("labels") or _NO_LABELS,
            fields=tuple((path, field_text(obj, path)) for path in resource.indexed),
        )
        shelf = self.shelf(resource)
        self._apply(resource, shelf, Change(self.revision, shelf.get(stored.key), stored))
        return stored

    def remove(self, resource: Resource, stored: Stored) -> Change:
        """Remove an object; the change's `departed()` is its last state with the revision of the removal."""
        self.revision += 1
        change = Change(self.revision, stored, None)
        self._apply(resource, self.shelf(resource), change)
        return change

    def _apply(self, resource: Resource, shelf: Shelf, change: Change) -> None:
        shelf.apply(change)
        if self._listener is not None:
            self._listener(resource, change)
