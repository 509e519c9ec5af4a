# SPDX-License-Identifier: Apache-2.0
"""Failures that the user's file calls known: expected to fail, and an error once they do not."""

from tests.plugin.runs import Finished, runs

NOT_READY = "endpoints.not-ready.never-used"
FILE = {"known.txt": f"# what we know\n{NOT_READY}  # until it is mended\n"}


@runs(
    "--lie=ignores-readiness", "--known-failures={case}/known.txt", "conformance/endpoints", "-k", "first", files=FILE
)
def test_a_known_failure_is_expected(finished: Finished) -> None:
    assert finished.status == 0
    assert finished.outcomes() == {NOT_READY: {"known-failure"}}
    assert f"{len(finished.records)} xfailed in " in finished.lines[-1]
    assert not finished.failures()


@runs(
    "--lie=ignores-readiness", "--known-failures={case}/known.txt", "conformance/endpoints", "-k", "first", files=FILE
)
def test_a_known_failure_certifies_nothing(finished: Finished) -> None:
    assert any(line.startswith("core level: not certified: 0 of ") for line in finished.lines)


@runs("--known-failures={case}/known.txt", "conformance/endpoints", "-k", "first", files=FILE)
def test_one_that_passes_again_fails_the_run(finished: Finished) -> None:
    assert finished.status == 1
    assert finished.outcomes() == {NOT_READY: {"stale-known-failure"}}
    for shown in finished.failures():
        assert shown["observed"].startswith("it passes: take it out of the --known-failures file, or name the axes")


@runs(
    "--lie=silent",
    "--known-failures={case}/known.txt",
    "conformance/endpoints",
    "-k",
    "first",
    "conformance/source",
    files=FILE,
)
def test_others_fail_as_ever(finished: Finished) -> None:
    assert finished.status == 1
    assert finished.ids("known-failure") == {NOT_READY}
    assert finished.ids("fail") == set(finished.outcomes()) - {NOT_READY}


@runs(
    "--lie=dies",
    "--known-failures={case}/known.txt",
    "conformance/clusterip/test_changes.py",
    files={"known.txt": "clusterip.endpoints.added\n"},
)
def test_an_error_of_ours_is_no_known_failure(finished: Finished) -> None:
    assert finished.status == 3
    assert "clusterip.endpoints.added" in finished.ids("unknown")


IPV6 = {"known.txt": f"{NOT_READY}   family=IPv6\n"}


@runs("--lie=one-family", "--known-failures={case}/known.txt", "conformance/endpoints", "-k", "first", files=IPV6)
def test_a_failure_may_be_known_for_some_axes_only(finished: Finished) -> None:
    assert finished.status == 0
    by_family = {one["axes"]["family"]: one["outcome"] for one in finished.records}
    assert by_family == {"IPv4": "pass", "IPv6": "known-failure"}


@runs("--lie=silent", "--known-failures={case}/known.txt", "conformance/endpoints", "-k", "first", files=IPV6)
def test_on_other_axes_it_is_a_failure(finished: Finished) -> None:
    assert finished.status == 1
    by_family = {one["axes"]["family"]: one["outcome"] for one in finished.records}
    assert by_family == {"IPv4": "fail", "IPv6": "known-failure"}


@runs(
    "--known-failures={case}/known.txt", "conformance/endpoints", files={"known.txt": f"{NOT_READY}d family=IPv6\n"}
)
def test_one_of_a_requirement_that_does_not_exist_is_refused(finished: Finished) -> None:
    """Nobody would notice that it never comes true."""
    assert finished.status == 4
    says = f"there is no requirement '{NOT_READY}d'; did you mean '{NOT_READY}'?"
    assert f"ERROR: --known-failures={finished.case}/known.txt: {says}" in finished.err


@runs("--known-failures={case}/known.txt", "conformance/endpoints", files={"known.txt": "what.on-earth\n"})
def test_nothing_like_it_exists_either(finished: Finished) -> None:
    assert "there is no requirement 'what.on-earth'; --requirements prints them all" in finished.err


@runs("--known-failures={case}/known.txt", "conformance/source", files=FILE)
def test_it_may_be_of_a_part_that_is_not_collected(finished: Finished) -> None:
    assert finished.status == 0
