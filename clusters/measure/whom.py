# SPDX-License-Identifier: Apache-2.0
"""Who answers: one connection after the other, or watched until somebody begins to answer or ceases to (whom.h).

The servers must be of the kind `tell`, which say at which address they were reached.
"""

import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clusters.measure.traffic import Target, Traffic, TrafficError, inside, running

ANY_PORT = 0
DIAL_DEADLINE = 300.0
MOST_WATCHED = 1024
"""So many may be waited for at once (whom.h)."""
Sign = Literal["+", "-"]


@dataclass(frozen=True, slots=True)
class Awaited:
    """That one of a range of endpoints answers at a target ("+"), or that none of them does any more ("-").

    None does any more when `calm` connections have been answered by others since. After `deadline` seconds it is
    waited for no longer.
    """

    target: Target
    sign: Sign
    first: str
    last: str
    deadline: float
    calm: int = 40

    def line(self, number: int) -> str:
        """As the client is told."""
        address, port = self.target
        words = (number, self.sign, address, port, self.first, self.last, self.calm, round(self.deadline * 1000))
        return " ".join(map(str, words)) + "\n"


@dataclass(frozen=True, slots=True)
class Came:
    """What came of it: whether in time, and when (seconds of CLOCK_MONOTONIC).

    When the first of the range answered ("+"), or when the last connection began that one of them has answered
    ("-"; 0 where there was none). `answers` and `failures` count the connections until then.
    """

    in_time: bool
    at: float
    answers: int
    failures: int


def dial(traffic: Traffic, namespace: Path, dialled: Sequence[tuple[Target, int]]) -> list[str | None]:
    """Who answered each of these: targets with the source port they are dialled from (0: any).

    None where nobody did. One after the other, in this order. Raises TrafficError.
    """
    text = "".join(f"{address} {port} {source_port}\n" for (address, port), source_port in dialled)
    command = inside(namespace, [traffic.program, "dial", str(traffic.cpu)])
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=DIAL_DEADLINE)
    except subprocess.TimeoutExpired:
        raise TrafficError(f"{len(dialled)} connections did not end within {DIAL_DEADLINE:g} s") from None
    answers = done.stdout.splitlines()
    if done.returncode != 0 or len(answers) != len(dialled):
        raise TrafficError(f"the client that dials ended too early: {done.stderr.strip()}")
    return [None if one.startswith("-") else one for one in answers]


class Watcher:
    """A running `traffic watch`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._asked = 0
        self._came: dict[int, Came] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise TrafficError("the client that watches did not start")
        self._reader.start()

    def expect(self, awaited: Awaited) -> int:
        """Begin to look for this, at once; its number."""
        assert self._process.stdin is not None
        number, self._asked = self._asked, self._asked + 1
        try:
            self._process.stdin.write(awaited.line(number))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise TrafficError("the client that watches ended too early") from None
        return number

    def came(self) -> Mapping[int, Came]:
        """What came of everything, by its number, when nothing is waited for any more. Raises TrafficError."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._reader.join()
        if len(self._came) < self._asked:
            raise TrafficError("the client that watches ended too early")
        return self._came

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            number, in_time, at, answers, failures = map(int, line.split())
            self._came[number] = Came(bool(in_time), at / 1e9, answers, failures)


@contextmanager
def watching(traffic: Traffic, namespace: Path) -> Iterator[Watcher]:
    """Someone in a namespace who watches whatever he is told to, on the traffic's CPU. Raises TrafficError."""
    command = inside(namespace, [traffic.program, "watch", str(traffic.cpu)])
    with running(command, stdin=subprocess.PIPE) as process:
        yield Watcher(process)
