# SPDX-License-Identifier: Apache-2.0
"""The session stays outside: runs whose guest is a process without a kernel, and whose dataplane is the fake one."""

from xml.etree import ElementTree

from tests.plugin.runs import SMALL, Finished, runs

GUEST = ("-p", "tests.hermetic.fake_guest", "--kernel=uml")


@runs(*GUEST, *SMALL)
def test_a_run_is_as_any_other(finished: Finished) -> None:
    """Records, the oracle's count and the phases of the run come back, and the header says where it was."""
    assert finished.status == 0, finished.out
    assert {one["outcome"] for one in finished.judged} == {"pass"}
    assert {one["kernel"] for one in finished.records} == {"User-Mode Linux 6.1.0, guest of this machine"}
    assert "kernel: User-Mode Linux 6.1.0, guest of this machine" in finished.lines
    assert any(line.startswith("oracle: asked") for line in finished.lines)
    times = next(line for line in finished.lines if line.startswith("time: "))
    assert [part.split()[0] for part in times.removeprefix("time: ").split(", ")][:4] == [
        *("boot", "imports", "cluster", "proxy"),
    ]
    assert finished.facts()


@runs(*GUEST, *SMALL, "-n", "2")
def test_each_worker_has_a_guest(finished: Finished) -> None:
    assert finished.status == 0, finished.out
    assert all(f"time gw{number}: boot" in finished.out for number in (0, 1))


@runs(*GUEST, "--lie=drops", "-x", *SMALL, "--junitxml={case}/junit.xml")
def test_the_first_failure_ends_it(finished: Finished) -> None:
    """-x counts replayed reports; JUnit and the five lines have what was found inside."""
    assert finished.status == 1, finished.out
    assert len(finished.failures()) == 1
    assert "User-Mode Linux 6.1.0" in finished.failures()[0]["where"]
    assert "stopping after 1 failures" in finished.out
    suite = next(ElementTree.parse(finished.case / "junit.xml").iter("testsuite"))  # noqa: S314
    assert suite.get("failures") == "1"


@runs(*GUEST, "conformance/nodeport/test_reach.py", "--nodes=2", "-rs")
def test_a_skip_keeps_its_reason(finished: Finished) -> None:
    """JSON makes a list of the tuple that says why."""
    assert finished.status == 6, finished.out
    assert "unfit: needs 3 nodes, and the cluster has 2" in finished.out
    assert not finished.has_traceback()


@runs(*GUEST, *SMALL, "-v", environ={"GUEST_DIES_IN": "own_target[IPv4-UDP-pod@first"})
def test_a_guest_that_dies_is_one_unknown(finished: Finished) -> None:
    """Its console's end is in the report, and those after it have a new guest."""
    assert finished.status == 3, finished.out
    unknown = [one for one in finished.records if one["outcome"] == "unknown"]
    dying = [one for one in finished.records if "own_target[IPv4-UDP-pod@first" in one["test"]]
    assert unknown == dying
    assert "Kernel panic - not syncing" in unknown[0]["reason"]
    assert finished.records[-1]["outcome"] == "pass"
    assert not finished.has_traceback()


@runs(*GUEST, *SMALL, environ={"GUEST_DIES_IN": "IPv4"})
def test_one_that_always_dies_ends_the_run(finished: Finished) -> None:
    assert finished.status == 3, finished.out
    assert len(finished.records) == 3


@runs(*GUEST, "--lie=dies", *SMALL)
def test_a_proxy_that_dies_inside_ends_the_run(finished: Finished) -> None:
    assert finished.status == 3, finished.out
