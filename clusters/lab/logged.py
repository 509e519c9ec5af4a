# SPDX-License-Identifier: Apache-2.0
"""Processes of the lab itself, outside all nodes: each with a log file on this machine."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clusters.errors import PlumblineError
from clusters.lab.supervised import REPOSITORY, Exit, Supervisor

LAST_LINES = 5


@dataclass(frozen=True, slots=True)
class Logged:
    """Starts programs through the supervisor; the output of `name` goes to `name`.log in `directory`.

    `pids` are those in the lab, by name.
    """

    supervisor: Supervisor
    directory: Path
    pids: dict[str, int] = field(default_factory=dict)

    def program(
        self,
        name: str,
        argv: Sequence[str],
        *,
        descriptors: Sequence[int] = (),
        listeners: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Start a program; its PID in the lab. `descriptors`, then `listeners`, become 3, 4, …"""
        log = os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            pid = self.supervisor.spawn(
                name, argv, log=log, env=environment, descriptors=descriptors, listeners=listeners
            )
        finally:
            os.close(log)
        self.pids[name] = pid
        return pid

    def python(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        descriptors: Sequence[int] = (),
        listeners: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Start one of plumbline's own modules, with this interpreter."""
        return self.program(
            name,
            [sys.executable, *arguments],
            descriptors=descriptors,
            listeners=listeners,
            environment={"PYTHONPATH": str(REPOSITORY), **(environment or {})},
        )

    def exits(self) -> list[Exit]:
        """Other processes that have ended since the last call. Raises PlumblineError if one of these has."""
        ended = self.supervisor.exits()
        for one in ended:
            if one.pid in self.pids.values():
                words = self.last_words(one.name)
                raise PlumblineError(f"the lab's {one.name} ended with status {one.status}; its log ends:{words}")
        return ended

    def path(self, name: str) -> Path:
        """Where a program's output goes."""
        return self.directory / f"{name}.log"

    def last_words(self, name: str) -> str:
        """The end of a program's output, for an error message."""
        lines = self.path(name).read_text(encoding="utf-8", errors="replace").splitlines()
        return "".join(f"\n    {line}" for line in lines[-LAST_LINES:]) or " (nothing was written)"
