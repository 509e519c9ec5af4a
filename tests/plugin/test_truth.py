# SPDX-License-Identifier: Apache-2.0
"""A dataplane that keeps every promise: everything passes, and everything that was made is gone afterwards."""

from collections import Counter

from clusters.observation import Observation
from tests.plugin.runs import EVERY_FEATURE, Finished, runs

CONTRACT = {
    "id",
    "level",
    "sentence",
    "test",
    "outcome",
    "reason",
    "axes",
    "expected",
    "observed",
    "observations",
    "where",
    "proxy_config",
    "checks",
    "settle_s",
    "settled",
    "oracle_asked",
    "deviation",
    "undeclared",
    "artefacts",
    "seconds",
    "kernel",
}

pytestmark = runs("-v", EVERY_FEATURE)


def test_every_requirement_passes(finished: Finished) -> None:
    assert finished.status == 0, finished.out[-3000:]
    assert finished.outcomes()
    recorded = {one["id"] for one in finished.records if one["level"] == "record"}
    for name, outcomes in finished.outcomes().items():
        assert outcomes in ({"recorded" if name in recorded else "pass"}, {"unfit"})


def test_each_test_has_one_line(finished: Finished) -> None:
    passed = [line.split()[0] for line in finished.lines if " PASSED" in line]
    assert passed
    assert [one["test"] for one in finished.judged] == passed


def test_a_line_has_the_fields_of_the_contract(finished: Finished) -> None:
    for record in finished.judged:
        assert set(record) == CONTRACT
        assert record["expected"].startswith(("default/svc-", "no Service", "node-"))
        assert record["level"] in ("core", "extended", "record")
        assert " MUST " in record["sentence"] or " SHOULD " in record["sentence"]
        assert record["reason"] is None or record["level"] == "record"
        assert record["settled"] is True
        assert record["oracle_asked"] is False
        assert record["deviation"] is None
        assert record["undeclared"] == {}
        assert record["artefacts"] == []
        assert record["seconds"] >= 0


def test_axes_are_those_of_the_test(finished: Finished) -> None:
    for record in finished.records:
        named = set(record["test"].partition("[")[2].rstrip("]").split("-"))
        assert set(record["axes"].values()) == named - {""}


def test_observations_are_kept_whole_but_few(finished: Finished) -> None:
    fields = set(Observation.__dataclass_fields__)
    for record in finished.judged:
        assert 1 <= len(record["observations"]) <= 3
        for seen in record["observations"]:
            assert set(seen) == fields
            assert seen["family"] in record["where"]
        assert any(seen["frontend"] in record["where"] for seen in record["observations"])


def test_who_settled_says_how_long_it_took(finished: Finished) -> None:
    settled = [one["settle_s"] for one in finished.records if one["settle_s"] is not None]
    assert settled
    assert all(0 < seconds < 5 for seconds in settled)


def test_the_summary_certifies_the_core_level(finished: Finished) -> None:
    core = {one["id"] for one in finished.records if one["level"] == "core"}
    assert f"core level: complete, all {len(core)} requirements passed" in finished.lines
    assert f"written: {finished.report}/" in finished.lines
    assert finished.lines[-1].strip("= ").startswith(f"{len(finished.judged)} passed")


def test_the_summary_counts_by_topic(finished: Finished) -> None:
    for topic in {one["id"].partition(".")[0] for one in finished.records}:
        records = [one for one in finished.records if one["id"].partition(".")[0] == topic]
        ids = {one["id"] for one in records}
        row = next(line.split() for line in finished.lines if line.startswith(f"{topic} "))
        assert row[:3] == [topic, str(len(ids)), str(len(records))]
        counts = Counter(one["outcome"] for one in records)
        assert set(" ".join(row[3:]).split(", ")) == {f"{count} {outcome}" for outcome, count in counts.items()}


def test_nothing_is_left_in_the_api(finished: Finished) -> None:
    facts = finished.facts()
    assert facts["created"] > 0
    assert facts["left"] == []
