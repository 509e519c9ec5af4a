# SPDX-License-Identifier: Apache-2.0
"""Each assertion about health checks can hold, and can fail, with a sentence that says by what."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clusters.api import HttpAnswer
from plugins.flows import ViolationError
from plugins.healthchecks import HealthChecks, ask_every_node
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


def test_no_answer_counts_nothing(checks: HealthChecks) -> None:
    with pytest.raises(ViolationError, match="node-a says 'nothing'"):
        answered(checks, 0, None).must_count_local_endpoints()
