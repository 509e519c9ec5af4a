# SPDX-License-Identifier: Apache-2.0
"""The coverage page is true: every title and id in it exists, nothing is left out, and the page is the newest."""

from dataclasses import replace

import pytest

from plugins.requirements import Requirement
from tests.coverage.page import (
    PAGE,
    Bug,
    CoverageError,
    UpstreamTest,
    bugs,
    page,
    problems,
    requirements,
    upstream_tests,
)

ONE = Requirement("a.b", "It MUST.", "must", "core", "1.0", "https://x", upstream=("Services should work",))
TEST = UpstreamTest("01.1", "Services should work", "here")
BUG = Bug("B01", "k#1", "it breaks", ("a.b",))
REASONS = {"restart": "restarts"}


def test_the_lists_are_complete() -> None:
    assert problems(requirements(), upstream_tests(), *bugs()) == []


def test_the_page_in_git_is_the_newest() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(requirements(), upstream_tests(), *bugs())


def test_complete_lists_have_no_problem() -> None:
    assert problems([ONE], [TEST], REASONS, [BUG]) == []


@pytest.mark.parametrize(
    ("found", "tests", "every_bug", "sentence"),
    [
        (
            [replace(ONE, upstream=("No such",))],
            [],
            [],
            "requirement a.b names an upstream test that is none: 'No such'",
        ),
        ([], [TEST], [], "upstream test 01.1 needs either a requirement or a reason (why)"),
        ([ONE], [replace(TEST, why="idle")], [], "upstream test 01.1 needs either a requirement or a reason (why)"),
        ([], [replace(TEST, level="x")], [], "upstream test 01.1 has the unknown level 'x'"),
        ([], [], [BUG], "bug B01 names no requirement: 'a.b'"),
        ([], [], [replace(BUG, seen_by=())], "bug B01 needs either requirements (seen_by) or a reason (later)"),
        (
            [ONE],
            [TEST],
            [replace(BUG, later="restart")],
            "bug B01 needs either requirements (seen_by) or a reason (later)",
        ),
        ([], [], [replace(BUG, seen_by=(), later="x")], "bug B01 has the unknown reason 'x'"),
    ],
)
def test_what_is_missing_is_one_sentence(
    found: list[Requirement], tests: list[UpstreamTest], every_bug: list[Bug], sentence: str
) -> None:
    assert problems(found, tests, REASONS, every_bug) == [sentence]


def test_an_entry_with_a_wrong_field_is_one_sentence() -> None:
    with pytest.raises(CoverageError, match=r"^'01.1' lacks a field, or has one too many$"):
        upstream_tests("[{id: '01.1', titel: x}]")


def test_the_page_says_who_judges_what() -> None:
    text = page(
        [ONE], [TEST, UpstreamTest("01.2", "y", "dns")], REASONS, [BUG, Bug("B02", "k#2", "z", later="restart")]
    )
    assert "| 01.1 | Services should work |  | `a.b` |" in text
    assert "- a DNS server is judged: 01.2" in text
    assert "| B01 | k#1 | it breaks | `a.b` |" in text
    assert "| B02 | k#2 | z | later (restart) |" in text
