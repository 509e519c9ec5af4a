# SPDX-License-Identifier: Apache-2.0
"""Which requirements a run judges, what `--requirements` prints, and what a selection may claim."""

import pytest

from plugins.requirements import ids_in
from tests.plugin.miniature import HEAD
from tests.plugin.runs import ROOT, Finished, runs

LEVELS = (
    HEAD
    + """
def nobody(world):
    return world.service(endpoints=[])

@req("mini.b-core", level="core")
def test_core(world):
    pass

@req("mini.a-extended", level="extended", since="1.21")
def test_extended(world):
    pass

@req("mini.c-record", level="record", should="It SHOULD be so.")
def test_record(world):
    pass

@pytest.mark.scale
@req("mini.d-scale", level="core")
def test_scale(world):
    pass

@pytest.mark.load
@req("mini.e-load")
def test_load(world):
    pass

@req("mini.g-announced", needs=["announcer"])
def test_announced(world):
    raise AssertionError("nobody has asked for an announcer")

@req("mini.f-arranged", arrange=nobody)
@everywhere(vantage=["pod"], family=["IPv4", "IPv6"])
def test_arranged(service, vantage, family):
    vantage.open(service.cluster_ip(family), "TCP").must_stay_within_the_verdict()
"""
)
FILES = {"test_levels.py": LEVELS}
ALL = {"mini.a-extended", "mini.b-core", "mini.c-record", "mini.f-arranged"}


def case(name: str, found: set[str], *arguments: str) -> object:
    return pytest.param(found, id=name, marks=runs(*arguments, files=FILES))


@pytest.mark.parametrize(
    "found",
    [
        case("default", ALL),
        case("extended", ALL - {"mini.c-record"}, "--level=extended"),
        case("core", {"mini.b-core"}, "--level=core"),
        case("scale", {"mini.d-scale"}, "-m", "scale"),
        case("not load", ALL, "--level=all", "-m", "not load"),
        case("load", {"mini.e-load"}, "-m", "load"),
    ],
)
def test_level_and_marks_choose(found: set[str], finished: Finished) -> None:
    assert set(finished.outcomes()) == found
    assert finished.status == 0


@runs("-v", files=FILES)
def test_arranged_requirements_come_first(finished: Finished) -> None:
    assert [one["id"] for one in finished.records][:2] == ["mini.f-arranged"] * 2


@pytest.mark.parametrize(
    ("family", "kept"),
    [
        pytest.param(
            "ipv4", "IPv4", marks=runs("--family=ipv4", "conformance/source", "conformance/clusterip/test_reach.py")
        ),
        pytest.param(
            "ipv6", "IPv6", marks=runs("--family=ipv6", "conformance/source", "conformance/clusterip/test_hairpin.py")
        ),
    ],
)
def test_one_family_is_judged_alone(family: str, kept: str, finished: Finished) -> None:
    assert finished.status == 0
    axes = {one["axes"].get("family") for one in finished.records}
    assert axes == {kept}
    assert {seen["family"] for one in finished.records for seen in one["observations"]} == {kept}
    line = next(line for line in finished.lines if line.startswith("core level: "))
    assert line.startswith("core level: not certified: "), family
    assert " tests not selected" in line


@runs("-k", "test_reach and first")
def test_a_part_is_not_certified(finished: Finished) -> None:
    assert finished.status == 0
    assert set(finished.outcomes()) == finished.ids("pass")
    line = next(line for line in finished.lines if line.startswith("core level: "))
    assert line.startswith(f"core level: not certified: {len(finished.outcomes())} of ")
    assert " tests not selected" in line


@runs("conformance/source")
def test_a_directory_is_not_certified(finished: Finished) -> None:
    assert any(line.startswith("core level: not certified") for line in finished.lines)


@runs("-k", "not IPv6 and not UDP and not second and not third")
def test_requirements_without_some_of_their_tests_are_not_certified(finished: Finished) -> None:
    """Every core requirement has tests left, but half of their cells were deselected."""
    assert finished.status == 0
    assert any(line.startswith("core level: not certified") for line in finished.lines)


@runs("--requirements", proxy=False, fake=False)
def test_the_list_is_sorted_and_nothing_else(finished: Finished) -> None:
    assert finished.status == 0
    assert finished.err == ""
    rows = [line.split("\t") for line in finished.lines]
    assert rows
    assert [row[0] for row in rows] == sorted({row[0] for row in rows})
    for name, level, since, sentence in rows:
        assert "." in name
        assert level in ("core", "extended", "record")
        assert since.startswith("1.")
        assert " MUST " in sentence or " SHOULD " in sentence


@runs("--requirements", proxy=False, fake=False)
def test_ids_can_be_told_from_the_text(finished: Finished) -> None:
    """Known failures and deviations are checked before anything is collected."""
    ids = ids_in(ROOT / "conformance")
    assert {line.partition("\t")[0] for line in finished.lines} <= ids
    assert "clusterip.reach.no-such-thing" not in ids


@runs("--requirements", "-n", "2", proxy=False, fake=False)
def test_the_list_is_printed_once_with_xdist_too(finished: Finished) -> None:
    assert finished.status == 0
    assert [line.count("\t") for line in finished.lines] == [3] * len(finished.lines)
    assert len(set(finished.lines)) == len(finished.lines)


@runs("--requirements", "--level=extended", "-q", proxy=False, fake=False, files=FILES)
def test_the_list_follows_the_selection(finished: Finished) -> None:
    """What needs an announcer stands in it though no system is named, and so no announcer."""
    assert finished.out == (
        "mini.a-extended\textended\t1.21\tIt MUST be so.\n"
        "mini.b-core\tcore\t1.0\tIt MUST be so.\n"
        "mini.f-arranged\textended\t1.0\tIt MUST be so.\n"
        "mini.g-announced\textended\t1.0\tIt MUST be so.\n"
    )


@runs("--requirements", proxy=False, fake=False, files={"test_bad.py": HEAD + "@req('bad')\ndef test_bad(): pass\n"})
def test_a_list_that_cannot_be_made_says_why(finished: Finished) -> None:
    assert finished.status not in (0, 5)
    assert finished.out == ""
    assert "requirement 'bad': the id must be dotted lower-case words" in finished.err


# What only a whole collection shows to be wrong.
BARE = "def test_bare(): pass\n"
TWICE = "@req('mini.twice')\ndef test_one(): pass\n@req('mini.twice')\ndef test_two(): pass\n"
NO_REQUIREMENT = "test_wrong.py::test_bare has no @requirement: every conformance test judges one"
TWO_TESTS = "requirement 'mini.twice' is declared by both "


def wrong(name: str, sentence: str, text: str, *arguments: str) -> object:
    return pytest.param(sentence, id=name, marks=runs(*arguments, files={"test_wrong.py": HEAD + text}))


@pytest.mark.parametrize(
    "sentence",
    [
        wrong("no requirement", NO_REQUIREMENT, BARE),
        wrong("no requirement, xdist", NO_REQUIREMENT, BARE, "-n", "2"),
        wrong("one id twice", TWO_TESTS, TWICE),
    ],
)
def test_a_conformance_test_out_of_order_fails_collection(sentence: str, finished: Finished) -> None:
    assert finished.status == 3
    assert sentence in finished.out
    assert not finished.has_traceback()
    assert finished.records == []
