# SPDX-License-Identifier: Apache-2.0
"""A program that serves a measurement, in one of the lab's network namespaces: what it tells, and its end.

It tells lines on descriptor 3, a pipe that it and its children hold open as long as they live: its end is theirs.
Nobody else can wait for them: the supervisor tells of an exit once, to whoever asks first.
"""

import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from clusters.errors import PlumblineError
from clusters.lab.supervised import REPOSITORY, Supervisor

CHUNK = 1 << 16
LAST_LINES = 5
# From SIGKILL to the end of the pipe.
DEAD_WITHIN = 5.0


@dataclass(slots=True)
class Helper:
    """Use as a context manager; leaving it kills the program and all its children."""

    supervisor: Supervisor
    name: str
    log: Path
    pid: int
    _pipe: int
    ended: bool = False
    _lines: deque[str] = field(default_factory=deque)
    _tail: bytes = b""

    @classmethod
    def start(
        cls,
        supervisor: Supervisor,
        name: str,
        arguments: Sequence[str],
        *,
        netns: str,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Start this interpreter with these arguments; its output is added to a file of this machine.

        Raises PlumblineError when it cannot be started.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            pid = supervisor.spawn(
                name,
                [sys.executable, *arguments],
                log=output,
                netns=netns,
                env={"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **(environment or {})},
                descriptors=[theirs],
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(output)
            os.close(theirs)
        os.set_blocking(ours, False)
        return cls(supervisor, name, log, pid, ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """What becomes readable when it has told something, or has ended."""
        return self._pipe

    def told(self) -> list[str]:
        """What it has told since the last call; does not wait."""
        self._read()
        lines = list(self._lines)
        self._lines.clear()
        return lines

    def await_line(self, deadline: float) -> str | None:
        """The next line it tells, waited for `deadline` seconds; None if it told none, or has ended."""
        end = time.monotonic() + deadline
        while not self._lines and not self.ended:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self], [], [], left)[0]:
                return None
            self._read()
        return self._lines.popleft() if self._lines else None

    def await_end(self, deadline: float) -> bool:
        """Whether it and all its children have ended within so many seconds."""
        end = time.monotonic() + deadline
        while not self.ended:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self], [], [], left)[0]:
                return False
            self._read()
        return True

    def signal(self, number: int) -> bool:
        """Signal the program itself; False if it had already ended."""
        return self.supervisor.signal(self.pid, number)

    def close(self) -> None:
        """Kill what is left of it, children included. What it told stays readable by `told`."""
        if self._pipe < 0:
            return
        try:
            if not self.ended:
                self.supervisor.signal(self.pid, signal.SIGKILL, group=True)
                self.await_end(DEAD_WITHIN)
        except PlumblineError:
            pass  # the lab is gone, and with it everything in it
        finally:
            os.close(self._pipe)
            self._pipe, self.ended = -1, True

    def last_words(self) -> str:
        """The end of its output, for an error message."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "".join(f"\n    {line}" for line in lines[-LAST_LINES:]) or " (nothing was written)"

    def _read(self) -> None:
        while not self.ended:
            try:
                data = os.read(self._pipe, CHUNK)
            except BlockingIOError:
                return
            self.ended = not data
            *lines, self._tail = (self._tail + data).split(b"\n")
            self._lines.extend(line.decode(errors="replace") for line in lines)
