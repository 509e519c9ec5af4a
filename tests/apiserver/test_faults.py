# SPDX-License-Identifier: Apache-2.0
"""Misbehaviour on purpose, over real connections: what each fault does to a client, to which, and for how long."""

import json
import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import Any

import pytest

from tests.apiserver.conftest import NODE, Server, Watch
from tests.apiserver.test_http import MERGE, add, assert_status, path

FAULTS = "/plumbline/faults"
Begin = Callable[..., str]
FOR_EVER = 3_600_000
"""Milliseconds: what is held so long comes only because the fault is ended."""


@pytest.fixture
def begin(server: Server) -> Iterator[Begin]:
    """A function that begins a fault and returns its id; all end with the test."""

    def start(fault: str, **definition: Any) -> str:
        status, made = server.call("POST", FAULTS, {"fault": fault, **definition})
        assert status == 201, made
        name: str = made["id"]
        return name

    yield start
    assert server.call("DELETE", FAULTS)[0] == 200


def end(server: Server, name: str) -> dict[str, Any]:
    """End a fault; its last state."""
    status, body = server.call("DELETE", f"{FAULTS}/{name}")
    assert status == 200
    fault: dict[str, Any] = body
    return fault


def state(server: Server, name: str) -> tuple[int, bool]:
    """How often a fault has struck, and whether it still does."""
    _, fault = server.call("GET", f"{FAULTS}/{name}")
    return fault["struck"], fault["active"]


def watch_from_now(server: Server, namespace: str, agent: str = "") -> Watch:
    """A watch of a namespace's Services that is open when this returns."""
    since = server.call("GET", path(namespace))[1]["metadata"]["resourceVersion"]
    connection = server.connect()
    headers = {"Authorization": f"Bearer {server.token}", "User-Agent": agent}
    connection.request("GET", f"{path(namespace)}?watch=1&resourceVersion={since}", headers=headers)
    return Watch(connection, connection.getresponse())


def is_silent(watch: Watch) -> bool:
    """Whether nothing has arrived on a watch, not even its end."""
    ready, _, _ = select.select([watch.response.fp], [], [], 0)
    return not ready


def rest(watch: Watch) -> list[bytes]:
    """The frames that a broken stream still brings, the last one torn. It must not look complete."""
    try:
        said = watch.response.read()
    except IncompleteRead as broken:
        return broken.partial.splitlines()
    except ConnectionError:
        return []
    raise AssertionError(f"the stream looks complete: {said!r}")


# Cut: the connection breaks.


def test_cut_breaks_open_watches_and_new_ones(server: Server, namespace: str, begin: Begin) -> None:
    with watch_from_now(server, namespace) as watch:
        fault = begin("cut", selector={"resource": "services"})
        assert rest(watch) == []
    with pytest.raises((RemoteDisconnected, ConnectionError)):
        watch_from_now(server, namespace)
    assert end(server, fault)["struck"] == 2
    with watch_from_now(server, namespace) as watch:
        add(server, namespace, "a")
        assert watch.take(1) == [("ADDED", "a")]


def test_cut_breaks_requests_without_doing_them(server: Server, namespace: str, begin: Begin) -> None:
    fault = begin("cut", selector={"verbs": ["create"]}, count=1)
    with pytest.raises((RemoteDisconnected, ConnectionError)):
        add(server, namespace, "a")
    assert state(server, fault) == (1, False)
    add(server, namespace, "a")


# Stall: nothing comes, the connection stays.


def test_stall_holds_a_watch_until_it_ends(server: Server, namespace: str, begin: Begin) -> None:
    with watch_from_now(server, namespace, "stalled") as stalled, watch_from_now(server, namespace) as other:
        fault = begin("stall", selector={"userAgent": "stalled"})
        add(server, namespace, "a", "b")
        assert other.take(2) == [("ADDED", "a"), ("ADDED", "b")]
        assert is_silent(stalled)
        end(server, fault)
        assert stalled.take(2) == [("ADDED", "a"), ("ADDED", "b")]


def test_stall_holds_a_request(server: Server, namespace: str, begin: Begin) -> None:
    add(server, namespace, "a")
    fault = begin("stall", selector={"verbs": ["list"], "userAgent": "stalled"})
    with closing(server.connect()) as connection:
        headers = {"Authorization": f"Bearer {server.token}", "User-Agent": "stalled"}
        connection.request("GET", path(namespace), headers=headers)
        await_struck(server, fault, 1)
        assert len(server.call("GET", path(namespace))[1]["items"]) == 1
        assert not select.select([connection.sock], [], [], 0)[0]
        end(server, fault)
        assert connection.getresponse().status == 200


def await_struck(server: Server, fault: str, times: int) -> None:
    deadline = time.monotonic() + 20
    while state(server, fault)[0] < times:
        assert time.monotonic() < deadline


# Delay and reorder: it comes, later or otherwise.


def test_delay_is_as_long_as_it_says(server: Server, namespace: str, begin: Begin) -> None:
    with watch_from_now(server, namespace) as watch:
        begin("delay", parameters={"milliseconds": 300})
        began = time.monotonic()
        add(server, namespace, "a")
        assert watch.take(1) == [("ADDED", "a")]
        assert time.monotonic() - began >= 0.3


def test_a_delay_that_is_ended_delivers_at_once(server: Server, namespace: str, begin: Begin) -> None:
    with watch_from_now(server, namespace) as watch:
        fault = begin("delay", parameters={"milliseconds": FOR_EVER})
        add(server, namespace, "a")
        await_struck(server, fault, 1)
        assert is_silent(watch)
        end(server, fault)
        assert watch.take(1) == [("ADDED", "a")]


def test_reorder_turns_objects_around_but_not_their_own_events(server: Server, namespace: str, begin: Begin) -> None:
    with watch_from_now(server, namespace) as watch:
        fault = begin("reorder", parameters={"milliseconds": FOR_EVER})
        add(server, namespace, "a", "b")
        server.call("PATCH", path(namespace, name="a"), {"metadata": {"labels": {"x": "y"}}}, MERGE)
        add(server, namespace, "c")
        await_struck(server, fault, 1)
        end(server, fault)
        events = watch.take(4)
    assert events == [("ADDED", "c"), ("ADDED", "b"), ("ADDED", "a"), ("MODIFIED", "a")]


# Gone: the past is forgotten.


def test_gone_ends_watches_with_an_error_that_says_so(server: Server, namespace: str, begin: Begin) -> None:
    with watch_from_now(server, namespace) as watch:
        begin("gone", count=2)
        (frame,) = list(watch)
        assert (frame["type"], frame["object"]["code"], frame["object"]["reason"]) == ("ERROR", 410, "Expired")
    with watch_from_now(server, namespace) as watch:
        (frame,) = list(watch)
        assert frame["object"]["code"] == 410
    with watch_from_now(server, namespace) as watch:
        add(server, namespace, "a")
        assert watch.take(1) == [("ADDED", "a")]


def test_gone_forgets_pages_and_versions_but_not_the_present(server: Server, namespace: str, begin: Begin) -> None:
    add(server, namespace, "a", "b")
    _, first = server.call("GET", path(namespace) + "?limit=1")
    begin("gone")
    for query in (
        f"continue={first['metadata']['continue']}",
        f"resourceVersionMatch=Exact&resourceVersion={first['metadata']['resourceVersion']}",
    ):
        assert_status(server.call("GET", f"{path(namespace)}?{query}"), 410, "Expired")
    assert len(server.call("GET", path(namespace))[1]["items"]) == 2
    with server.watch(path(namespace)) as watch:
        assert watch.take(2) == [("ADDED", "a"), ("ADDED", "b")]


# Too many requests.


def test_too_many_says_when_to_come_back_and_does_nothing(server: Server, namespace: str, begin: Begin) -> None:
    begin("too-many", parameters={"retryAfter": 7}, selector={"verbs": ["create"]}, count=1)
    with closing(server.connect()) as connection:
        headers = {"Authorization": f"Bearer {server.token}"}
        body = b'{"metadata":{"name":"a"},"spec":{"ports":[{"port":80}]}}'
        connection.request("POST", path(namespace), body, headers)
        response = connection.getresponse()
        assert (response.status, response.getheader("Retry-After")) == (429, "7")
        assert b'"reason":"TooManyRequests"' in response.read()
    assert server.call("GET", path(namespace))[1]["items"] == []
    add(server, namespace, "a")


def test_too_many_refuses_watches_too(server: Server, namespace: str, begin: Begin) -> None:
    begin("too-many", selector={"verbs": ["watch"]})
    assert_status(server.call("GET", path(namespace) + "?watch=1"), 429, "TooManyRequests")
    assert server.call("GET", path(namespace))[0] == 200


# Partial lists.


@pytest.mark.parametrize("fraction", [0, 0.5, 0.99])
def test_a_partial_list_cannot_be_taken_for_a_whole_one(
    server: Server, namespace: str, begin: Begin, fraction: float
) -> None:
    add(server, namespace, *"abcd")
    begin("partial-list", parameters={"fraction": fraction}, count=1)
    with closing(server.connect()) as connection:
        connection.request("GET", path(namespace), headers={"Authorization": f"Bearer {server.token}"})
        response = connection.getresponse()
        assert response.status == 200
        with pytest.raises((HTTPException, ConnectionError)):
            response.read()
    assert len(server.call("GET", path(namespace))[1]["items"]) == 4


def test_partial_initial_events_end_before_their_bookmark(server: Server, namespace: str, begin: Begin) -> None:
    add(server, namespace, *"abcd")
    begin("partial-list", parameters={"fraction": 0.6}, count=1)
    query = "?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    with server.watch(path(namespace) + query) as watch:
        assert watch.response.status == 200
        *whole, torn = rest(watch)
    assert [json.loads(line)["type"] for line in whole] == ["ADDED"] * len(whole)
    assert 0 < len(whole) < 4
    assert b"BOOKMARK" not in torn
    with server.watch(path(namespace) + query) as watch:
        assert len(watch.take(5)) == 5


# Whom, how often, how long.


@pytest.mark.parametrize(
    ("selector", "strikes"),
    [
        ({}, True),
        ({"resource": "services"}, True),
        ({"resource": "endpointslices"}, False),
        ({"verbs": ["list"]}, True),
        ({"verbs": ["get", "watch"]}, False),
        ({"userAgent": "kube-proxy"}, True),
        ({"userAgent": "proxy/v1"}, True),
        ({"userAgent": "kubectl"}, False),
        ({"node": NODE}, True),
        ({"node": "node-z"}, False),
        ({"resource": "services", "verbs": ["list"], "userAgent": "kube-proxy", "node": NODE}, True),
    ],
    ids=str,
)
def test_whom_a_fault_strikes(
    server: Server, namespace: str, begin: Begin, selector: dict[str, Any], strikes: bool
) -> None:
    begin("too-many", selector=selector)
    through_node = Server(server.process, server.open_port, "", server.port)
    status, _ = through_node.raw("GET", path(namespace), None, {"User-Agent": "kube-proxy/v1.37.1"})
    assert (status == 429) is strikes


def test_a_fault_counts_its_strikes_and_stops(server: Server, namespace: str, begin: Begin) -> None:
    fault = begin("too-many", count=2)
    assert [server.call("GET", path(namespace))[0] for _ in range(4)] == [429, 429, 200, 200]
    assert state(server, fault) == (2, False)


def test_a_fault_ends_by_itself(server: Server, namespace: str, begin: Begin) -> None:
    began = time.monotonic()
    fault = begin("too-many", seconds=0.3)
    assert server.call("GET", path(namespace))[0] == 429
    while server.call("GET", path(namespace))[0] == 429:
        assert time.monotonic() - began < 20
    assert time.monotonic() - began >= 0.3
    assert not state(server, fault)[1]


def test_faults_join(server: Server, namespace: str, begin: Begin) -> None:
    begin("too-many", count=1, selector={"verbs": ["list"]})
    begin("too-many", count=1, selector={"resource": "services"})
    assert [server.call("GET", path(namespace))[0] for _ in range(3)] == [429, 429, 200]


def test_faults_are_listed_read_and_deleted(server: Server, begin: Begin) -> None:
    first, second = begin("stall", selector={"resource": "nodes"}, seconds=9), begin("delay", count=3)
    _, listed = server.call("GET", FAULTS)
    assert [one["id"] for one in listed["items"]] == [first, second]
    assert listed["items"][0] == {
        "id": first,
        "fault": "stall",
        "selector": {"resource": "nodes", "verbs": ["watch"], "userAgent": "", "node": ""},
        "parameters": {},
        "count": None,
        "seconds": 9,
        "struck": 0,
        "active": True,
    }
    assert server.call("GET", f"{FAULTS}/{second}")[1]["parameters"] == {"milliseconds": 100}
    end(server, first)
    assert_status(server.call("GET", f"{FAULTS}/{first}"), 404, "NotFound")
    assert len(server.call("DELETE", FAULTS)[1]["items"]) == 1
    assert server.call("GET", FAULTS)[1]["items"] == []


# What cannot be asked.


@pytest.mark.parametrize(
    ("definition", "told"),
    [
        (None, "not JSON"),
        ([], "a fault is a JSON object"),
        ({}, "`fault` must be one of cut, stall"),
        ({"fault": "explode"}, "not 'explode'"),
        ({"fault": ["cut"]}, "must be one of"),
        ({"fault": "cut", "when": "now"}, "has no field 'when'"),
        ({"fault": "cut", "selector": []}, "JSON object"),
        ({"fault": "cut", "selector": "all"}, "JSON object"),
        ({"fault": "cut", "selector": {"pod": "a"}}, "has no field 'pod'"),
        ({"fault": "cut", "selector": {"resource": 1}}, "must be a string"),
        ({"fault": "cut", "selector": {"verbs": ["dance"]}}, "are a list of get, list"),
        ({"fault": "cut", "selector": {"verbs": "watch"}}, "are a list of"),
        ({"fault": "cut", "selector": {"verbs": [["watch"]]}}, "are a list of"),
        ({"fault": "reorder", "selector": {"verbs": ["list"]}}, "are a list of watch"),
        ({"fault": "cut", "parameters": {"milliseconds": 1}}, "has no field 'milliseconds'; it may have none"),
        ({"fault": "delay", "parameters": {"milliseconds": -1}}, "a number from 0"),
        ({"fault": "delay", "parameters": {"milliseconds": "1"}}, "a number from 0"),
        ({"fault": "delay", "parameters": {"milliseconds": 1e300}}, "a number from 0"),
        ({"fault": "partial-list", "parameters": {"fraction": 1}}, "less than 1"),
        ({"fault": "too-many", "parameters": {"retryAfter": True}}, "a number from 0"),
        ({"fault": "cut", "parameters": 3}, "JSON object"),
        ({"fault": "cut", "count": 0}, "positive number"),
        ({"fault": "cut", "count": 1.5}, "positive number"),
        ({"fault": "cut", "seconds": -1}, "positive number"),
        ({"fault": "cut", "seconds": "soon"}, "positive number"),
    ],
    ids=str,
)
def test_definitions_that_define_no_fault(server: Server, begin: Begin, definition: Any, told: str) -> None:
    assert begin is not None  # whatever would begin ends with the test
    status = assert_status(server.call("POST", FAULTS, definition), 400, "BadRequest")
    assert told in status["message"]
    assert server.call("GET", FAULTS)[1]["items"] == []


@pytest.mark.parametrize(
    ("method", "where", "code"),
    [
        ("GET", f"{FAULTS}/99999", 404),
        ("DELETE", f"{FAULTS}/99999", 404),
        ("PUT", FAULTS, 405),
        ("POST", f"{FAULTS}/1", 404),
        ("GET", f"{FAULTS}/1/2", 404),
        ("GET", "/plumbline/", 404),
        ("GET", "/plumbline/nonsense", 404),
        ("POST", "/plumbline/certificate", 405),
    ],
)
def test_paths_of_the_control(server: Server, method: str, where: str, code: int) -> None:
    status, body = server.call(method, where, {} if method in ("POST", "PUT") else None)
    assert (status, body["kind"], bool(body["message"])) == (code, "Status", True)


def test_control_needs_the_token_on_every_socket(server: Server) -> None:
    through_node = Server(server.process, server.open_port, "", server.port)
    assert through_node.raw("GET", "/api/v1/nodes", None, {})[0] == 200
    assert through_node.raw("GET", FAULTS, None, {})[0] == 401
    assert through_node.raw("POST", FAULTS, b'{"fault":"cut"}', {})[0] == 401
