# SPDX-License-Identifier: Apache-2.0
"""Runs with xdist: two processes, each with a fake of its own, and one report."""

import json
from collections import Counter

from plugins.scheduling import TOGETHER, pieces
from tests.plugin.miniature import EVERY_OUTCOME, FEATURES, KNOWN
from tests.plugin.runs import EVERY_FEATURE, SMALL, Finished, runs

FILES = {"test_all.py": EVERY_OUTCOME, "known.txt": KNOWN, "features.yaml": FEATURES}
WORKERS = ("gw0", "gw1")


@runs("-n", "2", EVERY_FEATURE)
def test_no_record_is_lost(finished: Finished) -> None:
    assert finished.status == 0
    tests = [one["test"] for one in finished.records]
    assert len(tests) == len(set(tests))
    assert finished.lines[-1].strip("= ").startswith(f"{len(finished.judged)} passed")


@runs("-n", "2", EVERY_FEATURE)
def test_the_level_is_certified_by_both_together(finished: Finished) -> None:
    total = len({one["id"] for one in finished.records if one["level"] == "core"})
    assert f"core level: complete, all {total} requirements passed" in finished.lines


@runs("-n", "2", EVERY_FEATURE)
def test_each_worker_has_a_cluster_of_its_own(finished: Finished) -> None:
    for worker in WORKERS:
        facts = finished.facts(worker)
        assert facts["generations"] >= 2
        assert facts["left"] == []
        assert sum(line.startswith(f"time {worker}: ") for line in finished.lines) == 1


@runs(
    "-n",
    "2",
    "-v",
    "--lie=resets",
    "--known-failures={case}/known.txt",
    "--features={case}/features.yaml",
    files=FILES,
)
def test_settings_and_outcomes_cross_the_processes(finished: Finished) -> None:
    """As in test_every_outcome, where everything happens in one process."""
    named = {one["test"].partition("::test_")[2].partition("[")[0].replace("_", "-"): one for one in finished.records}
    assert len(named) == EVERY_OUTCOME.count("\ndef test_")
    assert all(name.startswith(record["outcome"]) for name, record in named.items())
    assert finished.status == 3
    assert "--proxy-command=sh --k8s-release=1.37" in finished.failures()[0]["reproduce"]


@runs("-n", "2", "-k", "no_test_has_such_a_name")
def test_nothing_selected_is_exit_status_5(finished: Finished) -> None:
    assert finished.status == 5


@runs("-n", "2", "--lie=dies", *SMALL)
def test_a_dead_proxy_ends_the_run(finished: Finished) -> None:
    """Each worker has tests in hand when the first dies, so that a few may say the same."""
    assert finished.status == 3
    assert not finished.has_traceback()
    unknown = [one for one in finished.records if one["outcome"] == "unknown"]
    assert 1 <= len(unknown) <= 6
    assert all(one["reason"].startswith("fake-proxy on node-b ended with status 7") for one in unknown)
    assert len({one["test"] for one in finished.records}) == len(finished.records)


@runs("-n", "2", "-x", "--lie=drops", "conformance/no_endpoints", "-k", "first")
def test_stopping_at_the_first_failure_is_exit_status_1(finished: Finished) -> None:
    assert finished.ids("fail")
    assert finished.status == 1


@runs("-n", "2", "--lie=crashes", "conformance/clusterip/test_changes.py")
def test_a_crashed_worker_is_an_error(finished: Finished) -> None:
    """The test that it was running has a line as every other, and the rest runs elsewhere."""
    assert finished.status == 3
    crashed = [one for one in finished.records if one["outcome"] == "unknown"]
    assert [one["reason"] for one in crashed] == ["the worker process died in this test"]
    assert len({one["test"] for one in finished.records}) == len(finished.records) == 5
    assert any(line.startswith("core level: not certified: ") for line in finished.lines)


@runs("-n", "2", "--keep-lab")
def test_one_lab_is_looked_into(finished: Finished) -> None:
    assert finished.status == 4
    assert "--keep-lab and --lab-shell show one lab; leave out -n, which makes one per worker" in finished.err


def test_tests_of_one_configuration_share_a_worker() -> None:
    tests = "conformance/proxy_config/test_localhost_node_ports.py::"
    off, on = (f"{tests}test_loopback_does_not_answer", f"{tests}test_loopback_answers")
    default = "conformance/clusterip/test_reach.py::test_every_ready_endpoint_is_reached"
    found = pieces([f"{test}[{axis}]" for test in (default, off, on) for axis in "ab"])
    assert found[f"{off}[a]"] == found[f"{off}[b]"]
    assert found[f"{on}[a]"] == found[f"{on}[b]"] != found[f"{off}[a]"]
    assert found[f"{default}[a]"] == found[f"{default}[b]"] not in (found[f"{off}[a]"], found[f"{on}[a]"])
    assert pieces(["nowhere/test_x.py::test_y"]) == {"nowhere/test_x.py::test_y": "nowhere/test_x.py::test_y"}


def test_states_share_a_worker_as_many_as_are_arranged_together() -> None:
    """This one's state depends on its axis, so that each test has its own: twice as many batches as workers."""
    hairpin = "conformance/clusterip/test_hairpin.py::test_endpoint_reaches_itself"
    tests = [f"{hairpin}[{number}]" for number in range(30)]
    assert len(Counter(pieces(tests, workers=1).values())) == 1
    assert sorted(Counter(pieces(tests, workers=3).values()).values()) == [5] * 6


def test_transitions_share_a_worker_as_many_as_are_arranged_together() -> None:
    removed = "conformance/clusterip/test_changes.py::test_removed_endpoint_is_left_alone"
    alone = "conformance/clusterip/test_changes.py::test_endpoints_come_go_and_come_back"
    tests = [f"{removed}[{number}]" for number in range(TOGETHER + 1)]
    found = pieces([tests[0], alone, *tests[1:]])
    *first, last = (found[test] for test in tests)
    assert len(set(first)) == 1
    assert len({*first, last, found[alone]}) == 3


@runs("-n", "2", "-v", EVERY_FEATURE)
def test_each_configuration_is_made_once(finished: Finished) -> None:
    passed = [line.split() for line in finished.lines if " PASSED " in line]
    worker_of = {words[-1]: words[0] for words in passed}
    workers: dict[str, set[str]] = {}
    for record in finished.judged:
        workers.setdefault(json.dumps(record["proxy_config"]), set()).add(worker_of[record["test"]])
    assert workers.pop("{}") == {f"[{name}]" for name in WORKERS}
    assert workers
    assert all(len(shared) == 1 for shared in workers.values())
