# SPDX-License-Identifier: Apache-2.0
"""The second opinion: when it is asked for, what of it contradicts the model, and what a run says of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clusters.api import Vantage
from dataplane_ref.model import ClusterState, Endpoint, SourceRule, Verdict
from dataplane_ref.model.verdict import either
from dataplane_ref.oracle.answer import Answer, NoRoomError, Question
from plugins.oracle import DisagreementError, SecondOpinion, disagreement, question
from plugins.settle import Deadlines, Settler
from plugins.world import World
from tests.plugin.fake_cluster import FakeCluster
from tests.plugin.fake_oracle import FakeOracle
from tests.plugin.fake_proxy import FakeProxy
from tests.plugin.runs import EVERY_FEATURE, Finished, runs

ONE, TWO, NODE = "10.244.0.2", "10.244.1.2", "172.18.0.10"
POD = SourceRule("client", frozenset({"10.244.0.4"}), "the client's own address")
ANSWERED = Verdict(
    frozenset({"reply"}), {Endpoint(ONE, 8080): POD, Endpoint(TWO, 8080): POD}, "default/svc-1:http", "ready"
)
REFUSED = Verdict(frozenset({"refused"}), {}, "default/svc-1:http", "no usable endpoint")
DROPPED = Verdict(frozenset({"timeout"}), {}, "default/svc-1:http", "Local policy")
NO_SERVICE = Verdict(frozenset({"refused", "unreachable", "timeout"}), {}, None, "not proxied")
BOTH = frozenset({(ONE, 8080), (TWO, 8080)})


@pytest.mark.parametrize(
    ("verdict", "answer", "problem"),
    [
        (ANSWERED, Answer("reply", BOTH, {(ONE, 8080): "10.244.0.4"}), None),
        (ANSWERED, Answer("reply", BOTH), None),
        (ANSWERED, Answer("refused"), "the oracle's refused is not among reply"),
        (ANSWERED, Answer("passed"), "the oracle's passed is not among reply"),
        (
            ANSWERED,
            Answer("reply", BOTH | {("fd00::2", 8080)}),
            "the oracle would choose [fd00::2]:8080",
        ),
        (ANSWERED, Answer("reply", frozenset({(ONE, 8080)})), "the oracle would never choose 10.244.1.2:8080"),
        (
            ANSWERED,
            Answer("reply", BOTH, {(ONE, 8080): "10.244.0.4", (TWO, 8080): NODE}),
            "with the oracle 10.244.1.2:8080 would see 172.18.0.10",
        ),
        (REFUSED, Answer("refused"), None),
        (REFUSED, Answer("dropped"), "the oracle's dropped is not among refused"),
        (DROPPED, Answer("dropped", reason="DROPPED_EXTERNAL_LOCAL"), None),
        (DROPPED, Answer("refused"), "the oracle's refused is not among timeout"),
        (DROPPED, Answer("reply", BOTH), "the oracle's reply is not among timeout"),
        (NO_SERVICE, Answer("passed"), None),
        (NO_SERVICE, Answer("refused"), None),
        (NO_SERVICE, Answer("reply", BOTH), "the oracle's reply is not among refused or timeout or unreachable"),
        # Where several behaviours are allowed, the reference has one of them.
        (either(ANSWERED, NO_SERVICE), Answer("passed"), None),
        (either(ANSWERED, DROPPED), Answer("dropped"), None),
        (either(ANSWERED, DROPPED), Answer("reply", frozenset({(ONE, 8080)})), None),
        (either(ANSWERED, DROPPED), Answer("refused"), "the oracle's refused is not among reply or timeout"),
    ],
)
def test_the_answer_has_to_lie_within_the_verdict(verdict: Verdict, answer: Answer, problem: str | None) -> None:
    assert disagreement(verdict, answer) == problem


def test_two_verdicts_that_are_the_same_leave_no_choice() -> None:
    assert not either(ANSWERED, ANSWERED).is_choice
    assert either(ANSWERED, DROPPED).is_choice


@pytest.fixture
def oracle() -> FakeOracle:
    return FakeOracle(contradicts=False)


@pytest.fixture
def world(oracle: FakeOracle, tmp_path: Path) -> Iterator[World]:
    """A world with a second opinion."""
    with FakeCluster(3, 4, lies=frozenset(), seed=0, directory=tmp_path) as cluster:
        settler = Settler(cluster, FakeProxy(cluster, "ordered"), Deadlines())
        yield World(
            cluster,
            settler,
            families=("IPv4", "IPv6"),
            probe_timeout=1.0,
            after_settling=lambda: None,
            oracle=SecondOpinion(lambda: oracle),
        )


def test_the_same_question_is_asked_once_until_something_changes(world: World, oracle: FakeOracle) -> None:
    service = world.service(endpoints=world.backends(2))
    frontend, protocol = service.every_cluster_ip()[0]
    prober = world.vantage("pod@first")
    for _ in range(3):
        prober.open(frontend, protocol)
    assert (oracle.states, oracle.questions) == (1, 1)
    assert world.record.oracle_asked
    service.set_endpoints(world.backends(1))
    prober.open(frontend, protocol)
    world.vantage("node@second").open(frontend, protocol)
    assert (oracle.states, oracle.questions) == (2, 3)


def test_scouts_that_only_wait_do_not_ask(world: World, oracle: FakeOracle) -> None:
    world.service(endpoints=world.backends(2))
    world.settle("converge")
    assert oracle.questions == 0


def test_a_contradiction_is_one_sentence_that_names_both(world: World) -> None:
    service = world.service(endpoints=world.backends(1))
    frontend, protocol = service.every_cluster_ip()[0]
    asked = SecondOpinion(lambda: FakeOracle(contradicts=True))
    vantage = world.vantage("pod@first").vantage
    judged = world.modelled(vantage, frontend, protocol)
    with pytest.raises(DisagreementError) as caught:
        asked.agrees(world.state(), question(vantage, None, None, frontend.ip, frontend.port, protocol), judged)
    told = str(caught.value)
    assert told.startswith(f"plumbline contradicts itself about TCP from {vantage.addresses['IPv4']} to ")
    assert "the oracle's dropped is not among reply; the oracle says dropped at node-a (DROPPED_INCONSISTENT)" in told
    assert "and the model default/svc-" in told
    assert "\n" not in told


def test_why_there_is_none_is_asked_once() -> None:
    calls = []

    def load() -> FakeOracle:
        calls.append(1)
        raise LookupError("BPF needs root")

    opinion = SecondOpinion(load)
    unused = Question("pod", "node-a", ONE, TWO, 80, "TCP")
    for _ in range(2):
        assert not opinion.agrees(ClusterState((), (), ()), unused, ANSWERED)
    assert (opinion.missing, opinion.asked, len(calls)) == ("BPF needs root", 0, 1)


def test_what_it_cannot_hold_it_is_not_asked(world: World) -> None:
    class Small(FakeOracle):
        def ask(self, question: Question) -> Answer:
            if question.port == 80:
                raise NoRoomError("the map `endpoints` is full")
            return super().ask(question)

    opinion = SecondOpinion(lambda: Small(contradicts=False))
    large = Question("pod", "node-a", ONE, "192.0.2.1", 80, "TCP")
    assert not opinion.agrees(world.state(), large, NO_SERVICE)
    assert (opinion.asked, opinion.missing) == (0, "the map `endpoints` is full")
    assert opinion.agrees(world.state(), replace(large, port=81), NO_SERVICE)


def test_who_was_loaded_is_closed_once(world: World, oracle: FakeOracle) -> None:
    opinion = SecondOpinion(lambda: oracle)
    opinion.close()
    assert oracle.closed == 0
    asked = Question("pod", "node-a", ONE, "192.0.2.1", 80, "TCP")
    assert opinion.agrees(world.state(), asked, NO_SERVICE)
    opinion.close()
    opinion.close()
    assert oracle.closed == 1


def test_a_process_that_dials_its_own_node_comes_from_the_address_it_dials(world: World) -> None:
    node = world.nodes[1]
    asked = [
        question(node.vantage, node, None, ip, 30000, "TCP")
        for ip in ("127.0.0.1", "::1", *node.addresses.values(), *node.second_addresses.values(), "10.96.0.1")
    ]
    assert [one.source for one in asked[:-1]] == [one.destination for one in asked[:-1]]
    assert asked[-1] == Question("process", "node-b", node.addresses["IPv4"], "10.96.0.1", 30000, "TCP")


def test_what_comes_from_outside_says_where_it_arrives(world: World) -> None:
    outside = world.vantage("outside").vantage
    assert isinstance(outside, Vantage)
    asked = question(outside, None, "node-b", "198.18.1.1", 80, "UDP")
    assert asked == Question("outside", "node-b", outside.addresses["IPv4"], "198.18.1.1", 80, "UDP")


# In a whole run.


@runs(EVERY_FEATURE, "--oracle=agrees")
def test_a_run_says_how_often_it_was_asked(finished: Finished) -> None:
    assert finished.status == 0, finished.out[-3000:]
    asked = [one for one in finished.records if one["oracle_asked"]]
    line = next(line for line in finished.lines if line.startswith("oracle: "))
    words = line.split()
    assert words[:2] == ["oracle:", "asked"]
    assert int(words[2]) >= int(words[5]) == len(asked) > len(finished.records) // 2


@runs(EVERY_FEATURE, "--oracle=agrees", "-n", "2", "-k", "clusterip and reach")
def test_workers_asks_are_added_up(finished: Finished) -> None:
    line = next(line for line in finished.lines if line.startswith("oracle: asked "))
    assert line.endswith(f" in {len(finished.records)} tests")


@runs(EVERY_FEATURE, "-k", "hairpin")
def test_a_run_without_it_says_why(finished: Finished) -> None:
    assert "oracle: not asked: the machine is a fake" in finished.lines
    assert not any(one["oracle_asked"] for one in finished.records)


@runs(EVERY_FEATURE, "--oracle=contradicts", "-k", "hairpin")
def test_a_contradiction_is_an_error_of_plumbline(finished: Finished) -> None:
    assert finished.status == 3
    assert finished.ids("unknown")
    assert not finished.ids("fail")
    assert not finished.has_traceback()
    assert "plumbline contradicts itself about TCP from " in finished.out
    for record in finished.records:
        if record["outcome"] == "unknown":
            assert record["reason"].startswith("plumbline contradicts itself about ")
