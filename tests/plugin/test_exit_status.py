# SPDX-License-Identifier: Apache-2.0
"""Every exit status: the rule as a table, and each status reached by a real run."""

import os
import signal
import subprocess

import pytest

from plugins.outcomes import Judged, Outcome, Status, exit_status
from tests.plugin.miniature import HEAD
from tests.plugin.runs import PATIENCE, SMALL, Command, Finished, Runner, runs

ORDINARY = "def test_of_something_else():\n    assert False, 'no requirement at all'\n"


def judged(*outcomes: Outcome, level: str = "core") -> list[Judged]:
    return [Judged(f"t{number}", f"topic.number-{number}", level, outcome) for number, outcome in enumerate(outcomes)]


ONE = frozenset({"t0"})


@pytest.mark.parametrize(
    ("tests", "core", "status"),
    [
        (judged(Outcome.PASS), ONE, Status.JUDGED),
        (judged(Outcome.DEVIATES), ONE, Status.JUDGED),
        (judged(Outcome.WARNED), ONE, Status.JUDGED),
        (judged(Outcome.KNOWN_FAILURE), ONE, Status.JUDGED),
        (judged(Outcome.UNSUPPORTED), ONE, Status.JUDGED),
        (judged(Outcome.RECORDED, level="record"), frozenset(), Status.JUDGED),
        (judged(Outcome.FAIL), ONE, Status.FAILED),
        (judged(Outcome.FAIL, level="extended"), frozenset(), Status.FAILED),
        (judged(Outcome.STALE_KNOWN_FAILURE), ONE, Status.FAILED),
        (judged(Outcome.PASS, Outcome.FAIL, Outcome.UNFIT), ONE, Status.FAILED),
        (judged(Outcome.UNKNOWN), ONE, Status.PLUMBLINE_ERROR),
        (judged(Outcome.UNKNOWN, level="record"), frozenset(), Status.PLUMBLINE_ERROR),
        (judged(Outcome.FAIL, Outcome.UNKNOWN), ONE, Status.PLUMBLINE_ERROR),
        (judged(Outcome.UNFIT), ONE, Status.INCOMPLETE),
        (judged(Outcome.BLOCKED), ONE, Status.INCOMPLETE),
        (judged(Outcome.UNFIT, level="extended"), frozenset(), Status.JUDGED),
        (judged(Outcome.PASS), ONE | {"another"}, Status.INCOMPLETE),
        ([], ONE, Status.INCOMPLETE),
        ([], frozenset(), Status.JUDGED),
    ],
)
def test_the_rule(tests: list[Judged], core: frozenset[str], status: Status) -> None:
    assert exit_status(tests, core) is status


def test_the_numbers_are_the_contract() -> None:
    assert [status.value for status in Status] == [0, 1, 2, 3, 4, 5, 6]


@runs("-v")
def test_0_everything_judged_and_nothing_failed(finished: Finished) -> None:
    assert finished.status == 0


@runs("--lie=drops", "conformance/no_endpoints", "-k", "first")
def test_1_a_requirement_failed(finished: Finished) -> None:
    assert finished.status == 1


@runs("--lie=drops", "-x", "conformance/no_endpoints")
def test_1_also_where_the_run_stops_at_the_first_failure(finished: Finished) -> None:
    assert finished.status == 1
    assert sum(one["outcome"] == "fail" for one in finished.records) == 1


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
def test_2_interrupted(runner: Runner, workers: tuple[str, ...]) -> None:
    """Ctrl-C in the middle of a transition: what was judged until then is kept, and the objects are deleted."""
    prepared = runner.prepare(Command((*workers, "--lie=stalls", "-k", "added or (not_ready and IPv4 and first)")))
    with subprocess.Popen(
        prepared.argv,
        cwd=prepared.cwd,
        env=prepared.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        fifo = prepared.report / "stalled"
        fifo.parent.mkdir()
        os.mkfifo(fifo)
        try:
            with fifo.open("rb"):  # opens when the fake does
                process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    finished = Finished(process.returncode, out, "", prepared.report, prepared.case)
    assert finished.status == 2
    assert finished.ids("pass")
    assert finished.ids("pass") == set(finished.outcomes())
    for process_name in ("gw0", "gw1") if workers else ("main",):
        assert finished.facts(process_name)["left"] == []
    assert any(line.startswith("core level: not certified") for line in finished.lines)


@runs("--lie=dies", *SMALL)
def test_3_the_proxy_died(finished: Finished) -> None:
    assert finished.status == 3


@runs("--lie=never-settles", "--deadline-scale=0.01", *SMALL)
def test_3_nothing_can_be_said(finished: Finished) -> None:
    assert finished.status == 3


@runs(files={"test_bad.py": HEAD + "@req('NoDots')\ndef test_bad(world):\n    pass\n"})
def test_3_collection_failed(finished: Finished) -> None:
    assert finished.status == 3


@runs("--proxy-mode=userspace", proxy=False)
def test_4_usage(finished: Finished) -> None:
    assert finished.status == 4


@runs("-k", "no_test_has_such_a_name")
def test_5_nothing_selected(finished: Finished) -> None:
    assert finished.status == 5
    assert finished.records == []


@runs("--nodes=2", "--family=ipv4", "conformance/nodeport")
def test_6_a_core_requirement_was_unfit(finished: Finished) -> None:
    assert finished.status == 6
    assert "nodeport.reach.from-outside" in finished.ids("unfit")
    assert any("needs 3 nodes, and the cluster has 2" in str(one["reason"]) for one in finished.records)
    assert any(line.startswith("core level: not certified") for line in finished.lines)


@runs("--nodes=1", "--family=ipv4", "conformance/clusterip", "-k", "reach and first or hairpin and first")
def test_6_a_cluster_too_small_for_some_tests(finished: Finished) -> None:
    """What only the test itself finds out is unfit too, never a failure and never an error."""
    assert finished.status == 6
    assert set(finished.outcomes()) == finished.ids("pass", "unfit")
    assert any("needs 3 backends, and the cluster's pool has 2" in str(one["reason"]) for one in finished.records)


@runs(
    "{case}/../../others/test_other.py",
    files={
        "test_passes.py": HEAD + "@req('mini.passes')\ndef test_passes(world):\n    pass\n",
        "../../others/test_other.py": ORDINARY,
    },
)
def test_1_a_test_that_is_no_requirement_failed(finished: Finished) -> None:
    assert "1 failed" in finished.lines[-1]
    assert finished.status == 1
