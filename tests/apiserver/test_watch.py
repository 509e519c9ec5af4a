# SPDX-License-Identifier: Apache-2.0
"""Watches without a socket: what a stream shows of each change, and what happens to one that does not keep up."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from clusters.apiserver import watch
from clusters.apiserver.bootstrap import new_cluster
from clusters.apiserver.control import Control
from clusters.apiserver.faults import Faults
from clusters.apiserver.http import Handler, make_server
from clusters.apiserver.kinds import Resource
from clusters.apiserver.options import WatchOptions
from clusters.apiserver.selectors import parse_selectors
from clusters.apiserver.status import ApiError
from clusters.apiserver.store import Store
from clusters.apiserver.tls import Certificate
from clusters.apiserver.watch import Channel, Hub, WatchStream

THINGS = Resource("example.com", "v1", "things", "Thing")
LIVE = WatchOptions(initial=False)


def put(store: Store, name: str, **labels: str) -> int:
    return store.put(THINGS, {"metadata": {"name": name, "namespace": "default", "labels": labels}}).revision


def remove(store: Store, name: str) -> int:
    stored = store.get(THINGS, "default", name)
    assert stored is not None
    return store.remove(THINGS, stored).revision


async def events(stream: WatchStream) -> AsyncIterator[tuple[str, str, str]]:
    """(type, name, resourceVersion) of each frame, until the stream ends."""
    async for chunk in stream.chunks():
        for line in chunk.splitlines():
            event = json.loads(line)
            metadata = event["object"]["metadata"]
            yield event["type"], metadata.get("name", ""), metadata["resourceVersion"]


async def shown(stream: WatchStream) -> list[str]:
    """Every event of a stream whose hub is closing, as `TYPE name@revision`."""
    return [f"{kind} {name}@{revision}" async for kind, name, revision in events(stream)]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


def test_a_watch_shows_the_state_and_then_every_change() -> None:
    async def body() -> None:
        store = Store()
        hub = Hub(store)
        put(store, "a")
        stream = hub.open(THINGS, None, WatchOptions())
        changes = [put(store, "b"), put(store, "a"), remove(store, "b")]
        hub.close()
        expected = zip(("ADDED b", "MODIFIED a", "DELETED b"), changes, strict=True)
        assert await shown(stream) == ["ADDED a@2"] + [f"{kind}@{revision}" for kind, revision in expected]

    run(body())


def test_entering_and_leaving_a_selection_are_added_and_deleted() -> None:
    async def body() -> None:
        store = Store()
        hub = Hub(store)
        wanted = parse_selectors("app=web", "")
        stream = hub.open(THINGS, "default", WatchOptions(wanted, initial=False))
        put(store, "a", app="db")
        entered = put(store, "a", app="web")
        changed = put(store, "a", app="web", more="1")
        left = put(store, "a", app="db")
        remove(store, "a")
        hub.close()
        assert await shown(stream) == [f"ADDED a@{entered}", f"MODIFIED a@{changed}", f"DELETED a@{left}"]

    run(body())


def test_an_object_that_leaves_is_shown_as_it_was_inside() -> None:
    async def body() -> None:
        store = Store()
        hub = Hub(store)
        put(store, "a", app="web")
        stream = hub.open(THINGS, None, WatchOptions(parse_selectors("app=web", ""), initial=False))
        put(store, "a", app="db")
        hub.close()
        (chunk,) = [chunk async for chunk in stream.chunks()]
        assert json.loads(chunk)["object"]["metadata"]["labels"] == {"app": "web"}

    run(body())


def test_a_watch_may_begin_in_the_past() -> None:
    async def body() -> None:
        store = Store(history=10)
        hub = Hub(store)
        first = put(store, "a")
        second = put(store, "b")
        stream = hub.open(THINGS, None, WatchOptions(since=first, initial=False))
        third = put(store, "c")
        hub.close()
        assert await shown(stream) == [f"ADDED b@{second}", f"ADDED c@{third}"]
        for i in range(100):
            put(store, f"x{i}")
        with pytest.raises(ApiError) as error:
            hub.open(THINGS, None, WatchOptions(since=first, initial=False))
        assert (error.value.code, error.value.reason) == (410, "Expired")
        with pytest.raises(ApiError) as error:
            hub.open(THINGS, None, WatchOptions(since=store.revision + 1, initial=False))
        assert (error.value.code, error.value.reason) == (504, "Timeout")

    run(body())


def test_watch_list_marks_the_end_of_the_state_and_goes_on() -> None:
    async def body() -> None:
        store = Store()
        hub = Hub(store)
        put(store, "a")
        stream = hub.open(THINGS, None, WatchOptions(mark_initial=True, bookmarks=True))
        chunks = stream.chunks()
        state = [json.loads(line) for line in (await anext(chunks)).splitlines()]
        assert [event["type"] for event in state] == ["ADDED", "BOOKMARK"]
        mark = state[1]["object"]
        assert (mark["kind"], mark["apiVersion"]) == ("Thing", "example.com/v1")
        assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert mark["metadata"]["resourceVersion"] == str(store.revision)
        put(store, "b")
        assert json.loads(await anext(chunks))["object"]["metadata"]["name"] == "b"

    run(body())


def test_a_timeout_ends_a_watch_with_a_bookmark_of_the_present() -> None:
    async def body() -> None:
        store = Store()
        hub = Hub(store)
        other = Resource("example.com", "v1", "others", "Other")
        stream = hub.open(THINGS, None, WatchOptions(initial=False, bookmarks=True, timeout=0.01))
        store.put(other, {"metadata": {"name": "x"}})
        assert await shown(stream) == [f"BOOKMARK @{store.revision}"]

    run(body())


def test_bursts_reach_every_watch_in_order() -> None:
    async def body() -> None:
        store = Store()
        hub = Hub(store)
        streams = [hub.open(THINGS, None, LIVE) for _ in range(20)]

        async def first(stream: WatchStream, count: int) -> list[str]:
            seen: list[str] = []
            async for _, _, revision in events(stream):
                seen.append(revision)
                if len(seen) == count:
                    break
            return seen

        readers = [asyncio.ensure_future(first(stream, 500)) for stream in streams]
        revisions = []
        for i in range(500):
            revisions.append(str(put(store, f"n{i % 7}")))
            if i % 50 == 0:
                await asyncio.sleep(0)  # give way, as a server does between two requests
        assert [await reader for reader in readers] == [revisions] * len(streams)

    run(body())


def test_a_reader_that_stalls_is_cut_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BACKLOG_EVENTS", 1000)
    monkeypatch.setattr(watch, "TRIM_EVENTS", 100)

    async def body() -> None:
        store = Store()
        hub = Hub(store)
        stalled, reading = hub.open(THINGS, None, LIVE), hub.open(THINGS, None, LIVE)
        cuts: list[WatchStream] = []
        stalled.on_cut = lambda: cuts.append(stalled)
        chunks, seen = reading.chunks(), 0
        for i in range(5000):
            put(store, f"n{i % 7}")
            if i % 100 == 99:
                while seen <= i:
                    seen += (await anext(chunks)).count(b"\n")
        assert cuts == [stalled]
        assert not reading.is_cut
        assert [chunk async for chunk in stalled.chunks()] == []

    run(body())


def test_a_backlog_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BACKLOG_BYTES", 50_000)

    async def body() -> None:
        store = Store()
        stream = Hub(store).open(THINGS, None, LIVE)
        for _ in range(100):
            put(store, "a", filler="x" * 1000)
        assert stream.is_cut

    run(body())


def test_equal_watches_share_a_channel_that_ends_with_the_last() -> None:
    async def body() -> None:
        store = Store()
        hub = Hub(store)
        first, second = hub.open(THINGS, None, LIVE), hub.open(THINGS, None, LIVE)
        assert first._channel is second._channel
        first.close()
        assert hub.open(THINGS, None, LIVE)._channel is second._channel
        for stream in list(second._channel.streams):
            stream.close()
        assert hub.open(THINGS, None, LIVE)._channel is not second._channel

    run(body())


def test_the_end_of_a_cut_watch_does_not_take_a_new_channel_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BACKLOG_BYTES", 1000)

    async def body() -> None:
        store = Store()
        hub = Hub(store)
        cut = [hub.open(THINGS, None, LIVE) for _ in range(2)]
        for _ in range(100):
            put(store, "a")
        assert [stream.is_cut for stream in cut] == [True, True]
        cut[0].close()
        chunks = hub.open(THINGS, None, LIVE).chunks()
        cut[1].close()
        put(store, "b")
        assert b'"name":"b"' in await anext(chunks)

    run(body())


def test_connections_that_stall_or_go_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over real sockets: the stalled client finds its stream cut off, the one that leaves is forgotten."""
    monkeypatch.setattr(watch, "BACKLOG_BYTES", 2**20)

    async def body() -> None:
        api = new_cluster()
        hub = Hub(api.store)
        forgotten = asyncio.Event()
        forget = hub.forget

        def forget_and_tell(channel: Channel) -> None:
            forget(channel)
            forgotten.set()

        monkeypatch.setattr(hub, "forget", forget_and_tell)
        loop = asyncio.get_running_loop()
        faults = Faults()
        handler = Handler(api, hub, faults, Control(api, faults, Certificate()), "", guarded=False)
        listener = await loop.create_server(make_server(handler), "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        connections = [await asyncio.open_connection("127.0.0.1", port, limit=limit) for limit in (2**16, 2**20)]
        (stalled, stalled_writer), (leaving, leaving_writer) = connections
        for reader, writer in connections:
            writer.write(b"GET /api/v1/configmaps?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
        resource = api.registry.find("", "v1", "configmaps")
        assert resource is not None
        made = json.loads(api.create(resource, "default", {"metadata": {"name": "a"}}))
        (channel,) = hub._channels[resource.key].values()
        streams = set(channel.streams)
        assert len(streams) == 2
        while not any(stream.is_cut for stream in streams):
            api.store.put(resource, made | {"data": {"x": "y" * 100_000}})
            await leaving.readuntil(b"}}\n")
        await forgotten.wait()  # the handler of the cut watch has ended
        assert len(channel.streams) == 1
        forgotten.clear()
        leaving_writer.close()
        await forgotten.wait()
        assert not hub._channels[resource.key]
        got = await stalled.read()
        assert got, "the kernel still delivers what it had taken"
        assert not got.endswith(b"0\r\n\r\n"), "a cut stream must not look complete"
        stalled_writer.close()
        listener.close()

    run(body())
