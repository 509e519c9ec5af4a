# SPDX-License-Identifier: Apache-2.0
"""One run in which every outcome occurs: what pytest calls each, what its line says, and what the run comes to."""

import json
import re
from xml.etree.ElementTree import Element, fromstring

import pytest

from plugins.outcomes import Outcome
from tests.plugin.miniature import EVERY_OUTCOME, FEATURES, KNOWN
from tests.plugin.runs import LABELS, Finished, runs

FILES = {"test_all.py": EVERY_OUTCOME, "known.txt": KNOWN, "features.yaml": FEATURES}
pytestmark = runs(
    "-v",
    "--lie=resets",
    "--known-failures={case}/known.txt",
    "--features={case}/features.yaml",
    "--junitxml={case}/junit.xml",
    "--report-log={case}/log.jsonl",
    files=FILES,
)
# The outcome as pytest prints it for a test in verbose mode.
WORDS = {"passed": "PASSED", "warned": "PASSED", "failed": "FAILED", "xfailed": "XFAIL", "skipped": "SKIPPED"}
# Nothing sets the second yet; the first: test_deviations.py.
NOT_YET = {Outcome.DEVIATES, Outcome.BLOCKED}


def test_each_test_has_the_outcome_it_is_named_after(finished: Finished) -> None:
    named = {one["test"].partition("::test_")[2].partition("[")[0].replace("_", "-"): one for one in finished.records}
    assert len(named) == EVERY_OUTCOME.count("\ndef test_")
    for name, record in named.items():
        assert name.startswith(record["outcome"]), record


def test_all_outcomes_occur(finished: Finished) -> None:
    assert {one["outcome"] for one in finished.records} == {one.word for one in Outcome if one not in NOT_YET}


def test_pytest_uses_its_own_word_for_each(finished: Finished) -> None:
    for record in finished.records:
        shown = next(line for line in finished.lines if line.startswith(f"{record['test']} "))
        word = Outcome.named(record["outcome"]).pytest_word
        assert shown.split()[1] == WORDS.get(word, "ERROR")


def test_an_unknown_outweighs_a_failure(finished: Finished) -> None:
    assert finished.status == 3


def test_reasons_say_why(finished: Finished) -> None:
    reasons = {one["test"].partition("::")[2].partition("[")[0]: one["reason"] for one in finished.records}
    assert reasons["test_pass"] is None
    assert "a refusal without an ICMP error" in reasons["test_fail"]
    assert reasons["test_fail_by_word"] == "said so"
    assert "a refusal without an ICMP error" in reasons["test_warned"]
    assert "a refusal without an ICMP error" in reasons["test_recorded"]
    assert reasons["test_stale_known_failure"] == (
        "it passes: take it out of the --known-failures file, or name the axes it fails for"
    )
    assert "unsupported: the proxy does not declare maglev" in reasons["test_unsupported_feature"]
    assert "unsupported: holds since Kubernetes 1.99, and the proxy is 1.37" in reasons["test_unsupported_since"]
    assert "unsupported: held until Kubernetes 1.20, and the proxy is 1.37" in reasons["test_unsupported_until"]
    assert "unfit: the cluster lacks bpf" in reasons["test_unfit_need"]
    assert "unfit: needs 9 nodes, and the cluster has 3" in reasons["test_unfit_nodes"]
    assert reasons["test_unknown"] == "the test broke"
    assert reasons["test_unknown_arrangement"] == "the arrangement broke"


def test_only_failures_are_shown_as_five_lines(finished: Finished) -> None:
    failed = [one for one in finished.records if one["outcome"] in ("fail", "stale-known-failure")]
    # The SHOULD's five lines stand in its warning, indented.
    assert [shown["requirement"].split()[0] for shown in finished.failures()] == [one["id"] for one in failed]
    assert (
        sum(line.strip().startswith("requirement  mini.warned ") for line in re.split(r"Warning: |\n", finished.out))
        == 1
    )


def test_a_failure_before_the_first_probe_says_so(finished: Finished) -> None:
    shown = next(one for one in finished.failures() if one["requirement"].startswith("mini.fail-by-word"))
    assert shown["expected"] == "(nothing was asked of the model before it failed)"
    assert shown["observed"] == "said so"
    assert shown["where"].startswith("before the first probe; ")


def test_errors_of_our_own_keep_their_traceback(finished: Finished) -> None:
    """A test or an arrangement that breaks is a bug to be found, not a judgement."""
    assert 'raise RuntimeError("the test broke")' in finished.out
    assert 'raise RuntimeError("the arrangement broke")' in finished.out


def test_no_core_requirement_passed(finished: Finished) -> None:
    line = next(line for line in finished.lines if line.startswith("core level: "))
    assert line.startswith("core level: not certified: 0 of 2 requirements passed; ")


def test_junit_shows_the_five_lines(finished: Finished) -> None:
    failures = [failure.text or "" for failure in junit(finished).iter("failure")]
    shown = [text for text in failures if all(f"\n{label} " in f"\n{text}" for label in LABELS)]
    assert len(shown) == len(finished.failures())


def test_junit_counts_as_pytest_does(finished: Finished) -> None:
    counts = junit(finished).attrib
    outcomes = [Outcome.named(one["outcome"]).pytest_word for one in finished.records]
    assert int(counts["tests"]) == len(outcomes)
    # JUnit knows no xfail: pytest counts it among the skipped.
    assert int(counts["skipped"]) == outcomes.count("skipped") + outcomes.count("xfailed")


def test_junit_names_requirement_and_outcome(finished: Finished) -> None:
    shown = {}
    for test in junit(finished).iter("testcase"):
        properties = {one.get("name"): one.get("value") for one in test.iter("property")}
        shown[properties["requirement"]] = properties["outcome"]
    assert shown == {one["id"]: one["outcome"] for one in finished.records}


def test_junit_tells_errors_from_failures(finished: Finished) -> None:
    """A `<failure>` is a judgement, an `<error>` is not."""
    words = [Outcome.named(one["outcome"]).pytest_word for one in finished.records]
    assert int(junit(finished).attrib["failures"]) == words.count("failed")
    assert int(junit(finished).attrib["errors"]) == words.count("error")


def test_the_report_log_carries_the_records(finished: Finished) -> None:
    """It is written by another plugin from the same reports, so these must survive what judging does to them."""
    lines = (finished.case / "log.jsonl").read_text(encoding="utf-8").splitlines()
    records = [one["plumbline"] for one in map(json.loads, lines) if "plumbline" in one]
    # Which kernel it was is said of the whole run, when it is written down.
    assert records == [{key: one[key] for key in one if key != "kernel"} for one in finished.records]


def junit(finished: Finished) -> Element:
    text = (finished.case / "junit.xml").read_text(encoding="utf-8")
    return fromstring(text)[0]  # noqa: S314 - our own run has just written it


@pytest.mark.parametrize("outcome", [one for one in Outcome if one not in NOT_YET])
def test_the_summary_counts_each_outcome(outcome: Outcome, finished: Finished) -> None:
    count = sum(one["outcome"] == outcome.word for one in finished.records)
    row = next(line for line in finished.lines if line.startswith("mini  "))
    assert f" {count} {outcome.word}" in row
