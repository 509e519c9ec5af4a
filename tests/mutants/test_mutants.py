# SPDX-License-Identifier: Apache-2.0
"""The harness of the mutants, on a datapath in miniature; and that the real list still fits the real sources."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.mutants.__main__ import main
from tests.mutants.matrix import Matrix, Row, definition, row_of, table
from tests.mutants.mutant import PACKAGE, Mutant, MutantError, mutants, named

ONE = {"id": "one", "sentence": "It adds.", "file": "sum.py", "from": "a - b", "to": "a + b"}
MUTANT = Mutant("one", "It adds.", "sum.py", "a - b", "a + b")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository whose datapath is one line."""
    package = tmp_path / "root" / PACKAGE
    (package / "__pycache__").mkdir(parents=True)
    (package / "sum.py").write_text("a - b\nb - a\n", encoding="utf-8")
    return package.parent


def listed(tmp_path: Path, *entries: Any) -> Path:
    (tmp_path / "mutants.yaml").write_text(yaml.safe_dump(list(entries)), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.id)
def test_the_text_of_every_mutant_is_still_there(mutant: Mutant) -> None:
    assert mutant.problem() is None


def test_a_mutant_is_a_copy_with_the_text_replaced(root: Path, tmp_path: Path) -> None:
    made = MUTANT.make(tmp_path / "made", root)
    assert (made / PACKAGE / "sum.py").read_text() == "a + b\nb - a\n"
    assert (root / PACKAGE / "sum.py").read_text() == "a - b\nb - a\n"
    assert not (made / PACKAGE / "__pycache__").exists()


@pytest.mark.parametrize(
    ("mutant", "sentence"),
    [
        (Mutant("x", "", "sum.py", "a * b", ""), "mutant x: its text occurs 0 times in dataplane_ref/sum.py"),
        (Mutant("x", "", "sum.py", " - ", ""), "mutant x: its text occurs 2 times in dataplane_ref/sum.py"),
        (Mutant("x", "", "gone.py", "a", ""), "mutant x: dataplane_ref/gone.py cannot be read: No such file"),
    ],
)
def test_a_mutant_whose_text_is_not_there_once_cannot_be_made(
    root: Path, tmp_path: Path, mutant: Mutant, sentence: str
) -> None:
    with pytest.raises(MutantError) as caught:
        mutant.make(tmp_path / "made", root)
    assert str(caught.value).startswith(sentence)


def test_one_that_does_not_compile_is_one_sentence(root: Path, tmp_path: Path) -> None:
    (root / PACKAGE / "bpf").mkdir()
    (root / PACKAGE / "__init__.py").touch()
    (root / PACKAGE / "bpf" / "x.h").write_text("int x;", encoding="utf-8")
    (root / PACKAGE / "build.py").write_text("import sys; sys.exit('x.h:1: no\\n such type')", encoding="utf-8")
    with pytest.raises(MutantError) as caught:
        Mutant("x", "", "bpf/x.h", "int", "nit").make(tmp_path / "made", root)
    assert str(caught.value) == "mutant x cannot be compiled: x.h:1: no such type"


def test_a_block_of_text_ends_where_its_last_line_does(tmp_path: Path) -> None:
    (tmp_path / "mutants.yaml").write_text(
        "- id: x\n  sentence: s\n  file: f\n  from: |\n    a\n      b\n  to: |\n    c\n", encoding="utf-8"
    )
    (mutant,) = mutants(tmp_path)
    assert (mutant.old, mutant.new) == ("a\n  b", "c")


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([ONE, ONE], "has two mutants one"),
        (
            [{**ONE, "more": "x"}],
            "'one' must have the keys id, sentence, file, from, to",
        ),
        (
            [{**ONE, "to": 3}],
            "'one' must have the keys id, sentence, file, from, to",
        ),
        (["one"], "'one' must have the keys"),
        ([{**ONE, "to": "a - b"}], "mutant one changes nothing"),
        ([{**ONE, "among": "affinity"}], "mutant one: among must be a list of folders of conformance/"),
        ([{**ONE, "among": ["nothing"]}], "mutant one: among must be a list of folders of conformance/"),
    ],
)
def test_a_bad_list_is_one_sentence(tmp_path: Path, entries: list[Any], sentence: str) -> None:
    with pytest.raises(MutantError) as caught:
        mutants(listed(tmp_path, *entries))
    assert sentence in str(caught.value)


def test_mutants_are_chosen_by_name(tmp_path: Path) -> None:
    path = listed(tmp_path, ONE, {**ONE, "id": "two", "among": ["affinity"]})
    assert [one.id for one in named([], path)] == ["one", "two"]
    assert [one.id for one in named(["two"], path)] == ["two"]
    with pytest.raises(MutantError, match=r"^there is no mutant 'three'; there are one, two$"):
        named(["three"], path)


def test_an_unknown_mutant_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no-such-mutant"]) == 4
    assert capsys.readouterr().err.startswith("plumbline: there is no mutant 'no-such-mutant'; there are ")


def records(**outcomes: int) -> list[dict[str, str]]:
    """So many tests of requirement `a.b` with each outcome."""
    return [
        {"id": "a.b", "outcome": word.replace("_", "-")} for word, count in outcomes.items() for _ in range(count)
    ]


def row(judged: str, killers: str = "") -> Row:
    """A row of requirements with names of one letter."""
    return Row(definition(MUTANT), frozenset(judged), frozenset(killers), len(killers), len(judged))


def test_a_mutant_that_fails_or_warns_is_killed() -> None:
    for word in ("fail", "warned"):
        found = row_of(MUTANT, records(**{word: 2, "pass": 3}), 1, "5 done")
        assert (found.killers, found.failed, found.tests) == (frozenset({"a.b"}), 2, 5)


def test_a_mutant_that_passes_everything_survives() -> None:
    found = row_of(MUTANT, records(**{"pass": 3, "unsupported": 1}), 0, "4 done")
    assert not found.is_killed
    assert found.is_clean
    text = table(Matrix({"one": found}), [MUTANT], ["a.b"])
    assert "| one | It adds. | `sum.py` | **nobody** | 0 of 3 |" in text
    assert "## Killing no mutant\n\n- `a.b`" in text


def test_what_is_only_recorded_judges_nothing() -> None:
    found = row_of(MUTANT, [*records(**{"pass": 1}), {"id": "c.d", "outcome": "recorded"}], 0, "2 done")
    assert found.judged == {"a.b"}


@pytest.mark.parametrize("outcomes", [{}, {"unknown": 3}, {"pass": 2, "unknown": 1}])
def test_a_mutant_that_nobody_could_judge_is_no_kill(outcomes: dict[str, int]) -> None:
    found = row_of(MUTANT, records(**outcomes), 3, "x\nreference on node-a ended")
    assert not found.is_killed
    assert not found.is_clean
    assert found.broken == "could not be judged (exit status 3): reference on node-a ended"


def test_the_table_names_who_killed_whom() -> None:
    mutant = Mutant("one", "It adds.", "sum.py", "a - b", "a + b", ("affinity",))
    text = table(
        Matrix({"one": row("abcdefghi", "abcdefgh")}), [mutant, Mutant("two", "x", "f", "a", "b")], "abcdefghi"
    )
    assert "`a`, `b`, `c`, `d`, `e`, `f`, and 2 more | 8 of 9 (among affinity) |" in text
    assert "| two | x | `f` | not judged yet | |" in text
    assert "1 of 2 mutants killed" in text


def test_requirements_that_kill_the_same_mutants_count_as_one() -> None:
    matrix = Matrix({"one": row("abcd", "ab"), "two": row("abcd", "bc")})
    assert matrix.distinct() == (["a", "b", "c"], {})
    matrix = Matrix({"one": row("abcd", "ab"), "two": row("abcd", "c")})
    assert matrix.distinct() == (["a", "c"], {"b": ["a"]})


def test_the_table_names_what_is_too_like_within_a_topic() -> None:
    judged = frozenset({"a.x", "a.y", "b.x"})
    matrix = Matrix({"one": Row("", judged, judged, 3, 3)})
    text = table(matrix, [], sorted(judged))
    assert "## Not told apart within a topic\n\n- `a.y` from `a.x`\n" in text
    assert "tell 2 of them from every other of their topic, and 1" in text


def test_only_mutants_that_both_judged_tell_two_requirements_apart() -> None:
    matrix = Matrix({"one": row("a", "a"), "two": row("b", "b")})
    assert matrix.distinct() == (["a"], {"b": ["a"]})


def test_a_matrix_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "mutants.json"
    assert Matrix.read(path) == Matrix()
    matrix = Matrix({"one": row("abc", "b"), "two": row("bc", "c")})
    matrix.write(path)
    assert Matrix.read(path) == matrix


def test_a_mutant_that_was_changed_is_judged_anew() -> None:
    matrix = Matrix({"one": row("a", "a"), "gone": row("a", "a")})
    assert matrix.is_current(MUTANT)
    assert matrix.restricted_to([MUTANT]).rows.keys() == {"one"}
    changed = Mutant("one", "It adds.", "sum.py", "a - b", "a * b")
    assert not matrix.is_current(changed)
    assert not matrix.restricted_to([changed]).rows
