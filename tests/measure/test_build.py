# SPDX-License-Identifier: Apache-2.0
"""The client is compiled once, and again when its sources are others."""

from pathlib import Path

import pytest

from clusters.errors import UsageError
from clusters.measure import build


def test_it_is_kept(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def copied(folder: Path) -> Path:
        asked.append(folder)
        made = folder / "traffic"
        made.write_bytes(Path(program).read_bytes())
        made.chmod(0o755)
        return made

    monkeypatch.setattr(build, "compiled", copied)
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    first, again = (build.program(tmp_path, environ) for _ in range(2))
    assert first == again
    assert first.is_relative_to(tmp_path / "cache")
    assert len(asked) == 1
    monkeypatch.setattr(build, "_digest", lambda: "another")
    assert build.program(tmp_path, environ) != first
    assert len(asked) == 2


def test_without_a_cache_it_is_compiled_where_it_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "compiled", lambda folder: folder / "traffic")
    assert build.program(tmp_path, {"XDG_CACHE_HOME": "/proc/nowhere"}) == tmp_path / "traffic"


def test_a_machine_without_a_compiler_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(UsageError, match="here is no compiler: pip install --group dev"):
        build.compiled(tmp_path)


def test_sources_that_do_not_compile_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "traffic.c"
    wrong.write_text("int main(void) { return nothing; }\n")
    monkeypatch.setattr(build, "SOURCE", wrong)
    with pytest.raises(UsageError, match="could not be compiled"):
        build.compiled(tmp_path)
