# SPDX-License-Identifier: Apache-2.0
"""A proxy that dies, never comes up or never settles: what is said, and what is still run."""

import re

from tests.plugin.miniature import HEAD
from tests.plugin.runs import SMALL, Finished, runs

DIED = "fake-proxy on node-b ended with status 7; its log ends:\n    panic: out of ideas"
NOT_READY = "fake-proxy was not ready on node-a, node-b, node-c; its log ends: (nothing was written)"


@runs("--lie=dies", *SMALL)
def test_a_dead_proxy_is_one_error(finished: Finished) -> None:
    assert finished.out.count(DIED) == 1
    assert finished.lines[-1].strip("= ").partition(" in ")[0].endswith(", 1 error")
    assert not finished.has_traceback()


@runs("--lie=dies", *SMALL)
def test_nothing_runs_after_the_proxy_died(finished: Finished) -> None:
    assert finished.records[-1]["outcome"] == "unknown"
    assert finished.records[-1]["reason"] == DIED
    assert {one["outcome"] for one in finished.records[:-1]} == {"pass"}
    assert "clusterip.udp.flow-leaves-removed-endpoint" not in finished.outcomes()


@runs("--lie=dies-between", "conformance/source", "--family=ipv4")
def test_a_proxy_that_died_after_settling_is_noticed(finished: Finished) -> None:
    """Old rules go on answering, so nothing but a look at the proxy tells."""
    assert finished.status == 3
    assert [one["outcome"] for one in finished.records] == ["pass", "unknown"]
    assert finished.out.count(DIED) == 1


@runs("--lie=dies-between", "--lie=silent", "conformance/source", "--family=ipv4")
def test_what_was_judged_before_stands(finished: Finished) -> None:
    assert finished.status == 3
    assert [one["outcome"] for one in finished.records] == ["fail", "fail"]
    assert finished.out.count(DIED) == 1


@runs("--lie=never-ready", "--proxy-ready=20ms")
def test_a_proxy_that_never_comes_up_is_one_error(finished: Finished) -> None:
    assert finished.status == 3
    assert finished.out.count(NOT_READY) == 1
    # What asks for an announcer was not asked for.
    assert re.fullmatch(r"(\d+ deselected, )?1 error in .*", finished.lines[-1].strip("= "))
    assert [(one["outcome"], one["reason"]) for one in finished.records] == [("unknown", NOT_READY)]
    assert not finished.has_traceback()


@runs("--lie=never-settles", "--deadline-scale=0.01", *SMALL)
def test_what_passes_without_settling_proves_nothing(finished: Finished) -> None:
    assert finished.ids("unknown") == set(finished.outcomes())
    for record in finished.records:
        assert record["settled"] is False
        assert record["reason"].startswith("not settled after ")
        assert "node-" in record["reason"]
    shown = finished.failures()
    assert len(shown) == len(finished.records)
    assert all(one["observed"].startswith("it passed, but proves nothing: not settled after") for one in shown)
    assert f"{len(finished.records)} errors in " in finished.lines[-1]


@runs("--lie=never-settles", "--lie=drops", "--deadline-scale=0.01", "conformance/no_endpoints", "-k", "first")
def test_a_violation_is_a_failure_though_nothing_settled(finished: Finished) -> None:
    assert finished.status == 1
    assert finished.ids("fail") == set(finished.outcomes())
    for shown in finished.failures():
        assert shown["note"].startswith("not settled after ")


@runs("--lie=never-settles", "--deadline-scale=0.01", *SMALL)
def test_a_dataplane_that_stopped_following_costs_little(finished: Finished) -> None:
    """Two settles take the whole deadline of 10 s (here 0.1 s), each later one a fifth of it."""
    waits = [one["settle_s"] for one in finished.records if one["settle_s"] is not None]
    assert waits[0] >= 0.1
    assert min(waits[2:]) < 0.1


@runs(
    "--features={case}/f.yaml",
    "conformance/clusterip/test_changes.py",
    "-k",
    "added",
    "--family=ipv4",
    "--deadline-scale=0.4",
    files={"f.yaml": "settle: converge"},
)
def test_a_proxy_that_must_converge_is_watched(finished: Finished) -> None:
    """Every settle lasts the quiet window of 500 ms (here 200), in which scouts see nothing disallowed."""
    assert finished.status == 0
    assert all(one["settle_s"] >= 2 * 0.2 for one in finished.records)
    assert finished.facts()["generations"] == 0


@runs(
    "--features={case}/f.yaml",
    "--lie=keeps-deleted",
    "--deadline-scale=0.05",
    "--family=ipv4",
    "conformance/clusterip/test_changes.py",
    "-k",
    "deleted",
    files={"f.yaml": "settle: converge"},
)
def test_a_proxy_that_does_not_converge_is_named(finished: Finished) -> None:
    assert finished.status == 1
    (record,) = finished.records
    assert record["settled"] is False
    assert re.search(r"node-[abc] ClusterIP 10\.96\.", finished.failures()[0]["note"])


CLEAN_UP = (
    HEAD
    + """
@req("mini.fails-in-the-middle")
@everywhere(vantage=["pod"])
def test_fails(world, vantage):
    service = world.service(endpoints=[])
    world.settle()
    reach(vantage, service)

@req("mini.breaks-in-the-middle")
def test_breaks(world):
    world.service(endpoints=world.backends(1), kind="NodePort")
    raise RuntimeError("broken")

@req("mini.deletes-by-itself")
def test_deletes(world):
    world.service(endpoints=world.backends(1)).delete()

@req("mini.refused-by-the-server")
def test_refused(world):
    world.service(endpoints=world.backends(1), port=99999)
"""
)


@runs("--lie=resets", files={"test_clean_up.py": CLEAN_UP})
def test_transitions_clean_up_after_themselves_however_they_end(finished: Finished) -> None:
    ends = {one["id"]: one["outcome"] for one in finished.records}
    assert ends == {
        "mini.fails-in-the-middle": "fail",
        "mini.breaks-in-the-middle": "unknown",
        "mini.deletes-by-itself": "pass",
        "mini.refused-by-the-server": "unknown",
    }
    facts = finished.facts()
    assert facts["created"] == 4 - 1 + 1  # the sentinel, and one the server refused
    assert facts["left"] == []


HALF_MADE = (
    HEAD
    + """
@req("mini.half-made")
def test_half_made(world):
    backend = world.backends(1)[0]
    world.service(endpoints=[replace(backend, addresses={"IPv4": "10.244.0.2", "IPv6": "not an address"})])
"""
)


@runs(files={"test_half.py": HALF_MADE})
def test_a_service_whose_slice_was_refused_is_deleted_too(finished: Finished) -> None:
    assert finished.ids("unknown") == {"mini.half-made"}
    assert "NotFound" not in finished.out
    assert finished.lines[-1].strip("= ").startswith("1 error in ")
