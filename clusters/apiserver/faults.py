# SPDX-License-Identifier: Apache-2.0
"""Misbehaviour on purpose: what goes wrong for whom, how often and for how long.

A fault strikes requests and watches that its selector picks. What a client may then see is what real API servers and
networks do to it at times, so a correct client recovers from each:

    cut           the connection breaks: of open watches at once, of new requests instead of an answer
    stall         nothing is delivered, the connection stays open; what was held goes out when the fault ends
    delay         each delivery comes `milliseconds` later
    reorder       what happens within `milliseconds` comes in the wrong order of objects; the events of each one
                  object keep theirs, and bookmarks and errors come last, since a client could not recover otherwise
    gone          410: open watches and watches or lists of a past revision have expired
    too-many      429 with Retry-After (`retryAfter`, seconds), before the request does anything
    partial-list  the connection breaks after `fraction` of the state: of a list, or of a watch's initial events

A strike is one request or watch, and for stall, delay and reorder one delivery (whatever a watch is sent at once).
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, TypeAlias, cast, get_args

import orjson

from clusters.apiserver.status import ApiError, JsonObject, bad_request, expired, not_found
from clusters.apiserver.watch import WatchStream, error_line

FaultKind: TypeAlias = Literal["cut", "stall", "delay", "reorder", "gone", "too-many", "partial-list"]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
_DEFAULT_VERBS: Mapping[FaultKind, tuple[str, ...]] = {
    "cut": ("watch",),
    "stall": ("watch",),
    "delay": ("watch",),
    "reorder": ("watch",),
    "gone": ("list", "watch"),
    "too-many": VERBS,
    "partial-list": ("list", "watch"),
}
_POSSIBLE_VERBS: Mapping[FaultKind, tuple[str, ...]] = {
    **dict.fromkeys(KINDS, VERBS),
    "reorder": ("watch",),
    "gone": ("list", "watch"),
    "partial-list": ("list", "watch"),
}
_PARAMETERS: Mapping[FaultKind, Mapping[str, float]] = {
    "delay": {"milliseconds": 100},
    "reorder": {"milliseconds": 100},
    "too-many": {"retryAfter": 1},
    "partial-list": {"fraction": 0.5},
}
"""The parameters of each kind, with their defaults."""

MOST = 1_000_000_000
"""More than any parameter, count or number of seconds needs to be."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for what: the resource's plural name, the verb, the User-Agent, and the node it came through."""

    resource: str
    verb: str
    user_agent: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True)
class FaultSelector:
    """Whom a fault strikes; an empty field picks everybody, `user_agent` is a part of the header."""

    resource: str = ""
    verbs: frozenset[str] = frozenset()
    user_agent: str = ""
    node: str = ""

    def matches(self, caller: Caller) -> bool:
        return (
            caller.verb in self.verbs
            and self.resource in ("", caller.resource)
            and self.node in ("", caller.node)
            and self.user_agent in caller.user_agent
        )


@dataclass(slots=True)
class Fault:
    """One fault: its definition, and how often it has struck so far."""

    id: str
    kind: FaultKind
    selector: FaultSelector
    parameters: Mapping[str, float]
    count: int | None = None
    seconds: float | None = None
    struck: int = 0
    active: bool = True
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when what is held must go out: the time is up or the fault was deleted. Not yet after its last strike."""

    async def wait(self) -> None:
        """Until the fault is over, or as long as its `milliseconds`."""
        seconds = self.parameters["milliseconds"] / 1000 if "milliseconds" in self.parameters else None
        with suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)

    def describe(self) -> JsonObject:
        selector = {
            "resource": self.selector.resource,
            "verbs": sorted(self.selector.verbs),
            "userAgent": self.selector.user_agent,
            "node": self.selector.node,
        }
        return {
            "id": self.id,
            "fault": self.kind,
            "selector": selector,
            "parameters": dict(self.parameters),
            "count": self.count,
            "seconds": self.seconds,
            "struck": self.struck,
            "active": self.active,
        }


@dataclass(eq=False, slots=True)
class Viewer:
    """An open watch, as faults reach it."""

    caller: Caller
    stream: WatchStream
    transport: asyncio.Transport | None

    def cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class CutError(Exception):
    """The connection is to be broken instead of answered."""


class Faults:
    """The faults of a server. `active` is empty almost always, and then nothing else here is called."""

    def __init__(self) -> None:
        self.active: list[Fault] = []
        self._known: dict[str, Fault] = {}
        self._viewers: set[Viewer] = set()
        self._numbers = count(1)

    def add(self, definition: Any) -> Fault:
        """Begin a fault that a request's body defines; open watches feel it at once. ApiError 400 if it is none."""
        fault = _parse(str(next(self._numbers)), definition)
        self._known[fault.id] = fault
        self.active.append(fault)
        if fault.seconds is not None:
            asyncio.get_running_loop().call_later(fault.seconds, self._end, fault)
        if fault.kind in ("cut", "gone"):
            for viewer in [one for one in self._viewers if self._struck(one.caller, fault.kind) is not None]:
                viewer.cut() if fault.kind == "cut" else viewer.stream.finish(error_line(_gone()))
        return fault

    def list(self) -> list[Fault]:
        """Every fault that was not deleted, those that are over included."""
        return list(self._known.values())

    def get(self, name: str) -> Fault:
        """ApiError 404 for one that is not known."""
        if name not in self._known:
            raise not_found("faults", "plumbline", name)
        return self._known[name]

    def remove(self, fault: Fault) -> None:
        """End and forget a fault; what it held is delivered."""
        self._end(fault)
        del self._known[fault.id]

    @contextmanager
    def watching(self, viewer: Viewer) -> Iterator[None]:
        """While a watch is open."""
        self._viewers.add(viewer)
        try:
            yield
        finally:
            self._viewers.discard(viewer)

    async def before(self, caller: Caller) -> None:
        """What happens to a request before it is answered. Raises CutError, or ApiError 429."""
        if (fault := self._struck(caller, "too-many")) is not None:
            seconds = int(fault.parameters["retryAfter"])
            raise ApiError(429, "TooManyRequests", "too many requests, please try again later",
                           {"retryAfterSeconds": seconds})  # fmt: skip
        if self._struck(caller, "cut") is not None:
            raise CutError
        if caller.verb != "watch":
            await self._hold(caller, "stall")
            await self._hold(caller, "delay")

    def forget_the_past(self, caller: Caller) -> None:
        """Raise ApiError 410 for a request that speaks of a past revision, where a fault says so."""
        if self._struck(caller, "gone") is not None:
            raise _gone()

    def shorten(self, caller: Caller, state: bytes) -> bytes | None:
        """The part of a list or of the initial events that gets out before the connection breaks; None for all."""
        fault = self._struck(caller, "partial-list")
        return None if fault is None else state[: int(len(state) * fault.parameters["fraction"])]

    async def disturb(self, viewer: Viewer, chunk: bytes) -> bytes:
        """A watch's next delivery as it goes out, after however long."""
        await self._hold(viewer.caller, "stall")
        await self._hold(viewer.caller, "delay")
        if await self._hold(viewer.caller, "reorder"):
            return reordered(chunk + viewer.stream.more())
        return chunk

    async def _hold(self, caller: Caller, kind: FaultKind) -> bool:
        fault = self._struck(caller, kind)
        if fault is None:
            return False
        await fault.wait()
        return True

    def _struck(self, caller: Caller, kind: FaultKind) -> Fault | None:
        """The first active fault of a kind that picks the caller, with this strike counted."""
        for fault in self.active:
            if fault.kind == kind and fault.selector.matches(caller):
                fault.struck += 1
                if fault.struck == fault.count:
                    self._retire(fault)
                return fault
        return None

    def _retire(self, fault: Fault) -> None:
        """Strike nothing new."""
        fault.active = False
        self.active = [one for one in self.active if one is not fault]

    def _end(self, fault: Fault) -> None:
        self._retire(fault)
        fault.over.set()


def reordered(frames: bytes) -> bytes:
    """Watch frames with the objects in reverse: the one that changed last comes first, its own events in order."""
    by_object: dict[str, list[bytes]] = {}
    last: list[bytes] = []
    for line in frames.splitlines(keepends=True):
        event = orjson.loads(line)
        if event["type"] in ("BOOKMARK", "ERROR"):
            last.append(line)
            continue
        metadata = event["object"]["metadata"]
        by_object.setdefault(f"{metadata.get('namespace', '')}/{metadata.get('name', '')}", []).append(line)
    # Only the last bookmark counts, and it vouches for all of this.
    ordered: Iterable[list[bytes]] = (*reversed(by_object.values()), last)
    return b"".join(line for lines in ordered for line in lines)


def _gone() -> ApiError:
    return expired("The resourceVersion is too old: a fault made the server forget it")


def _parse(name: str, body: Any) -> Fault:
    if not isinstance(body, dict):
        raise bad_request("a fault is a JSON object with at least `fault`")
    _refuse_unknown("a fault", body, ("fault", "selector", "parameters", "count", "seconds"))
    kind = body.get("fault")
    if kind not in KINDS:
        raise bad_request(f"`fault` must be one of {', '.join(KINDS)}, not {kind!r}")
    kind = cast(FaultKind, kind)
    return Fault(
        name,
        kind,
        _parse_selector(kind, body.get("selector", {})),
        _parse_parameters(kind, body.get("parameters", {})),
        _positive("count", body.get("count"), int),
        _positive("seconds", body.get("seconds"), int, float),
    )


def _parse_selector(kind: FaultKind, given: Any) -> FaultSelector:
    if not isinstance(given, dict):
        raise bad_request("the selector of a fault is a JSON object")
    _refuse_unknown("a fault's selector", given, ("resource", "verbs", "userAgent", "node"))
    for key in ("resource", "userAgent", "node"):
        if not isinstance(given.get(key, ""), str):
            raise bad_request(f"the selector's {key} must be a string")
    verbs = given.get("verbs") or _DEFAULT_VERBS[kind]
    possible = _POSSIBLE_VERBS[kind]
    if not isinstance(verbs, (list, tuple)) or not all(verb in possible for verb in verbs):
        raise bad_request(f"the verbs of a fault of kind {kind} are a list of {', '.join(possible)}")
    return FaultSelector(
        given.get("resource", ""), frozenset(verbs), given.get("userAgent", ""), given.get("node", "")
    )


def _parse_parameters(kind: FaultKind, given: Any) -> Mapping[str, float]:
    if not isinstance(given, dict):
        raise bad_request("the parameters of a fault are a JSON object")
    defaults = _PARAMETERS.get(kind, {})
    _refuse_unknown(f"the parameters of a fault of kind {kind}", given, tuple(defaults))
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST:
            raise bad_request(f"the parameter {key} must be a number from 0 to {MOST}")
    parameters: dict[str, float] = {**defaults, **given}
    if "fraction" in parameters and parameters["fraction"] >= 1:
        raise bad_request("the parameter fraction must be less than 1")
    return parameters


def _positive(name: str, value: Any, *types: type[int | float]) -> Any:
    if value is not None and (type(value) not in types or not 0 < value <= MOST):
        raise bad_request(f"the {name} of a fault must be a positive number, at most {MOST}")
    return value


def _refuse_unknown(what: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if unknown := [key for key in given if key not in known]:
        raise bad_request(f"{what} has no field {unknown[0]!r}; it may have {', '.join(known) or 'none'}")
