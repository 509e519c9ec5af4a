# SPDX-License-Identifier: Apache-2.0
"""--baseline: a run beside an earlier one, and the exit status that comes of it."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clusters.errors import UsageError
from plugins import baseline
from plugins.baseline import Comparison
from plugins.scale.cells import dump
from tests.plugin.runs import Finished, runs
from tests.scale import made

NOT_READY = "endpoints.not-ready.never-used"
ONE = ("conformance/endpoints", "-k", "first")
SCALE = ("-m", "scale or not scale", "-p", "tests.scale.writes", *ONE)


def record(outcome: str, name: str = "a.b", **axes: str) -> Mapping[str, Any]:
    return {"id": name, "outcome": outcome, "axes": axes}


def compare(now: Mapping[str, Any], before: Mapping[str, Any]) -> Comparison:
    return baseline.compare([now], [before])


@pytest.mark.parametrize("was", ["pass", "deviates", "recorded", "warned"])
@pytest.mark.parametrize("now", ["fail", "unknown"])
def test_what_was_good_and_is_bad_regressed(was: str, now: str) -> None:
    assert compare(record(now), record(was)).regressions == (f"a.b: {now}, was {was}",)


@pytest.mark.parametrize("was", ["fail", "unknown", "known-failure", "stale-known-failure"])
@pytest.mark.parametrize("now", ["fail", "unknown"])
def test_what_failed_before_did_not(was: str, now: str) -> None:
    found = compare(record(now), record(was))
    assert found.regressions == ()
    assert len(found.known) == 1


@pytest.mark.parametrize(
    ("was", "now"),
    [("fail", "pass"), ("pass", "unfit"), ("pass", "warned"), ("unsupported", "fail"), ("pass", "known-failure")],
)
def test_whatever_else_changed_is_told(was: str, now: str) -> None:
    found = compare(record(now), record(was))
    assert (found.regressions, found.known) == ((), ())
    assert found.changed == (f"a.b: {now}, was {was}",)


def test_what_is_as_it_was_is_not_told() -> None:
    assert compare(record("pass"), record("pass")) == Comparison((), (), (), 0, 1)


def test_axes_are_compared_one_by_one() -> None:
    before = [record("pass", family="IPv4"), record("fail", family="IPv6")]
    now = [record("fail", family="IPv6"), record("fail", family="IPv4")]
    assert baseline.compare(now, before).regressions == ("a.b family=IPv4: fail, was pass",)


def test_a_failure_that_the_baseline_does_not_have_is_told() -> None:
    found = baseline.compare([record("fail", "new.one"), record("pass")], [record("pass"), record("pass", "gone")])
    assert found.regressions == ()
    assert found.changed == ("new.one: fail, and the baseline does not have it",)
    assert found.missing == 1


def test_of_several_tests_the_worst_counts() -> None:
    assert baseline.compare([record("pass"), record("fail"), record("pass")], [record("pass")] * 3).regressions
    assert not baseline.compare([record("fail")], [record("fail"), record("pass")]).regressions


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no tests"),
        ("what\n", "is not JSON"),
        ("[]\n", "has no id, or no outcome"),
        ('{"id": "a"}\n', "has no id, or no outcome"),
        ('{"id": "a", "outcome": "splendid"}\n', "has no id, or no outcome"),
    ],
)
def test_a_file_that_is_none_is_one_sentence(text: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "old.jsonl"
    file.write_text(text)
    with pytest.raises(UsageError, match=problem):
        baseline.read(file)


def lines(*records: Mapping[str, Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in records)


def everywhere(outcome: str) -> str:
    """The requirement's tests, as they are named by its axes."""
    axes = itertools.product(("IPv4", "IPv6"), ("TCP", "UDP"), ("pod@first", "node@first"))
    kinds = [{"family": family, "protocol": protocol, "vantage": vantage} for family, protocol, vantage in axes]
    return lines(*(record(outcome, NOT_READY, **each) for each in kinds))


LIES = "--lie=ignores-readiness"


@runs(*ONE)
def test_the_axes_of_these_tests_are_as_written_here(finished: Finished) -> None:
    wanted = [json.loads(line)["axes"] for line in everywhere("pass").splitlines()]
    assert [one["axes"] for one in finished.records] == wanted


@runs(LIES, "--baseline={case}/old.jsonl", *ONE, files={"old.jsonl": everywhere("pass")})
def test_a_requirement_that_regressed_fails_the_run(finished: Finished) -> None:
    assert finished.status == 1
    assert any(line.startswith(f"regression: {NOT_READY}") for line in finished.lines)


@runs(LIES, "--baseline={case}/old.jsonl", *ONE, files={"old.jsonl": everywhere("fail")})
def test_what_failed_before_does_not_fail_the_run(finished: Finished) -> None:
    assert finished.ids("fail") == {NOT_READY}
    assert finished.status == 0
    assert any(line.startswith(f"known: {NOT_READY}") for line in finished.lines)
    assert any(line.endswith("0 regressed, 8 failed before too") for line in finished.lines)


@runs("--baseline={case}/old.jsonl", *ONE, files={"old.jsonl": everywhere("pass")})
def test_a_run_that_is_as_it_was_passes(finished: Finished) -> None:
    assert finished.status == 0
    assert "baseline: 8 tests compared, 0 regressed, 0 failed before too" in finished.lines


DYING = ("--lie=dies", "conformance/clusterip/test_changes.py")


@runs(
    *DYING, "--baseline={case}/old.jsonl", files={"old.jsonl": lines(record("unknown", "clusterip.endpoints.added"))}
)
def test_an_error_of_ours_stays_one(finished: Finished) -> None:
    assert finished.status == 3


@runs("--baseline={case}/none.jsonl", *ONE, files={"old.jsonl": ""})
def test_a_file_that_is_not_there_is_a_usage_error(finished: Finished) -> None:
    assert finished.status == 4
    assert "none.jsonl cannot be read: No such file or directory" in finished.err
    assert not finished.has_traceback()


@runs("--baseline={case}/old.json", *ONE, files={"old.json": dump(made.scale()).decode()})
def test_a_scale_runs_file_needs_a_scale_run(finished: Finished) -> None:
    assert finished.status == 4
    assert "is of a scale run; add -m scale" in finished.err


FILES = {
    "old.json": dump(made.scale(seed=1)).decode(),
    "same.json": dump(made.scale(seed=2)).decode(),
    "slow.json": dump(made.scale(seed=2, slower=1.4)).decode(),
    "hermetic.json": dump(made.scale(hermetic=True)).decode(),
}


@runs("--baseline={case}/old.json", "--writes={case}/slow.json", *SCALE, files=FILES)
def test_a_ratio_that_got_worse_fails_the_run(finished: Finished) -> None:
    assert finished.ids("pass") == {NOT_READY}
    assert any(line.startswith("regression: first-packet last Service at 10,000 × 2: ") for line in finished.lines)
    assert finished.status == 1


@runs("--baseline={case}/old.json", "--writes={case}/same.json", *SCALE, files=FILES)
def test_ratios_that_did_not_get_worse_do_not(finished: Finished) -> None:
    assert any(line.endswith("cells compared, 0 worse, 0 better") for line in finished.lines)
    assert finished.status == 0


@runs(LIES, "--baseline={case}/old.json", "--writes={case}/same.json", *SCALE, files=FILES)
def test_a_requirement_that_fails_beside_them_does(finished: Finished) -> None:
    assert finished.status == 1


@runs("--baseline={case}/hermetic.json", "--writes={case}/same.json", *SCALE, files=FILES)
def test_a_hermetic_baseline_is_refused_before_anything_is_measured(finished: Finished) -> None:
    assert finished.status == 4
    assert "whose numbers cannot be compared" in finished.err + finished.out
    assert not finished.has_traceback()
