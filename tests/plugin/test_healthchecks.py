# SPDX-License-Identifier: Apache-2.0
"""Each assertion about health checks can hold, and can fail, with a sentence that says by what."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from clusters.api import HttpAnswer
from plugins.flows import ViolationError
from plugins.healthchecks import WEIGHT, HealthChecks, ask_every_node, ask_every_proxy
from plugins.record import Record
from plugins.settle import Deadlines, Settler
from plugins.world import World
from tests.plugin.fake_cluster import FakeCluster
from tests.plugin.fake_proxy import FakeProxy


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeCluster(3, 4, lies=frozenset(), seed=1, directory=tmp_path) as cluster:
        settler = Settler(cluster, FakeProxy(cluster, "ordered"), Deadlines())
        made = World(cluster, settler, families=("IPv4", "IPv6"), probe_timeout=1.0, after_settling=lambda: None)
        made.record = Record("topic.what", "core", "It MUST be so.", "test", {})
        yield made


@pytest.fixture
def checks(world: World) -> HealthChecks:
    service = world.service(kind="LoadBalancer", endpoints=world.backends(1), externalTrafficPolicy="Local")
    return ask_every_node(world, world.vantage("outside"), service, "IPv4")


def answered(checks: HealthChecks, which: int, answer: HttpAnswer | None) -> HealthChecks:
    """The same checks, one node's answer (counted from 0) another."""
    changed = list(checks.checks)
    changed[which] = replace(changed[which], answer=answer)
    return HealthChecks(tuple(changed))


def test_true_answers_are_accepted_and_recorded(world: World, checks: HealthChecks) -> None:
    checks.must_be_what_the_model_says()
    checks.must_count_local_endpoints()
    assert [check.status for check in checks] == [200, 503, 503]
    assert world.record.observed == "node-a HTTP 200, node-b HTTP 503, node-c HTTP 503"
    assert world.record.expected is not None
    assert "1 ready endpoints on node-a\noutcome: HTTP 200" in world.record.expected


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (HttpAnswer(200, {}, "{}"), "node-b HTTP 200, but should be 503"),
        (None, "node-b no answer, but should be 503"),
    ],
)
def test_a_wrong_status_is_a_violation(checks: HealthChecks, answer: HttpAnswer | None, sentence: str) -> None:
    with pytest.raises(ViolationError, match=sentence):
        answered(checks, 1, answer).must_be_what_the_model_says()


def test_an_answer_where_there_must_be_none_is_a_violation(world: World) -> None:
    service = world.service(kind="LoadBalancer", endpoints=world.backends(1), externalTrafficPolicy="Local")
    vantage = world.vantage("outside")
    ask_every_node(world, vantage, service, "IPv6").must_be_what_the_model_says()
    service.change(externalTrafficPolicy="Cluster", healthCheckNodePort=None)
    closed = ask_every_node(world, vantage, service, "IPv6")
    closed.must_be_what_the_model_says()
    with pytest.raises(ViolationError, match="node-a HTTP 503, but should be no answer"):
        answered(closed, 0, HttpAnswer(503, {}, "")).must_be_what_the_model_says()


@pytest.mark.parametrize("body", ['{"localEndpoints": 2}', '{"localEndpoints": null}', "[]", "not JSON", ""])
def test_a_wrong_count_is_a_violation(checks: HealthChecks, body: str) -> None:
    with pytest.raises(ViolationError, match=r"node-a says .* but should say localEndpoints 1"):
        answered(checks, 0, HttpAnswer(200, {}, body)).must_count_local_endpoints()


def test_a_wrong_weight_is_a_violation(checks: HealthChecks) -> None:
    checks.must_give_the_weight()
    with pytest.raises(ViolationError, match="node-a gives the weight 2, but should give 1"):
        answered(checks, 0, HttpAnswer(200, {WEIGHT: "2"}, "")).must_give_the_weight()
    with pytest.raises(ViolationError, match="node-b gives the weight None, but should give 0"):
        answered(checks, 1, None).must_give_the_weight()


TRUE_BODY = '{"service": {"namespace": "default", "name": "svc-1"}}'


@pytest.mark.parametrize(
    ("kind", "body", "names_it", "is_json"),
    [
        ("application/json", TRUE_BODY, True, True),
        ("text/plain", TRUE_BODY, False, False),
        ("application/json", TRUE_BODY.replace("svc-1", "svc-2"), False, True),
        ("application/json", "[]", False, False),
        ("application/json", "ok", False, False),
    ],
)
def test_what_does_not_name_the_service_or_is_no_json(
    checks: HealthChecks, kind: str, body: str, *, names_it: bool, is_json: bool
) -> None:
    checks.must_name_the_service()
    checks.must_be_json()
    changed = answered(checks, 2, HttpAnswer(503, {"content-type": kind}, body))
    for holds, question in ((names_it, changed.must_name_the_service), (is_json, changed.must_be_json)):
        with nullcontext() if holds else pytest.raises(ViolationError, match="node-c says"):
            question()


def test_nobody_answers_for_a_deleted_service(world: World) -> None:
    service = world.service(kind="LoadBalancer", endpoints=world.backends(1), externalTrafficPolicy="Local")
    vantage = world.vantage("outside")
    ask_every_node(world, vantage, service, "IPv4").must_be_what_the_model_says()
    service.delete()
    closed = ask_every_node(world, vantage, service, "IPv4")
    closed.must_be_what_the_model_says()
    with pytest.raises(ViolationError, match="node-a HTTP 200, but should be no answer"):
        answered(closed, 0, HttpAnswer(200, {}, "")).must_be_what_the_model_says()


def test_a_proxy_tells_of_its_node(world: World) -> None:
    node = world.node_at("second")
    assert not ask_every_proxy(world, "/healthz").wrong()
    with world.tainted(node, "ToBeDeletedByClusterAutoscaler"):
        ask_every_proxy(world, "/healthz", leaving=node).must_be_what_the_model_says()
        ask_every_proxy(world, "/livez", leaving=node).must_be_what_the_model_says()
        wrong = ask_every_proxy(world, "/healthz").wrong()
    assert wrong == {"node node-b": "node-b HTTP 503, but should be 200"}
    assert not ask_every_proxy(world, "/healthz").wrong()


def test_no_answer_counts_nothing(checks: HealthChecks) -> None:
    with pytest.raises(ViolationError, match="node-a says 'nothing'"):
        answered(checks, 0, None).must_count_local_endpoints()
