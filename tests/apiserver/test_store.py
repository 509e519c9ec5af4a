# SPDX-License-Identifier: Apache-2.0
"""The store: order, revisions, the bounded history and the snapshots made from it."""

import json

import pytest

from clusters.apiserver.kinds import Resource
from clusters.apiserver.selectors import parse_selectors
from clusters.apiserver.store import Change, HistoryGoneError, Selection, Store, Stored

THINGS = Resource("example.com", "v1", "things", "Thing", indexed=("spec.colour",))


def thing(name: str, namespace: str = "default", colour: str = "red", **labels: str) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": {"colour": colour}}


def put(store: Store, name: str, namespace: str = "default", colour: str = "red", **labels: str) -> Stored:
    return store.put(THINGS, thing(name, namespace, colour, **labels))


def names(stored: object) -> list[str]:
    return [one.key for one in stored]  # type: ignore[attr-defined]


def test_every_change_gets_the_next_revision() -> None:
    store = Store()
    first = put(store, "a")
    second = put(store, "a", colour="blue")
    gone = store.remove(THINGS, second)
    assert [first.revision + 1, first.revision + 2] == [second.revision, gone.revision]
    assert json.loads(second.raw)["metadata"]["resourceVersion"] == str(second.revision)
    assert store.revision == gone.revision


def test_objects_are_listed_in_the_order_of_namespace_and_name() -> None:
    store = Store()
    for namespace, name in (("b", "x"), ("a-b", "x"), ("a", "y"), ("a", "x"), ("a.b", "x")):
        put(store, name, namespace)
    assert names(store.shelf(THINGS)) == ["a-b/x", "a.b/x", "a/x", "a/y", "b/x"]
    assert names(store.shelf(THINGS).select(Selection("a"))) == ["a/x", "a/y"]


def test_a_selection_filters_by_namespace_labels_and_fields() -> None:
    store = Store()
    put(store, "a", app="web")
    put(store, "b", app="web", colour="blue")
    put(store, "c", namespace="other", app="web")
    put(store, "d")
    selection = Selection("default", parse_selectors("app=web", "spec.colour!=blue"))
    assert names(store.shelf(THINGS).select(selection)) == ["default/a"]
    by_unindexed_field = Selection(None, parse_selectors("", "metadata.labels.app=web,metadata.namespace=other"))
    assert names(store.shelf(THINGS).select(by_unindexed_field)) == ["other/c"]


def test_a_removed_object_departs_with_the_revision_of_its_removal() -> None:
    store = Store()
    gone = store.remove(THINGS, put(store, "a", colour="blue"))
    departed = json.loads(gone.departed())
    assert departed["metadata"]["resourceVersion"] == str(gone.revision)
    assert departed["spec"] == {"colour": "blue"}


def test_the_listener_hears_of_every_change_after_it_was_applied() -> None:
    store = Store()
    heard: list[tuple[Change, int]] = []
    store.listen(lambda resource, change: heard.append((change, len(store.shelf(resource)))))
    first = put(store, "a")
    second = put(store, "a")
    store.remove(THINGS, second)
    assert [(change.old, change.new, left) for change, left in heard] == [
        (None, first, 1),
        (first, second, 1),
        (second, None, 0),
    ]


def test_changes_since_a_revision() -> None:
    store = Store()
    first = put(store, "a")
    put(store, "b")
    put(store, "c")
    changed = [change.key for change in store.shelf(THINGS).since(first.revision)]
    assert changed == ["default/b", "default/c"]
    assert store.shelf(THINGS).since(store.revision) == []


def test_a_snapshot_is_the_past() -> None:
    store = Store()
    put(store, "a", colour="red")
    removed = put(store, "b")
    then = store.revision
    put(store, "a", colour="blue")
    store.remove(THINGS, removed)
    put(store, "c")
    put(store, "b", colour="green")
    past = store.shelf(THINGS).snapshot(then)
    chosen = store.shelf(THINGS).select(Selection(), past)
    assert [(one.key, one.field("spec.colour")) for one in chosen] == [("default/a", "red"), ("default/b", "red")]


def test_the_history_is_bounded_and_says_so() -> None:
    store = Store(history=100)
    revisions = [put(store, "a", colour=str(i)).revision for i in range(200)]
    shelf = store.shelf(THINGS)
    assert [change.revision for change in shelf.since(revisions[100])] == revisions[101:]
    with pytest.raises(HistoryGoneError):
        shelf.since(revisions[0])
    with pytest.raises(HistoryGoneError):
        shelf.snapshot(revisions[0])


def test_a_history_of_one_resource_is_not_used_up_by_another() -> None:
    store = Store(history=10)
    first = put(store, "a")
    put(store, "b")
    others = Resource("example.com", "v1", "others", "Other")
    for i in range(100):
        store.put(others, thing(str(i)))
    assert [change.key for change in store.shelf(THINGS).since(first.revision)] == ["default/b"]
