# SPDX-License-Identifier: Apache-2.0
"""The build: the object in git is what the source gives, wherever that is; and what is said where it cannot be."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane_ref import build as build_module
from dataplane_ref.build import SOURCE, ZIGLANG, BuildError, build, find, main
from dataplane_ref.loader import OBJECT, BpfObject
from dataplane_ref.loader.elf import Elf
from dataplane_ref.strip import strip
from tests.datapath.conftest import FIXTURES, needs_root

TOP = Path(__file__).parents[2]
CLANG = next(filter(None, map(shutil.which, ("clang", "clang-14", "clang-16", "clang-19"))), None)


@pytest.fixture
def compiler() -> None:
    try:
        find("zig")
    except BuildError as error:
        pytest.skip(f"unfit: {error}")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The datapath's source somewhere else, without its object."""
    return Path(shutil.copytree(SOURCE, tmp_path / "elsewhere" / "bpf", ignore=shutil.ignore_patterns("*.o")))


@pytest.mark.usefixtures("compiler")
def test_the_object_in_git_is_what_its_source_gives(capsys: pytest.CaptureFixture[str]) -> None:
    assert (main(["--check"]), *capsys.readouterr()) == (0, "", "")


@pytest.mark.usefixtures("compiler")
def test_the_bytes_do_not_depend_on_the_folder(copy: Path) -> None:
    data = build(copy)
    assert data == build(SOURCE)
    for place in (str(copy.parent), str(TOP), sys.prefix):
        assert place.encode() not in data


@pytest.mark.usefixtures("compiler")
def test_only_what_is_read_is_in_the_object(copy: Path) -> None:
    sections = {section.name for section in Elf(build(copy)).sections}
    assert {".BTF", ".BTF.ext", ".maps", "license", "tc/ingress"} <= sections
    assert not [name for name in sections if name.startswith((".debug", ".rel.debug", ".llvm", ".rel.BTF"))]


@pytest.mark.usefixtures("compiler")
def test_stripping_twice_changes_nothing() -> None:
    data = build(FIXTURES)
    assert strip(data) == data


@pytest.mark.usefixtures("compiler")
def test_check_names_an_outdated_object(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = copy / OBJECT.name
    assert main(["--source", str(copy), "--check"]) == 1
    assert capsys.readouterr().err == f"plumbline: there is no {output}: type `make datapath`.\n"
    assert main(["--source", str(copy)]) == 0
    assert main(["--source", str(copy), "--check"]) == 0
    before = output.read_bytes()
    source = copy / "datapath.c"
    source.write_text(source.read_text().replace("Dual BSD/GPL", "GPL"))
    capsys.readouterr()
    assert main(["--source", str(copy), "--check"]) == 1
    assert capsys.readouterr().err == (f"plumbline: {output} is not what its source gives: type `make datapath`.\n")
    assert output.read_bytes() == before


@pytest.mark.usefixtures("compiler")
def test_macros_and_the_name_of_the_object(tmp_path: Path) -> None:
    (tmp_path / "datapath.c").write_text(
        'char _license[] __attribute__((section("license"))) = LICENCE;\n#ifndef MUTANT\n#error no mutant\n#endif\n'
    )
    output = tmp_path / "mutant.o"
    assert main(["--source", str(tmp_path), "-D", "MUTANT", "-D", 'LICENCE="GPL"', "--output", str(output)]) == 0
    section = Elf(output.read_bytes()).section("license")
    assert section is not None
    assert section.data == b"GPL\0"


@pytest.mark.usefixtures("compiler")
def test_what_the_compiler_says_is_passed_on(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "datapath.c").write_text("int x = y;\n")
    assert main(["--source", str(copy)]) == 1
    assert capsys.readouterr().err.startswith("plumbline: datapath.c:1:9: error: use of undeclared identifier 'y'")
    assert not (copy / OBJECT.name).exists()


@pytest.mark.usefixtures("compiler")
def test_no_source_and_nowhere_to_write(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--source", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"plumbline: there is no datapath.c in {tmp_path}: name the folder of the datapath's source with --source.\n"
    )
    output = tmp_path / "no" / "x.o"
    assert main(["--source", str(copy), "--output", str(output)]) == 1
    assert capsys.readouterr().err == f"plumbline: {output} cannot be written: No such file or directory.\n"


def test_without_the_pinned_compiler(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(build_module, "_ziglang", lambda: None)
    assert main([]) == 1
    assert capsys.readouterr().err == (
        f"plumbline: the pinned compiler is ziglang {ZIGLANG} and here is none: type `make datapath`, which "
        "installs it, or name a clang with --compiler.\n"
    )


@pytest.mark.usefixtures("compiler")
def test_another_version_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.16.0")
    with pytest.raises(BuildError, match=f"the pinned compiler is ziglang {ZIGLANG} and here is 0.16.0: type `make"):
        find("zig")


def test_the_pin_is_the_one_that_make_installs() -> None:
    assert f'"ziglang=={ZIGLANG}"' in (TOP / "pyproject.toml").read_text()
    assert f"\nziglang=={ZIGLANG}\n" in (TOP / "constraints.txt").read_text()


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (None, "there is no compiler {path} here: type `make datapath`, which brings its own."),
        ("echo clang version 13.0.1", "{path} is not clang 14 or newer: type `make datapath`, which brings its own"),
        ("echo gcc 12", "{path} is not clang 14 or newer: type `make datapath`, which brings its own compiler."),
    ],
)
def test_compilers_that_will_not_do(script: str | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "cc"
    if script:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    with pytest.raises(BuildError) as caught:
        find(str(path))
    assert str(caught.value).startswith(sentence.format(path=path))


@needs_root
@pytest.mark.skipif(CLANG is None, reason="unfit: there is no clang")
def test_the_loader_takes_what_clang_makes_too(tmp_path: Path) -> None:
    assert CLANG
    path = tmp_path / "x.o"
    path.write_bytes(build(FIXTURES, compiler=CLANG))
    with BpfObject.open(path).load() as loaded:
        assert loaded.programs["plumbline_ingress"].run(bytes(64), ctx=bytes(192)).data[0] == 1


def test_git_takes_the_object_for_binary() -> None:
    asked = ["git", "check-attr", "binary", "--", str(OBJECT.relative_to(TOP))]
    done = subprocess.run(asked, cwd=TOP, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"unfit: this is no git clone: {done.stderr.strip()}")
    assert done.stdout.endswith("binary: set\n")
