# SPDX-License-Identifier: Apache-2.0
"""Features against reality: declared and failing is a failure, working and undeclared is pointed out."""

import pytest

from tests.plugin.miniature import HEAD
from tests.plugin.runs import Finished, runs

# Under the lie `resets` only refusals go wrong.
MINIATURE = (
    HEAD
    + """
def served(world):
    return world.service(endpoints=world.backends(2))

def nobody(world):
    return world.service(endpoints=[])

BOTH = {"vantage": ["pod"], "family": ["IPv4", "IPv6"]}

@req("mini.works", features=["works"], arrange=served)
@everywhere(**BOTH)
def test_works(service, vantage, family):
    reach(vantage, service)

@req("mini.works-too", features=["works"], should="It SHOULD be so.")
def test_works_too(world):
    pass

@req("mini.half", features=["half"], arrange=served)
@everywhere(**BOTH)
def test_half(service, vantage, family):
    reach(vantage, service)

@req("mini.half-not", features=["half"], arrange=nobody)
@everywhere(vantage=["pod"])
def test_half_not(service, vantage):
    reach(vantage, service)

@req("mini.harms", features=["harms"], needs=["disruptive"])
def test_harms(world):
    raise AssertionError("it was tried")

@req("mini.cannot", features=["cannot"], needs=["api-faults"])
def test_cannot(world):
    raise AssertionError("it was tried")

@req("mini.finds-out", features=["finds-out"])
def test_finds_out(world):
    world.backends(1000)

@req("mini.scheduled", features=["scheduler-rr"])
def test_scheduled(world):
    pass

@req("mini.breaks", features=["breaks"])
def test_breaks(world):
    raise RuntimeError("the test broke")

@req("mini.since", features=["works"], since="1.99")
def test_since(world):
    raise AssertionError("it was tried")

@req("mini.recorded", features=["records"], level="record", arrange=nobody)
@everywhere(vantage=["pod"])
def test_recorded(service, vantage):
    reach(vantage, service)
"""
)
FEATURES = ("works", "half", "harms", "cannot", "finds-out", "breaks", "records")
FILES = {
    "test_mini.py": MINIATURE,
    "none.yaml": "features: []\nsettle: ordered\n",
    "all.yaml": f"features: [{', '.join(FEATURES)}]\nsettle: ordered\nscheduler: rr\n",
    "wrong.yaml": "scheduler: [rr]\n",
}
without = runs("-v", "--lie=resets", "--features={case}/none.yaml", files=FILES)
with_all = runs("-v", "--lie=resets", "--features={case}/all.yaml", files=FILES)


@without
def test_what_is_not_declared_is_unsupported_whatever_comes_of_it(finished: Finished) -> None:
    assert finished.ids("unsupported") == set(finished.outcomes()) - {"mini.breaks"}
    assert finished.ids("unknown") == {"mini.breaks"}, "an error of ours is one, whatever was declared"
    assert not finished.failures()


@without
@pytest.mark.parametrize(
    ("requirement", "reason", "works"),
    [
        ("mini.works", "unsupported: works, though the proxy does not declare works", True),
        ("mini.works-too", "unsupported: works, though the proxy does not declare works", True),
        ("mini.half", "unsupported: works, though the proxy does not declare half", True),
        ("mini.half-not", "unsupported: the proxy does not declare half; tried: observed a refusal without", False),
        ("mini.harms", "unsupported: the proxy does not declare harms, and to try it would do damage", None),
        (
            "mini.cannot",
            "unsupported: the proxy does not declare cannot; not tried: the cluster lacks api-faults",
            None,
        ),
        ("mini.finds-out", "unsupported: the proxy does not declare finds-out; not tried: needs 1000 backends", None),
        ("mini.scheduled", "unsupported: the proxy does not declare scheduler-rr", None),
        ("mini.recorded", "unsupported: the proxy does not declare records; tried: observed a refusal", False),
    ],
)
def test_the_reason_says_what_came_of_it(
    requirement: str,
    reason: str,
    works: bool | None,
    finished: Finished,
) -> None:
    records = [one for one in finished.records if one["id"] == requirement]
    assert records
    for record in records:
        assert record["reason"].startswith(reason)
        assert set(record["undeclared"].values()) == {works}
        shown = next(line for line in finished.lines if line.startswith(f"{record['test']} "))
        assert shown.split()[1] == "SKIPPED"


@without
def test_a_feature_of_which_all_works_is_pointed_out(finished: Finished) -> None:
    """What holds since a later release says nothing."""
    shown = [line for line in finished.lines if line.startswith("feature ")]
    assert shown == ["feature works: works, though the proxy does not declare it (3 tests)"]


@without
def test_what_the_release_does_not_promise_is_not_tried(finished: Finished) -> None:
    (record,) = (one for one in finished.records if one["id"] == "mini.since")
    assert record["reason"] == "unsupported: holds since Kubernetes 1.99, and the proxy is 1.37"
    assert record["undeclared"] == {}


@with_all
def test_what_is_declared_is_judged(finished: Finished) -> None:
    assert finished.ids("pass") == {"mini.works", "mini.works-too", "mini.half", "mini.scheduled"}
    assert finished.ids("fail") == {"mini.half-not", "mini.harms"}
    assert finished.ids("unfit") == {"mini.cannot", "mini.finds-out"}
    assert finished.ids("unsupported") == {"mini.since"}
    assert finished.ids("recorded") == {"mini.recorded"}
    assert not any(record["undeclared"] for record in finished.records)
    assert not any(line.startswith("feature ") for line in finished.lines)


@runs("--features={case}/none.yaml", "--lie=never-settles", "--deadline-scale=0.01", "-k", "works", files=FILES)
def test_what_had_not_settled_works_nowhere(finished: Finished) -> None:
    tried = [one for one in finished.records if one["id"] == "mini.works"]
    assert {works for one in tried for works in one["undeclared"].values()} == {False}
    assert all("tried: not settled after" in one["reason"] for one in tried)


@runs("--features={case}/wrong.yaml", files=FILES)
def test_a_proxy_has_one_scheduler(finished: Finished) -> None:
    assert finished.status == 4
    assert "wrong.yaml: scheduler must be a name such as random, not ['rr']" in finished.err
