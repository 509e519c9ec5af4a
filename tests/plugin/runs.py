# SPDX-License-Identifier: Apache-2.0
"""Whole pytest runs as data: a `Command` says what to run, a `Finished` what came of it.

A command runs the repository's own `conformance/`, or the test modules among its `files`: in a clone in miniature,
whose `plugins/` are a copy, so that the plugin takes the clone's conformance directory for its own.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAKE = ("-p", "tests.plugin.fake")
# `sh` stands for any program: it is looked for, and never run.
PROXY = ("--proxy-command=sh", "--k8s-release=1.37")
# With it, no requirement of conformance/ is unsupported.
EVERY_FEATURE = f"--features={ROOT}/tests/plugin/features.yaml"
# Neither belongs to plumbline: the cache would be shared with the outer run, and hypothesis takes 0.4 s to load.
PLAIN = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
# A part of conformance/ with a batch and transitions in it, for runs whose end is not about requirements.
SMALL = ("--family=ipv4", "conformance/clusterip", "-k", "first or changes or udp_flow")
# The most a run may take on a busy machine; only one that hangs comes near it.
PATIENCE = 300.0
LABELS = ("requirement", "expected", "observed", "where", "reproduce")


@dataclass(frozen=True, slots=True)
class Command:
    """A command line after `pytest`, with the fake dataplane and a proxy named unless said otherwise.

    `{case}` in an argument is the directory that holds `files`, which map paths in it to texts.
    """

    arguments: tuple[str, ...]
    files: tuple[tuple[str, str], ...] = ()
    fake: bool = True
    proxy: bool = True
    environ: tuple[tuple[str, str], ...] = ()

    @property
    def has_tests(self) -> bool:
        return any(name.rpartition("/")[2].startswith("test_") for name, _ in self.files)

    def argv(self, report: Path, case: Path) -> list[str]:
        return [
            sys.executable,
            "-m",
            "pytest",
            *PLAIN,
            *(FAKE if self.fake else ()),
            *(PROXY if self.proxy else ()),
            *(() if any(one.startswith("--report=") for one in self.arguments) else (f"--report={report}",)),
            *(one.replace("{case}", str(case)) for one in self.arguments),
            *((str(case),) if self.has_tests else ()),
        ]


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that has ended."""

    status: int
    out: str
    err: str
    report: Path
    case: Path

    @property
    def records(self) -> list[dict[str, Any]]:
        """The lines of requirements.jsonl."""
        file = self.report / "requirements.jsonl"
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    @property
    def judged(self) -> list[dict[str, Any]]:
        """Without those of tests that need what the fake has not, such as real packets."""
        return [one for one in self.records if one["outcome"] != "unfit"]

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def ids(self, *outcomes: str) -> frozenset[str]:
        """The requirements of which some test had one of these outcomes."""
        return frozenset(one["id"] for one in self.records if one["outcome"] in outcomes)

    def outcomes(self) -> Mapping[str, set[str]]:
        """Each requirement's outcomes."""
        found: dict[str, set[str]] = {}
        for one in self.records:
            found.setdefault(one["id"], set()).add(one["outcome"])
        return found

    def facts(self, worker: str = "main") -> dict[str, Any]:
        """What the fake wrote down when it was taken down."""
        found: dict[str, Any] = json.loads((self.report / "logs" / worker / "fake.json").read_text(encoding="utf-8"))
        return found

    def failures(self) -> list[dict[str, str]]:
        """Every failure's lines, by their labels (see plugins/failures.py)."""
        found: list[dict[str, str]] = []
        for line in self.lines:
            label, _, value = line.partition(" ")
            if label == LABELS[0]:
                found.append({})
            if found and label in (*LABELS, "note", "attached") and label not in found[-1]:
                found[-1][label] = value.strip()
        return found

    def has_traceback(self) -> bool:
        return any(word in self.out + self.err for word in ("Traceback", "INTERNALERROR", "plugins/run.py"))


def runs(
    *arguments: str,
    files: Mapping[str, str] | None = None,
    fake: bool = True,
    proxy: bool = True,
    environ: Mapping[str, str] | None = None,
) -> pytest.MarkDecorator:
    """Mark a test with the run whose end it judges; its `finished` fixture is that run."""
    command = Command(
        arguments,
        files=tuple((files or {}).items()),
        fake=fake,
        proxy=proxy,
        environ=tuple((environ or {}).items()),
    )
    return pytest.mark.plumbline_run(command)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What to execute, where, and where its report will be."""

    argv: list[str]
    cwd: Path
    environ: dict[str, str]
    report: Path
    case: Path

    def run(self) -> Finished:
        """Run it to its end."""
        done = subprocess.run(
            self.argv,
            cwd=self.cwd,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return Finished(done.returncode, done.stdout, done.stderr, self.report, self.case)


@dataclass(slots=True)
class Runner:
    """Runs commands, each with a report directory of its own, under one directory."""

    directory: Path
    _count: int = 0

    def prepare(self, command: Command) -> Prepared:
        """Write the command's files and choose where its report will be. Not thread-safe."""
        self._count += 1
        report = self.directory / f"report-{self._count}"
        cwd = self._clone() if command.has_tests else ROOT
        case = (cwd / "conformance" if command.has_tests else self.directory) / f"case_{self._count}"
        for name, text in (("__init__.py", ""), *command.files) if command.files else ():
            file = case / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return Prepared(command.argv(report, case), cwd, self.environment(command), report, case)

    def environment(self, command: Command) -> dict[str, str]:
        """This process's, without what an outer pytest or a user put there; compiled once for all runs.

        Where CI or BUILD_NUMBER is set, pytest repeats every failure's whole text in its summary.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "PLUMBLINE_", "PYTHONDONTWRITE", "COLUMNS"))
            and name not in ("CI", "BUILD_NUMBER")
        }
        return {**kept, "PYTHONPYCACHEPREFIX": str(self.directory / "compiled"), **dict(command.environ)}

    def _clone(self) -> Path:
        clone = self.directory / "clone"
        if not clone.exists():
            (clone / "conformance").mkdir(parents=True)
            (clone / "conformance" / "__init__.py").touch()
            shutil.copytree(ROOT / "plugins", clone / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
            for name in ("conftest.py", "pyproject.toml", "clusters", "dataplane_ref", "tests"):
                (clone / name).symlink_to(ROOT / name)
        return clone
