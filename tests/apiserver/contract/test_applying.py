# SPDX-License-Identifier: Apache-2.0
"""Server-side apply: who owns which field, and what happens when two want the same."""

from typing import Any

import pytest

from tests.apiserver.contract.objects import add, config_map, path, service
from tests.apiserver.contract.servers import APPLY, MERGE, Answer, Standing


def apply(server: Standing, where: str, obj: dict[str, Any], manager: str, **query: str) -> Answer:
    return server.call("PATCH", where, obj, APPLY, fieldManager=manager, **query)


def owners(answer: Answer) -> dict[tuple[str, str], Any]:
    """What the object says each manager owns, by name and operation."""
    return {(one["manager"], one["operation"]): one["fieldsV1"] for one in answer.metadata["managedFields"]}


@pytest.fixture
def where(namespace: str) -> str:
    return path(namespace, name="a")


def test_it_creates_what_is_not_there(server: Standing, where: str) -> None:
    made = apply(server, where, config_map("a", {"x": "1"}), "one").must_be(201)
    assert made["data"] == {"x": "1"}
    assert owners(made) == {("one", "Apply"): {"f:data": {"f:x": {}}}}


def test_the_same_again_changes_nothing(server: Standing, where: str) -> None:
    made = apply(server, where, config_map("a", {"x": "1"}), "one").must_be(201)
    again = apply(server, where, config_map("a", {"x": "1"}), "one").must_be(200)
    assert again.body == made.body


def test_a_conflict_names_field_and_owner(server: Standing, where: str) -> None:
    made = apply(server, where, config_map("a", {"x": "1", "y": "1"}), "one").must_be(201)
    refused = apply(server, where, config_map("a", {"x": "2", "z": "2"}), "two").must_be_refused(409, "Conflict")
    (cause,) = refused["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.x")
    assert 'conflict with "one"' in cause["message"]
    assert server.call("GET", where).body == made.body


def test_force_takes_the_field_over(server: Standing, where: str) -> None:
    apply(server, where, config_map("a", {"x": "1", "y": "1"}), "one").must_be(201)
    forced = apply(server, where, config_map("a", {"x": "2"}), "two", force="true").must_be(200)
    assert forced["data"] == {"x": "2", "y": "1"}
    assert owners(forced) == {
        ("one", "Apply"): {"f:data": {"f:y": {}}},
        ("two", "Apply"): {"f:data": {"f:x": {}}},
    }


def test_agreeing_is_sharing(server: Standing, where: str) -> None:
    apply(server, where, config_map("a", {"x": "1"}), "one").must_be(201)
    shared = apply(server, where, config_map("a", {"x": "1"}), "two").must_be(200)
    assert owners(shared) == {(name, "Apply"): {"f:data": {"f:x": {}}} for name in ("one", "two")}
    left = apply(server, where, config_map("a"), "one").must_be(200)
    assert left["data"] == {"x": "1"}, "the other one still wants it"


def test_what_its_owner_leaves_out_goes(server: Standing, where: str) -> None:
    apply(server, where, config_map("a", {"x": "1", "y": "1"}), "one").must_be(201)
    left = apply(server, where, config_map("a", {"y": "1"}), "one").must_be(200)
    assert left["data"] == {"y": "1"}


def test_other_writers_own_what_they_write(server: Standing, where: str) -> None:
    apply(server, where, config_map("a", {"x": "1"}), "one").must_be(201)
    server.call("PATCH", where, {"data": {"x": "2"}}, MERGE, fieldManager="editor").must_be(200)
    refused = apply(server, where, config_map("a", {"x": "1"}), "one").must_be_refused(409, "Conflict")
    assert 'conflict with "editor" using v1' in refused["message"]


def test_lists_of_keyed_elements_merge(server: Standing, namespace: str) -> None:
    where = path(namespace, "services", "a")
    one = service("a", ports=[{"name": "one", "port": 1, "protocol": "TCP"}])
    two = service("a", ports=[{"name": "two", "port": 2, "protocol": "TCP"}])
    apply(server, where, one, "one").must_be(201)
    both = apply(server, where, two, "two").must_be(200)
    assert {port["name"] for port in both["spec"]["ports"]} == {"one", "two"}
    del two["spec"]["ports"]
    left = apply(server, where, two, "two").must_be(200)
    assert [port["name"] for port in left["spec"]["ports"]] == ["one"]


def test_status_has_owners_of_its_own(server: Standing, namespace: str) -> None:
    where = path(namespace, "services", "a")
    add(server, path(namespace, "services"), service("a", type="LoadBalancer"))
    status = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}
    status["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    changed = apply(server, f"{where}/status", status, "balancer").must_be(200)
    assert changed["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.1"
    entry = next(one for one in changed.metadata["managedFields"] if one["manager"] == "balancer")
    assert entry["subresource"] == "status"


@pytest.mark.parametrize(
    ("change", "query", "code"),
    [
        ({}, {}, 422),
        ({"kind": ""}, {"fieldManager": "one"}, 400),
        ({"kind": "Secret"}, {"fieldManager": "one"}, 400),
        ({"metadata": {"name": "other"}}, {"fieldManager": "one"}, 400),
        ({"metadata": {"name": "a", "managedFields": [{}]}}, {"fieldManager": "one"}, 400),
        ({"noSuchField": 1}, {"fieldManager": "one"}, 500),
    ],
    ids=str,
)
def test_configurations_that_cannot_be_applied(
    server: Standing, where: str, change: dict[str, Any], query: dict[str, str], code: int
) -> None:
    refused = server.call("PATCH", where, config_map("a") | change, APPLY, **query).must_be(code)
    assert refused["message"]
    server.call("GET", where).must_be_refused(404, "NotFound")


def test_a_dry_run_tells_of_the_conflict_and_leaves_nothing(server: Standing, where: str) -> None:
    apply(server, where, config_map("a", {"x": "1"}), "one", dryRun="All").must_be(201)
    server.call("GET", where).must_be_refused(404, "NotFound")
    made = apply(server, where, config_map("a", {"x": "1"}), "one").must_be(201)
    apply(server, where, config_map("a", {"x": "2"}), "two", dryRun="All").must_be_refused(409, "Conflict")
    apply(server, where, config_map("a", {"x": "2"}), "one", dryRun="All").must_be(200)
    assert server.call("GET", where).body == made.body


def test_an_applied_configuration_may_be_yaml(server: Standing, where: str) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  when: '2026-01-01'\n"
    made = server.call("PATCH", where, text, APPLY, fieldManager="one").must_be(201)
    assert made["data"] == {"when": "2026-01-01"}
