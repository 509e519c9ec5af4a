# SPDX-License-Identifier: Apache-2.0
"""Watches, as informers open them: from a list, from nothing, from too far back; and WatchList."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.apiserver.conftest import Watch
from tests.apiserver.contract.objects import (
    add,
    config_map,
    definition,
    endpoint_slice,
    gadget,
    path,
    service,
    slices,
)
from tests.apiserver.contract.servers import MERGE, Standing

WATCH_LIST = {
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
    "resourceVersion": "",
    "allowWatchBookmarks": "true",
}
INITIAL_END = "k8s.io/initial-events-end"


def version(server: Standing, where: str) -> str:
    found: str = server.call("GET", where).must_be(200).metadata["resourceVersion"]
    return found


def until_bookmark(frames: Iterator[dict[str, Any]]) -> tuple[list[str], dict[str, Any]]:
    """The names that come before the first bookmark, and its object."""
    names: list[str] = []
    for frame in frames:
        if frame["type"] == "BOOKMARK":
            return names, frame["object"]
        assert frame["type"] == "ADDED"
        names.append(frame["object"]["metadata"]["name"])
    raise AssertionError("the stream ended without a bookmark")


def test_from_a_list_every_change_in_order(server: Standing, namespace: str) -> None:
    add(server, path(namespace), config_map("before"))
    since = version(server, path(namespace))
    with server.watch(path(namespace), resourceVersion=since) as watch:
        assert watch.response.status == 200
        assert watch.response.getheader("Content-Type") == "application/json"
        add(server, path(namespace), config_map("a"))
        server.call("PATCH", path(namespace, name="a"), {"data": {"x": "1"}}, MERGE).must_be(200)
        server.call("DELETE", path(namespace, name="before")).must_be(200)
        server.call("DELETE", path(namespace, name="a")).must_be(200)
        assert watch.take(4) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "before"), ("DELETED", "a")]


def test_versions_only_grow(server: Standing, namespace: str) -> None:
    since = version(server, path(namespace))
    with server.watch(path(namespace), resourceVersion=since) as watch:
        add(server, path(namespace), *(config_map(f"c-{i}") for i in range(20)))
        frames = iter(watch)
        versions = [int(next(frames)["object"]["metadata"]["resourceVersion"]) for _ in range(20)]
    assert versions == sorted(set(versions))
    assert versions[0] > int(since)


def test_a_deleted_object_carries_the_version_of_its_end(server: Standing, namespace: str) -> None:
    (made,) = add(server, path(namespace), config_map("a", {"x": "1"}))
    with server.watch(path(namespace), resourceVersion=made.metadata["resourceVersion"]) as watch:
        server.call("DELETE", path(namespace, name="a")).must_be(200)
        frame = next(iter(watch))
    assert (frame["type"], frame["object"]["data"]) == ("DELETED", {"x": "1"})
    assert int(frame["object"]["metadata"]["resourceVersion"]) > int(made.metadata["resourceVersion"])


@pytest.mark.parametrize("since", ["0", ""])
def test_without_a_version_the_state_comes_first(server: Standing, namespace: str, since: str) -> None:
    add(server, path(namespace), config_map("a"), config_map("b"))
    with server.watch(path(namespace), resourceVersion=since) as watch:
        assert sorted(watch.take(2)) == [("ADDED", "a"), ("ADDED", "b")]
        add(server, path(namespace), config_map("c"))
        assert watch.take(1) == [("ADDED", "c")]


def test_a_watch_list(server: Standing, namespace: str) -> None:
    """As client-go's reflectors open it: state, a bookmark that says so, and then what happens."""
    add(server, slices(namespace), endpoint_slice("a"), endpoint_slice("b"))
    with server.watch(slices(namespace), **WATCH_LIST) as watch:
        names, mark = until_bookmark(iter(watch))
        assert sorted(names) == ["a", "b"]
        assert (mark["kind"], mark["apiVersion"]) == ("EndpointSlice", "discovery.k8s.io/v1")
        assert mark["metadata"]["annotations"] == {INITIAL_END: "true"}
        assert int(mark["metadata"]["resourceVersion"]) > 0
        server.call("DELETE", slices(namespace, "a")).must_be(200)
        assert watch.take(1) == [("DELETED", "a")]


def test_a_watch_list_of_nothing(server: Standing, namespace: str) -> None:
    with server.watch(path(namespace), **WATCH_LIST) as watch:
        names, mark = until_bookmark(iter(watch))
    assert names == []
    assert mark["metadata"]["annotations"] == {INITIAL_END: "true"}


def test_kube_proxy_s_own_watch_list(server: Standing, namespace: str) -> None:
    other = service("other", labels={"service.kubernetes.io/service-proxy-name": "x"})
    add(server, path(namespace, "services"), service("seen"), other, service("headless", clusterIP="None"))
    query = WATCH_LIST | {
        "labelSelector": "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name",
        "fieldSelector": "spec.clusterIP!=None",
    }
    with server.watch(path(namespace, "services"), **query) as watch:
        names, _ = until_bookmark(iter(watch))
        assert names == ["seen"]
        taken = {"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": "x"}}}
        server.call("PATCH", path(namespace, "services", "seen"), taken, MERGE).must_be(200)
        assert watch.take(1) == [("DELETED", "seen")]


def test_entering_and_leaving_a_selection(server: Standing, namespace: str) -> None:
    since = version(server, path(namespace))
    with server.watch(path(namespace), resourceVersion=since, labelSelector="in=yes") as watch:
        add(server, path(namespace), config_map("a"))
        for value in ("yes", "yes ", "no"):
            body = {"metadata": {"labels": {"in": value.strip()}, "annotations": {"v": value}}}
            server.call("PATCH", path(namespace, name="a"), body, MERGE).must_be(200)
        server.call("DELETE", path(namespace, name="a")).must_be(200)
        add(server, path(namespace), config_map("end", labels={"in": "yes"}))
        seen = watch.take(4)
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "end")]


def test_one_object_by_name(server: Standing, namespace: str) -> None:
    """As kubectl waits for a deletion."""
    (made, _) = add(server, path(namespace), config_map("a"), config_map("b"))
    query = {"fieldSelector": "metadata.name=a", "resourceVersion": made.metadata["resourceVersion"]}
    with server.watch(path(namespace), **query) as watch:
        server.call("DELETE", path(namespace, name="b")).must_be(200)
        server.call("DELETE", path(namespace, name="a")).must_be(200)
        assert watch.take(1) == [("DELETED", "a")]


def test_nothing_is_told_where_nothing_happened(server: Standing, namespace: str) -> None:
    (made,) = add(server, path(namespace), config_map("a", {"x": "1"}))
    with server.watch(path(namespace), resourceVersion=made.metadata["resourceVersion"]) as watch:
        server.call("PATCH", path(namespace, name="a"), {"data": {"x": "1"}}, MERGE).must_be(200)
        server.call("PATCH", path(namespace, name="a"), {"data": {"x": "2"}}, MERGE, dryRun="All").must_be(200)
        server.call("DELETE", path(namespace, name="a"), dryRun="All").must_be(200)
        add(server, path("default"), config_map(namespace))
        add(server, path(namespace), config_map("b"))
        assert watch.take(1) == [("ADDED", "b")]
    server.call("DELETE", path("default", name=namespace)).must_be(200)


def test_a_finalizer_s_end_is_told(server: Standing, namespace: str) -> None:
    (made,) = add(server, path(namespace), config_map("a", finalizers=["example.org/wait"]))
    with server.watch(path(namespace), resourceVersion=made.metadata["resourceVersion"]) as watch:
        server.call("DELETE", path(namespace, name="a")).must_be(200)
        server.call("PATCH", path(namespace, name="a"), {"metadata": {"finalizers": []}}, MERGE).must_be(200)
        assert watch.take(2) == [("MODIFIED", "a"), ("DELETED", "a")]


def test_a_timeout_ends_a_watch_cleanly(server: Standing, namespace: str) -> None:
    add(server, path(namespace), config_map("a"))
    with server.watch(path(namespace), timeoutSeconds="1", allowWatchBookmarks="true") as watch:
        said = watch.response.read()  # an end that is none raises
    kinds = [json.loads(line)["type"] for line in said.splitlines()]
    assert [kind for kind in kinds if kind != "BOOKMARK"] == ["ADDED"]


def test_what_is_forgotten_is_gone(server: Standing, namespace: str) -> None:
    """410 inside a successful stream: what makes an informer list again."""
    group = f"{namespace}.example.org"
    root = server.define(definition(group))
    where = f"{root}/namespaces/{namespace}/gadgets"
    add(server, where, gadget(group, "a"))
    with server.watch(where, resourceVersion="1") as watch:
        assert watch.response.status == 200
        (frame,) = list(watch)
    told = frame["object"]
    assert (frame["type"], told["kind"], told["code"]) == ("ERROR", "Status", 410)
    assert told["reason"] in ("Expired", "Gone")


def test_many_watches_see_the_same(server: Standing, namespace: str) -> None:
    since = version(server, path(namespace))
    watches: list[Watch] = [server.watch(path(namespace), resourceVersion=since) for _ in range(10)]
    add(server, path(namespace), *map(config_map, "abc"))
    seen = {tuple(watch.take(3)) for watch in watches}
    for watch in watches:
        watch.__exit__()
    assert seen == {(("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c"))}


@pytest.mark.parametrize(("form", "kind"), [("Table", "Table"), ("PartialObjectMetadata", "PartialObjectMetadata")])
def test_a_watch_in_another_form(server: Standing, namespace: str, form: str, kind: str) -> None:
    accept = {"Accept": f"application/json;as={form};v=v1;g=meta.k8s.io"}
    since = version(server, path(namespace, "services"))
    with server.watch(path(namespace, "services"), accept, resourceVersion=since) as watch:
        add(server, path(namespace, "services"), service("a"))
        frame = next(iter(watch))
    assert (frame["type"], frame["object"]["kind"]) == ("ADDED", kind)
