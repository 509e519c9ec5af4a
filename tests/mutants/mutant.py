# SPDX-License-Identifier: Apache-2.0
"""A mutant: which text of the reference datapath becomes which, and the copy of the datapath where it has."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "dataplane_ref"
LISTS = Path(__file__).with_name("mutants")
CONFORMANCE = ROOT / "conformance"
KEYS = ("id", "sentence", "file", "from", "to")
COMPILED = (".c", ".h")


class MutantError(Exception):
    """A mutant that cannot be made; one sentence says why."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`sentence` says what is wrong; `old`, which occurs once in `file` (below `dataplane_ref/`), becomes `new`.

    `among` are the folders of `conformance/` whose requirements judge it; all where it names none.
    """

    id: str
    sentence: str
    file: str
    old: str
    new: str
    among: tuple[str, ...] = ()

    @property
    def is_compiled(self) -> bool:
        """Whether its object is another one than the committed."""
        return self.file.endswith(COMPILED)

    def problem(self, root: Path = ROOT) -> str | None:
        """Why it cannot be made of the sources below `root`, in one sentence; None where it can."""
        try:
            count = (root / PACKAGE / self.file).read_text(encoding="utf-8").count(self.old)
        except OSError as error:
            return f"mutant {self.id}: {PACKAGE}/{self.file} cannot be read: {error.strerror}"
        if count == 1:
            return None
        return f"mutant {self.id}: its text occurs {count} times in {PACKAGE}/{self.file}, and must occur once"

    def make(self, directory: Path, root: Path = ROOT) -> Path:
        """A copy of the package in `directory`, with the text replaced, compiled if need be; returns `directory`.

        Raises MutantError.
        """
        problem = self.problem(root)
        if problem:
            raise MutantError(problem)
        shutil.copytree(root / PACKAGE, directory / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        file = directory / PACKAGE / self.file
        file.write_text(file.read_text(encoding="utf-8").replace(self.old, self.new), encoding="utf-8")
        if self.is_compiled:
            self._compile(directory / PACKAGE / "bpf", root)
        return directory

    def _compile(self, sources: Path, root: Path) -> None:
        done = subprocess.run(
            [
                *(sys.executable, "-m", f"{PACKAGE}.build", "--source", str(sources)),
                *("--output", str(sources / "plumbline.bpf.o")),
            ],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split())
            raise MutantError(f"mutant {self.id} cannot be compiled: {said}")


def mutants(directory: Path = LISTS) -> list[Mutant]:
    """All of them, file by file, each in its own order. Raises MutantError."""
    found = [mutant for path in sorted(directory.glob("*.yaml")) for mutant in _listed(path)]
    for number, mutant in enumerate(found):
        if mutant.id in {other.id for other in found[:number]}:
            raise MutantError(f"{directory} has two mutants {mutant.id}")
    return found


def named(ids: list[str], directory: Path = LISTS) -> list[Mutant]:
    """Those with these ids, or all where none is named. Raises MutantError."""
    every = {mutant.id: mutant for mutant in mutants(directory)}
    unknown = [name for name in ids if name not in every]
    if unknown:
        raise MutantError(f"there is no mutant {unknown[0]!r}; there are {', '.join(every)}")
    return [every[name] for name in ids or every]


def _listed(path: Path) -> list[Mutant]:
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(entries, list):
        raise MutantError(f"{path} must be a list of mutants")
    return [_mutant(path, entry) for entry in entries]


def _mutant(path: Path, entry: Any) -> Mutant:
    texts = {key: value for key, value in entry.items() if key != "among"} if isinstance(entry, dict) else {}
    if set(texts) != set(KEYS) or not all(isinstance(text, str) for text in texts.values()):
        shown = entry.get("id", entry) if isinstance(entry, dict) else entry
        raise MutantError(f"{path}: {shown!r} must have the keys {', '.join(KEYS)}, each a text, and may have among")
    if entry["from"] == entry["to"]:
        raise MutantError(f"{path}: mutant {entry['id']} changes nothing")
    among = entry.get("among", [])
    if not isinstance(among, list) or not all(isinstance(one, str) and (CONFORMANCE / one).is_dir() for one in among):
        raise MutantError(f"{path}: mutant {entry['id']}: among must be a list of folders of conformance/")
    # A block's last line end belongs to YAML, not to the text.
    old, new = entry["from"].rstrip("\n"), entry["to"].rstrip("\n")
    return Mutant(entry["id"], entry["sentence"], entry["file"], old, new, tuple(among))
