# SPDX-License-Identifier: Apache-2.0
"""The metadata of requirements: what is refused, with which sentence, and what collection makes of it."""

from typing import Any

import pytest

from plugins.requirements import Requirement, everywhere, release, requirement
from plugins.selection import not_promised, undeclared, unfit
from tests.plugin.miniature import HEAD
from tests.plugin.runs import Finished, runs

COMPLETE: dict[str, Any] = {
    "id": "topic.what.it-says",
    "must": "A thing MUST be so.",
    "level": "core",
    "since": "1.26",
    "source": "https://kubernetes.io/docs/",
}
BOTH = ("affinity", "maglev")


def declared(**changes: Any) -> Requirement:
    """The requirement that a decorated test carries."""

    @requirement(**{**COMPLETE, **changes})
    def test() -> None:
        """Nothing."""

    (mark,) = test.pytestmark  # type: ignore[attr-defined]
    found: Requirement = mark.args[0]
    return found


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"id": "topic"}, "the id must be dotted lower-case words such as 'clusterip.reach.every-ready-endpoint'"),
        ({"id": ""}, "the id must be dotted lower-case words"),
        ({"id": "Topic.what"}, "the id must be dotted lower-case words"),
        ({"id": "topic.what_it"}, "the id must be dotted lower-case words"),
        ({"id": "topic..what"}, "the id must be dotted lower-case words"),
        ({"id": "topic.what-"}, "the id must be dotted lower-case words"),
        ({"id": "topic.what "}, "the id must be dotted lower-case words"),
        ({"must": None}, "give either must= or should=, one sentence"),
        ({"must": ""}, "give either must= or should=, one sentence"),
        ({"should": "It SHOULD be so."}, "give either must= or should=, one sentence"),
        ({"must": "A thing must be so."}, "the must= sentence does not say MUST"),
        ({"must": "A thing SHOULD be so."}, "the must= sentence does not say MUST"),
        ({"must": None, "should": "A thing MUST be so."}, "the should= sentence does not say SHOULD"),
        ({"level": "basic"}, "level must be one of core, extended, record, not 'basic'"),
        ({"since": "v1.26"}, "since= must be a Kubernetes release such as '1.26', not 'v1.26'"),
        ({"since": "1.26.1"}, "since= must be a Kubernetes release such as '1.26', not '1.26.1'"),
        ({"since": ""}, "since= must be a Kubernetes release such as '1.26', not ''"),
        ({"until": "soon"}, "until= must be a Kubernetes release such as '1.26', not 'soon'"),
        ({"source": "KEP-2086"}, "source= must be the https:// URL of the documentation or KEP that says so"),
        ({"source": "http://kubernetes.io/"}, "source= must be the https:// URL"),
        ({"changes": True}, "changes= says that the test changes what arrange= made, and there is no arrange="),
        ({"needs": ["luck"]}, "unknown need 'luck'; known are nodes:N, proxy-config:{…}, announcer, api-faults, "),
        ({"needs": ["nodes:0"]}, "unknown need 'nodes:0'"),
        ({"needs": ["nodes:three"]}, "unknown need 'nodes:three'"),
        ({"needs": ["proxy-config"]}, "unknown need 'proxy-config'"),
        ({"needs": "sctp"}, "needs= must be a list, not the string 'sctp'"),
        ({"upstream": "a title"}, "upstream= must be a list, not the string 'a title'"),
        ({"since": 1.26}, "since= must be a string such as '1.26', not 1.26"),
        ({"until": 1.3}, "until= must be a string such as '1.30', not 1.3"),
        ({"level": None}, "level= is missing"),
        ({"since": None}, "since= is missing"),
        ({"source": None}, "source= is missing"),
    ],
)
def test_incomplete_metadata_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(pytest.Collector.CollectError) as caught:
        declared(**changes)
    told = str(caught.value.args[0])
    assert told.startswith(f"requirement {({**COMPLETE, **changes})['id']!r}: {sentence}")
    assert "\n" not in told


def test_complete_metadata_is_carried_whole() -> None:
    found = declared(
        until="1.40",
        upstream=["a title"],
        features=["affinity"],
        needs=["nodes:3", "sctp", "proxy-config:{masqueradeAll: true}"],
        after=["topic.other"],
    )
    assert found.strength == "must"
    assert found.sentence == COMPLETE["must"]
    assert found.nodes_needed() == 3
    assert found.features == ("affinity",)
    assert found.line() == "topic.what.it-says\tcore\t1.26\tA thing MUST be so."
    assert declared(must=None, should="It SHOULD be so.").strength == "should"
    assert declared().nodes_needed() == 1


def test_an_unknown_axis_is_one_sentence() -> None:
    with pytest.raises(pytest.Collector.CollectError) as caught:
        everywhere(colour=["red"])(lambda: None)
    assert str(caught.value.args[0]) == "unknown axis 'colour'; known are vantage, protocol, family, frontend, node"


@pytest.mark.parametrize(
    ("promised", "reason"),
    [
        (None, None),
        ((1, 26), None),
        ((1, 40), None),
        ((1, 25), "holds since Kubernetes 1.26, and the proxy is 1.25"),
        ((1, 41), "held until Kubernetes 1.40, and the proxy is 1.41"),
    ],
)
def test_what_a_release_does_not_promise(promised: tuple[int, int] | None, reason: str | None) -> None:
    assert not_promised(declared(until="1.40"), promised) == reason


@pytest.mark.parametrize(
    ("features", "missing"),
    [
        (None, ()),
        (frozenset({"affinity", "maglev"}), ()),
        (frozenset({"affinity"}), ("maglev",)),
        (frozenset(), BOTH),
    ],
)
def test_what_a_proxy_does_not_declare(features: frozenset[str] | None, missing: tuple[str, ...]) -> None:
    assert undeclared(declared(features=BOTH), features) == missing


@pytest.mark.parametrize(
    ("nodes", "abilities", "reason"),
    [
        (3, {"sctp"}, None),
        (4, {"sctp", "bpf"}, None),
        (2, {"sctp"}, "needs 3 nodes, and the cluster has 2"),
        (3, set(), "the cluster lacks sctp"),
    ],
)
def test_what_a_cluster_cannot_do_is_unfit(nodes: int, abilities: set[str], reason: str | None) -> None:
    assert unfit(declared(needs=["nodes:3", "sctp"]), nodes, frozenset(abilities)) == reason


@pytest.mark.parametrize(("text", "value"), [("1.37", (1, 37)), ("v1.37.1", (1, 37)), ("1.9.0-rc.1", (1, 9))])
def test_releases(text: str, value: tuple[int, int]) -> None:
    assert release(text) == value


@pytest.mark.parametrize("text", ["", "1", "latest", "1.x"])
def test_what_is_no_release(text: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        release(text)


@runs(
    "-v",
    files={
        "test_good.py": HEAD + "@req('mini.good')\ndef test_good(world): pass\n",
        "test_bad.py": HEAD + "@req('mini.bad', must='It must.')\ndef test_bad(world): pass\n",
    },
)
def test_collection_fails_with_the_sentence_and_no_traceback(finished: Finished) -> None:
    """And nothing is judged: a requirement that is missing would not be missed."""
    assert finished.status == 3
    assert "requirement 'mini.bad': the must= sentence does not say MUST" in finished.lines
    assert not finished.has_traceback()
    assert "_pytest/" not in finished.out
    assert finished.records == []
