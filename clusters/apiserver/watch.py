# SPDX-License-Identifier: Apache-2.0
"""Watches: the store's changes as streams of JSON lines, encoded once and shared by everyone who asked the same.

A `Channel` holds the events of one (resource, selection). Each watch is a cursor into it, so a hundred kube-proxies
with one selector cost one encoding and one filter per change. Watches that are behind take everything they missed in
one piece. One that does not read is cut when it has fallen a backlog behind; nobody ever waits for it.

Streams that misbehave on purpose (`faults`) do so at `WatchStream.chunks`: whoever writes the chunks out may delay,
reorder, hold or drop them, and `finish` ends a stream with a last word.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from itertools import chain

import orjson

from clusters.apiserver.kinds import Resource
from clusters.apiserver.options import WatchOptions
from clusters.apiserver.status import ApiError, expired, too_large_resource_version
from clusters.apiserver.store import Change, HistoryGoneError, Selection, Store

BACKLOG_EVENTS = 100_000
"""How many events a watch may be behind: as many as the history holds, so that it could also have started there."""

BACKLOG_BYTES = 128 * 2**20
"""And how many bytes of them: a bound on memory per distinct selection, however large the objects."""

CHUNK_BYTES = 1 * 2**20
"""The most that is handed to a connection at once, and so the most a stalled one holds of its own."""

TRIM_EVENTS = 4096
"""How many events a channel collects before it looks which of them every watch has taken."""

WAKE_SECONDS = 50e-6
"""The shortest time between two wake-ups of a channel, for each of its watches.

An event after a pause goes out at once. Under a stream of writes, the events of the next interval (5 ms with a
hundred watches) go out together, so that waking watches up never takes the processor away from the writers.
"""

BOOKMARK_SECONDS = 60.0
"""How often a watch that asked for bookmarks learns the current revision (about a minute, as upstream)."""


def event_line(kind: str, raw: bytes) -> bytes:
    """One frame of a JSON watch stream."""
    return b'{"type":"%b","object":%b}\n' % (kind.encode(), raw)


def error_line(error: ApiError) -> bytes:
    return event_line("ERROR", orjson.dumps(error.status()))


def bookmark_line(resource: Resource, revision: int, *, initial_end: bool = False) -> bytes:
    """A bookmark is an empty object of the watched kind that carries a revision."""
    metadata: dict[str, object] = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    body = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    return event_line("BOOKMARK", orjson.dumps(body))


def change_line(change: Change, selection: Selection) -> bytes | None:
    """The event `selection` sees of a change; None where it sees nothing.

    An object that enters the selection was ADDED and one that leaves it was DELETED, whatever really happened.
    """
    is_in = change.new is not None and selection.matches(change.new)
    was_in = change.old is not None and selection.matches(change.old)
    if is_in:
        assert change.new is not None
        return event_line("MODIFIED" if was_in else "ADDED", change.new.raw)
    return event_line("DELETED", change.departed()) if was_in else None


class Channel:
    """The events of one selection, kept for as long as one of its watches still has to take them.

    Positions count events from the channel's beginning.
    """

    def __init__(self, resource: Resource, selection: Selection) -> None:
        self.resource = resource
        self.selection = selection
        self.streams: set[WatchStream] = set()
        self._lines: list[bytes] = []
        self._base = 0
        self._bytes = 0
        self._trim_at = TRIM_EVENTS
        self._waiters: list[asyncio.Future[None]] = []
        self._waking: asyncio.Handle | None = None
        self._woken_at = 0.0
        # The last chunk cut, with its first and last position: watches in step join it only once.
        self._shared: tuple[int, int, bytes] = (0, 0, b"")

    @property
    def end(self) -> int:
        """The position of the next event."""
        return self._base + len(self._lines)

    def publish(self, change: Change) -> None:
        """Append what the selection sees of a change, and let the watches know."""
        line = change_line(change, self.selection)
        if line is None:
            return
        self._lines.append(line)
        self._bytes += len(line)
        if len(self._lines) >= self._trim_at or self._bytes > BACKLOG_BYTES:
            self._trim()
        if self._waking is None and self._waiters:
            loop = asyncio.get_running_loop()
            soonest = self._woken_at + WAKE_SECONDS * len(self.streams)
            self._waking = loop.call_at(max(soonest, loop.time()), self.wake)

    def wake(self) -> None:
        """Let every waiting watch look again."""
        self._waking = None
        self._woken_at = asyncio.get_running_loop().time()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def take(self, position: int) -> tuple[int, bytes]:
        """The next chunk from `position`, empty if there is none yet, and the position behind it."""
        first, last, chunk = self._shared
        if position == self.end:
            return position, b""
        if first != position or not chunk:
            start = i = position - self._base
            size = 0
            while i < len(self._lines) and size < CHUNK_BYTES:
                size += len(self._lines[i])
                i += 1
            last, chunk = self._base + i, b"".join(self._lines[start:i])
            self._shared = (position, last, chunk)
        return last, chunk

    def waiter(self) -> asyncio.Future[None]:
        """Done when there may be something new."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def _trim(self) -> None:
        """Forget what every watch has taken, and cut the watches for which too much would have to be kept."""
        keep = min(len(self._lines), BACKLOG_EVENTS)
        if self._bytes > BACKLOG_BYTES:
            keep = min(keep, len(self._lines) // 2)
        for stream in [s for s in self.streams if s.position < self.end - keep]:
            stream.cut()
        needed = min((s.position for s in self.streams), default=self.end)
        surplus = needed - self._base
        self._bytes -= sum(map(len, self._lines[:surplus]))
        del self._lines[:surplus]
        self._base = needed
        # Looking again only after the rest has doubled keeps the cost per event constant.
        self._trim_at = max(TRIM_EVENTS, min(2 * len(self._lines), BACKLOG_EVENTS + TRIM_EVENTS))


class WatchStream:
    """One watch: first what was before it, then a cursor into its channel.

    `cut` is called when it does not keep up; the owner must then drop the connection (`on_cut`).
    """

    def __init__(self, hub: "Hub", channel: Channel, options: WatchOptions, before: Iterator[bytes]) -> None:
        self._hub = hub
        self._channel = channel
        self._options = options
        self._before = before
        self.position = channel.end
        self.is_cut = False
        self._last_word: bytes | None = None
        self.on_cut: Callable[[], None] = lambda: None
        channel.streams.add(self)

    def cut(self) -> None:
        """Give up on a reader that is too far behind."""
        self.is_cut = True
        self._channel.streams.discard(self)
        self.on_cut()

    def finish(self, last_word: bytes) -> None:
        """End the stream with one more frame, after what it is already owed."""
        self._last_word = last_word
        self._channel.wake()

    def peek_state(self) -> bytes:
        """All that comes before live events."""
        state = b"".join(self._before)
        self._before = iter((state,)) if state else iter(())
        return state

    def more(self) -> bytes:
        """What has happened since the last chunk, taken out of the stream; does not wait."""
        parts: list[bytes] = []
        while True:
            self.position, chunk = self._channel.take(self.position)
            if not chunk:
                return b"".join(parts)
            parts.append(chunk)

    def close(self) -> None:
        """Leave the channel; the last watch to leave ends it."""
        self._channel.streams.discard(self)
        self._hub.forget(self._channel)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Whole frames, joined; ends at the watch's timeout, when the server closes, or when it was cut."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._options.timeout if self._options.timeout else math.inf
        bookmark_at = loop.time() + BOOKMARK_SECONDS if self._options.bookmarks else math.inf
        for chunk in self._before:
            yield chunk
        while not self.is_cut:
            position, chunk = self._channel.take(self.position)
            if chunk:
                self.position = position
                yield chunk
                continue
            if self._last_word is not None:
                yield self._last_word
                return
            now = loop.time()
            over = self._hub.closing or now >= ends
            if now >= bookmark_at or (over and self._options.bookmarks):
                bookmark_at = now + BOOKMARK_SECONDS
                yield bookmark_line(self._channel.resource, self._hub.store.revision)
            if over:
                return
            await self._news(min(ends, bookmark_at))

    async def _news(self, until: float) -> None:
        waiter = self._channel.waiter()
        if until == math.inf:
            await waiter
            return
        alarm = asyncio.get_running_loop().call_at(until, self._channel.wake)
        try:
            await waiter
        finally:
            alarm.cancel()


class Hub:
    """Every channel of a store. Must be used from the event loop's thread."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.closing = False
        self._channels: dict[tuple[str, str, str], dict[Selection, Channel]] = {}
        store.listen(self._publish)

    def open(self, resource: Resource, namespace: str | None, options: WatchOptions) -> WatchStream:
        """Begin a watch. ApiError 410 or 504 where `options.since` is too old or not reached yet."""
        if (options.since or 0) > self.store.revision:
            raise too_large_resource_version(options.since or 0, self.store.revision)
        selection = Selection(namespace, options.selectors)
        before = self._before(resource, selection, options)
        channels = self._channels.setdefault(resource.key, {})
        channel = channels.get(selection)
        if channel is None:
            channel = channels[selection] = Channel(resource, selection)
        return WatchStream(self, channel, options, before)

    def close(self) -> None:
        """End every watch cleanly, those that are opened later too."""
        self.closing = True
        for channels in self._channels.values():
            for channel in channels.values():
                channel.wake()

    def forget(self, channel: Channel) -> None:
        """Drop a channel without watches; a successor that took its place stays."""
        channels = self._channels.get(channel.resource.key, {})
        if not channel.streams and channels.get(channel.selection) is channel:
            del channels[channel.selection]

    def _before(self, resource: Resource, selection: Selection, options: WatchOptions) -> Iterator[bytes]:
        """The chunks that precede live events; what they hold is settled now, encoding waits until they are sent."""
        shelf = self.store.shelf(resource)
        if options.initial:
            lines = (event_line("ADDED", stored.raw) for stored in list(shelf.select(selection)))
            marks = [bookmark_line(resource, self.store.revision, initial_end=True)]
            return _joined(chain(lines, marks if options.mark_initial else ()))
        if options.since is None:
            return iter(())
        try:
            changes = shelf.since(options.since)
        except HistoryGoneError as gone:
            raise expired(str(gone)) from gone
        return _joined(line for change in changes if (line := change_line(change, selection)))

    def _publish(self, resource: Resource, change: Change) -> None:
        for channel in self._channels.get(resource.key, {}).values():
            channel.publish(change)


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines in chunks of about CHUNK_BYTES."""
    parts: list[bytes] = []
    size = 0
    for line in lines:
        parts.append(line)
        size += len(line)
        if size >= CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)
