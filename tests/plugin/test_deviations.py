# SPDX-License-Identifier: Apache-2.0
"""Deviations: what a proxy means to do is counted apart from what it does wrong, and covers nothing else."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters.errors import UsageError
from clusters.observation import Address, FlowOutcome, Observation
from plugins import deviations
from plugins.deviations import Deviation, System
from plugins.requirements import AXES, ids_in
from plugins.session import CONFORMANCE
from tests.plugin.miniature import HEAD
from tests.plugin.runs import Finished, runs

ENTRY: dict[str, Any] = {
    "id": "says-nothing",
    "requirement": "mini.refused",
    "proxy": "kube-proxy",
    "modes": ["iptables"],
    "since": "1.30",
    "until": "1.37",
    "axes": {"protocol": ["UDP"]},
    "outcomes": ["timeout"],
    "sentence": "It says nothing, and means it.",
    "source": "https://kubernetes.io/",
}
AXIS_NAMES = ", ".join(AXES)
IDS = frozenset({"mini.refused", "mini.other"})
HERE = System("kube-proxy", "iptables", (1, 37))
SEEN = Observation(
    vantage="node-a.pod-1",
    node="node-a",
    frontend="ClusterIP 10.96.0.7:80",
    protocol="UDP",
    family="IPv4",
    src=Address("10.244.0.2", 40000),
    dst=Address("10.96.0.7", 80),
    outcome=FlowOutcome.TIMEOUT,
)


def changed(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in {**ENTRY, **fields}.items() if value != "absent"}


def covers(probes: list[list[Observation]], system: System = HERE, **fields: Any) -> bool:
    return Deviation.parse(changed(**fields), IDS).covers("mini.refused", {"vantage": "pod@first"}, system, probes)


def seen(**fields: Any) -> Observation:
    return Observation(**{**{name: getattr(SEEN, name) for name in SEEN.__dataclass_fields__}, **fields})


def test_it_covers_what_it_names() -> None:
    assert covers([[SEEN]])
    assert covers([[SEEN] * 40, [SEEN]])


@pytest.mark.parametrize(
    "system",
    [
        System("kube-proxy", "nftables", (1, 37)),
        System("command", "iptables", (1, 37)),
        System("kube-proxy", "iptables", (1, 29)),
        System("kube-proxy", "iptables", (1, 38)),
        System("kube-proxy", "iptables", None),
    ],
)
def test_it_covers_no_other_proxy(system: System) -> None:
    assert not covers([[SEEN]], system)


def test_it_covers_no_other_requirement() -> None:
    assert not Deviation.parse(ENTRY, IDS).covers("mini.other", {}, HERE, [[SEEN]])


def test_every_observation_of_every_failing_probe_counts() -> None:
    """One flow among forty, or one probe among many, that did something else makes it a failure."""
    reply = seen(outcome=FlowOutcome.REPLY)
    assert not covers([[*[SEEN] * 39, reply]])
    assert not covers([[SEEN], [seen(outcome=FlowOutcome.UNREACHABLE)]])
    assert not covers([[SEEN], [seen(protocol="TCP")]])


def test_a_drop_that_the_sender_is_told_of_is_a_timeout() -> None:
    assert covers([[seen(outcome=FlowOutcome.UNREACHABLE, errno="EPERM")]])


@pytest.mark.parametrize(
    ("axes", "is_covered"),
    [
        ({"protocol": ["TCP", "UDP"]}, True),
        ({"protocol": ["SCTP"]}, False),
        ({"family": ["IPv6"]}, False),
        ({"frontend": ["ClusterIP"]}, True),
        ({"frontend": ["NodePort"]}, False),
        ({"vantage": ["pod"]}, True),
        ({"vantage": ["pod@first"]}, True),
        ({"vantage": ["node", "outside"]}, False),
        ({"node": ["first"]}, False),
        ({"protocol": ["UDP"], "family": ["IPv6"]}, False),
        ("absent", True),
    ],
)
def test_axes_are_those_of_the_probe(axes: Any, is_covered: bool) -> None:
    assert covers([[SEEN]], axes=axes) is is_covered


@pytest.mark.parametrize(("now", "is_covered"), [((1, 37), False), ((2, 0), True), ((2, 10), True), ((2, 11), False)])
def test_releases_are_the_proxys_own(now: tuple[int, int], is_covered: bool) -> None:
    system = System("kube-router", "ipvs", now)
    fields = {"proxy": "kube-router", "modes": ["ipvs"], "since": "2.0", "until": "2.10"}
    assert covers([[SEEN]], system, **fields) is is_covered


def test_without_a_probe_the_axes_of_the_test_decide() -> None:
    assert covers([[]], axes={"vantage": ["pod@first"]}, outcomes="absent")
    assert not covers([[]], outcomes="absent")
    assert not covers([[]], axes="absent"), "nobody knows how flows ended that nobody opened"


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("text", "'text' must be a mapping"),
        (changed(colour="red"), "'says-nothing' has the unknown key 'colour'"),
        (changed(source="absent"), "'says-nothing' lacks source"),
        (
            changed(requirement="mini.gone"),
            "'says-nothing' names the requirement 'mini.gone', which conformance/ does not have",
        ),
        (changed(proxy="envoy"), "'says-nothing' names the proxy 'envoy'; known are kube-proxy, kube-router"),
        (
            changed(modes=["iptable"]),
            "'says-nothing' has the unknown value 'iptable' in modes; known are iptables, ipvs, nftables",
        ),
        (changed(modes="iptables"), "'says-nothing' has modes: 'iptables', which must be a list of texts"),
        (
            changed(since=1.3),
            "'says-nothing' has since: 1.3, which must be a text (in quotes, if it looks like a number)",
        ),
        (
            changed(until="soon"),
            "'says-nothing' has until: 'soon', which must be a release of kube-proxy such as '1.26'",
        ),
        (
            changed(source="http://example.invalid"),
            "'says-nothing' has source: 'http://example.invalid', which must be the https:// URL of what says so",
        ),
        (
            changed(axes={"hue": []}),
            f"'says-nothing' has axes: {{'hue': []}}, which must be a mapping of {AXIS_NAMES} to lists of values",
        ),
        (
            changed(axes={"protocol": ["ICMP"]}),
            "'says-nothing' has the unknown value 'ICMP' in protocol; known are TCP, UDP, SCTP",
        ),
        (
            changed(outcomes=["silence"]),
            f"'says-nothing' has the unknown value 'silence' in outcomes; known are {', '.join(FlowOutcome)}",
        ),
    ],
)
def test_what_is_wrong_with_an_entry_is_one_sentence(entry: Any, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "topic.yaml").write_text(yaml.safe_dump([entry]), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        deviations.load(IDS, tmp_path)
    assert str(caught.value) == f"topic.yaml of the deviations: {sentence}"


@pytest.mark.parametrize(("text", "says"), [("{}", "must be a list of entries"), ("[", "cannot be read: ")])
def test_what_is_wrong_with_a_file_is_one_sentence(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "topic.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=says):
        deviations.load(IDS, tmp_path)


def test_an_id_is_given_once(tmp_path: Path) -> None:
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text(yaml.safe_dump([ENTRY]), encoding="utf-8")
    with pytest.raises(UsageError, match=r"two\.yaml of the deviations: 'says-nothing' has an id"):
        deviations.load(IDS, tmp_path)


def test_those_of_conformance_are_in_order() -> None:
    assert all(one.scope.modes for one in deviations.load(ids_in(CONFORMANCE)))


# A whole run. Under the lie `drops` what must be refused is met with silence.
MINIATURE = (
    HEAD
    + """
def nobody(world):
    return world.service(endpoints=[], kind="NodePort")

@req("mini.refused", arrange=nobody, level="core")
@everywhere(vantage=["pod"], protocol=["TCP", "UDP"])
def test_refused(service, vantage, protocol):
    for frontend, _ in service.every_cluster_ip(protocol):
        vantage.open(frontend, protocol).must_stay_within_the_verdict()

@req("mini.other", arrange=nobody)
@everywhere(vantage=["pod"])
def test_other(service, vantage):
    reach(vantage, service)

@req("mini.everywhere", arrange=nobody)
def test_everywhere(world, service):
    world.everywhere("pod").each_must_stay_within_the_verdict(service.every_cluster_ip(), count=1)

@req("mini.should", should="It SHOULD be so.", arrange=nobody)
def test_should(world, service):
    world.everywhere("pod").each_must_stay_within_the_verdict(service.every_cluster_ip(), count=1)

@req("mini.broken", arrange=nobody)
def test_broken(world, service):
    raise RuntimeError("the test broke")
"""
)
ENTRIES = [
    ENTRY,
    changed(id="everywhere-by-udp", requirement="mini.everywhere", axes={"protocol": ["UDP"]}),
    changed(id="should", requirement="mini.should", axes="absent"),
    changed(id="broken", requirement="mini.broken", axes="absent", outcomes="absent"),
]
FILES = {
    "test_mini.py": MINIATURE,
    "deviations/mini.yaml": yaml.safe_dump(ENTRIES),
    "known_bugs.yaml": yaml.safe_dump(
        [
            {
                "issue": "kubernetes#12345",
                "requirement": "mini.refused",
                "proxy": "kube-proxy",
                "modes": ["iptables"],
                "since": "1.0",
                "pattern": "outcome timeout",
            }
        ]
    ),
}
DATA = ("--deviations={case}/deviations", "--known-bugs={case}/known_bugs.yaml")


def miniature(mode: str, *arguments: str) -> pytest.MarkDecorator:
    return runs(f"--proxy-mode={mode}", "--lie=drops", *DATA, *arguments, proxy=False, files=FILES)


@miniature("iptables")
def test_a_deviation_is_an_outcome_of_its_own(finished: Finished) -> None:
    by_protocol = {one["axes"]["protocol"]: one for one in finished.records if one["id"] == "mini.refused"}
    assert by_protocol["UDP"]["outcome"] == "deviates"
    assert by_protocol["UDP"]["deviation"] == "says-nothing"
    assert "outcome timeout, but should be refused" in by_protocol["UDP"]["reason"]
    assert by_protocol["TCP"]["outcome"] == "fail"
    assert by_protocol["TCP"]["deviation"] is None


@miniature("iptables")
def test_others_fail_as_ever(finished: Finished) -> None:
    outcomes = finished.outcomes()
    assert outcomes["mini.other"] == {"fail"}
    assert outcomes["mini.everywhere"] == {"fail"}, "TCP is not covered, whatever UDP did first"
    assert outcomes["mini.should"] == {"warned"}
    assert outcomes["mini.broken"] == {"unknown"}


@miniature("iptables")
def test_the_summary_counts_and_explains(finished: Finished) -> None:
    (row,) = (line for line in finished.lines if line.startswith("mini  "))
    assert " 1 deviates, " in row
    shown = [line for line in finished.lines if line.startswith("deviates: ")]
    assert shown == ["deviates: says-nothing (1 tests): It says nothing, and means it. https://kubernetes.io/"]


@miniature("iptables", "-k", "udp or UDP")
def test_nothing_but_deviations_is_a_success(finished: Finished) -> None:
    assert finished.status == 0
    assert " 1 passed, " in finished.lines[-1]


@miniature("nftables")
def test_in_another_mode_it_is_a_failure(finished: Finished) -> None:
    assert not finished.ids("deviates")
    assert finished.ids("fail") == {"mini.refused", "mini.other", "mini.everywhere"}


@miniature("iptables", "--proxy-version=1.29.0")
def test_in_another_release_it_is_a_failure(finished: Finished) -> None:
    assert not finished.ids("deviates")


@miniature("iptables", "-k", "refused", "-n", "1")
def test_workers_know_of_it_too(finished: Finished) -> None:
    assert finished.ids("deviates") == {"mini.refused"}


@miniature("iptables")
def test_a_failure_names_the_bug_it_looks_like(finished: Finished) -> None:
    """And stays a failure."""
    says = "looks like   kubernetes#12345: https://github.com/kubernetes/kubernetes/issues/12345"
    assert finished.lines.count(says) == 1
    assert finished.status in (1, 3)


@runs("--deviations={case}/deviations", "conformance/clusterip", files={"deviations/mini.yaml": "[{id: x}]"})
def test_a_wrong_file_ends_the_run_at_once(finished: Finished) -> None:
    assert finished.status == 4
    assert "ERROR: mini.yaml of the deviations: 'x' lacks modes" in finished.err
    assert not finished.has_traceback()


@runs("--known-bugs={case}/bugs.yaml", "conformance/clusterip", files={"bugs.yaml": "[{issue: k8s 7}]"})
def test_a_wrong_known_bug_does_too(finished: Finished) -> None:
    assert finished.status == 4
    assert "ERROR: known_bugs.yaml: 'k8s 7' lacks modes" in finished.err
