# SPDX-License-Identifier: Apache-2.0
"""The C client and server (traffic.c): compiled for the run, started inside network namespaces, all on one CPU.

Client and server share the last CPU, so that no other CPU has to be woken; what is under test, and this process, have
the others. A spinner of the lowest class on each keeps them all awake. Both matter more than anything measured here:
an idle virtual CPU takes up to a millisecond to come back.
"""

import os
import re
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from clusters.errors import PlumblineError
from clusters.measure.build import program

PORT = 9000
# Beside what a measurement is to take: for a client that waits for what never comes.
DEADLINE = 60.0
# For a poller's next answer: a proxy may need minutes for many Services.
PATIENCE = 900.0
CHUNK = 1 << 12
MOST_URGENT, LEAST_URGENT = -20, 19  # nice(2)

Kind = Literal["connect", "rate", "request", "hundred", "flow", "bulk", "empty"]
Server = Literal["serve", "tell", "absorb", "sink", "gulp"]
# Which server a client wants.
SERVERS: Mapping[Kind, Server] = {
    "connect": "absorb",
    "rate": "serve",
    "request": "serve",
    "hundred": "serve",
    "flow": "gulp",
    "bulk": "sink",
    "empty": "absorb",
}
FLOW_BYTES = 1 << 16
"""What one `flow` sends."""
Target = tuple[str, int]


class TrafficError(PlumblineError):
    """A measurement came to nothing, because connections failed for instance; the lab is as it was."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a client goes about it, where it is not as fast as it can.

    `rate` begins so many a second by a timetable, whatever became of those before; times are then counted from when
    each was due. `bin` is the length in seconds of the bins of time that are told besides. More than `failures`
    failed connections end the measurement (None: any number is only counted). A connection that gets no further
    for `patience` seconds has failed.
    """

    rate: float = 0.0
    bin: float = 0.0
    failures: int | None = 100
    patience: float = 0.0

    def words(self) -> list[str]:
        """As the client is told."""
        given = {"rate": self.rate, "bin": self.bin * 1000, "patience": round(self.patience * 1000)}
        most = -1 if self.failures is None else self.failures
        return [*(f"{name}={value:g}" for name, value in given.items() if value), f"failures={most}"]


@dataclass(frozen=True, slots=True)
class Bin:
    """What ended within one bin of time: how many, how many failed, and the longest it took, in seconds."""

    count: int
    failures: int
    worst: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of the client: how many took how long, how many failed beside, and percentiles of times in seconds.

    Of `bulk`, how many bytes, without percentiles. `cpu` is the CPU time of the client, in seconds.
    """

    count: int
    failures: int
    seconds: float
    p01: float
    p50: float
    p90: float
    p99: float
    worst: float = 0.0
    cpu: float = 0.0
    bins: tuple[Bin, ...] = ()

    @property
    def rate(self) -> float:
        """Per second."""
        return self.count / self.seconds


def urge(process: int | str, nice: int = MOST_URGENT) -> None:
    """Let a process's whole session go before others, where sessions share the CPU evenly (sched(7), autogroups)."""
    with suppress(OSError):
        Path(f"/proc/{process}/autogroup").write_text(str(nice), encoding="ascii")


@contextmanager
def urged() -> Iterator[None]:
    """In the block this process's own session goes before others: who is timed shall not wait for who is measured."""
    before = re.search(r"nice (-?\d+)", _autogroup())
    urge("self")
    try:
        yield
    finally:
        urge("self", int(before[1]) if before else 0)


def _autogroup() -> str:
    with suppress(OSError):
        return Path("/proc/self/autogroup").read_text(encoding="ascii")
    return ""


def inside(namespace: Path, command: Sequence[str]) -> list[str]:
    """The command that runs another one in a network namespace."""
    return ["nsenter", f"--net={namespace}", *command]


class Traffic:
    """The compiled program. Processes that it starts end with the context, or with this process."""

    def __init__(self) -> None:
        self.cpus = sorted(os.sched_getaffinity(0))
        self.cpu = self.cpus[-1]
        self.spinners: dict[int, int] = {}
        """The PID of each CPU's spinner: what it does not get, somebody else has used."""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the spinners. Raises PlumblineError."""
        if os.geteuid() != 0:
            raise PlumblineError("real traffic from the lab's namespaces is measured, which needs root: use sudo")
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.program = str(program(folder))
        # Ourselves, and all that we start, but for what asks for another CPU.
        os.sched_setaffinity(0, set(self.cpus[:-1]) or {self.cpu})
        self._stack.callback(os.sched_setaffinity, 0, self.cpus)
        # Whatever else the machine does shall show as little as it can.
        before = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, 0, MOST_URGENT)
        self._stack.callback(os.setpriority, os.PRIO_PROCESS, 0, before)
        urge("self")
        self._stack.callback(urge, "self", 0)
        for cpu in self.cpus:
            spinner = self._stack.enter_context(running([self.program, "spin", str(cpu)], start_new_session=True))
            # Sessions share a CPU before their processes do: in this one it would stand for all that we start.
            urge(spinner.pid, LEAST_URGENT)
            self.spinners[cpu] = spinner.pid
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def server(self, namespace: Path, kind: Server, *, letter: str = "a", port: int = PORT) -> Iterator[int]:
        """A server at all addresses of a namespace; its PID.

        One that serves answers with its letter, one that tells with the address at which it was reached.
        """
        words = [kind, str(self.cpu), str(port), *([letter] if kind == "serve" else [])]
        with running(inside(namespace, [self.program, *words])) as process:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise PlumblineError(f"the measurements' server did not start in {namespace.name}")
            yield process.pid

    def server_for(self, namespace: Path, kind: Kind) -> AbstractContextManager[int]:
        """The server that this kind of client wants."""
        return self.server(namespace, SERVERS[kind])

    def measure(
        self, namespace: Path, kind: Kind, targets: Sequence[Target], seconds: float, pace: Pace | None = None
    ) -> Sample:
        """One run against targets that are dialled at random. Raises PlumblineError if more fail than may."""
        with self.measuring(namespace, kind, targets, seconds, pace) as client:
            return client.ended()

    @contextmanager
    def measuring(
        self, namespace: Path, kind: Kind, targets: Sequence[Target], seconds: float, pace: Pace | None = None
    ) -> Iterator["Client"]:
        """The same, beside something else: in the block it has warmed up and measures. Raises PlumblineError."""
        words = [kind, str(self.cpu), str(seconds), *((pace or Pace()).words() if kind != "bulk" else [])]
        command = inside(namespace, [self.program, *words])
        what = f"{kind} from {namespace.name}" + (f" to {targets[0][0]}" if targets else "")
        with running(command, subprocess.PIPE, subprocess.PIPE) as process:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.write("".join(f"{address} {port}\n" for address, port in targets))
                process.stdin.close()
            yield Client(process, what, seconds + DEADLINE)

    @contextmanager
    def poller(self, namespace: Path, target: Target) -> Iterator["Poller"]:
        """Someone who keeps asking, and says when the answer is another one."""
        address, port = target
        command = inside(namespace, [self.program, "poll", str(self.cpu), address, str(port)])
        with running(command, stdin=subprocess.PIPE) as process:
            yield Poller(process)


class Client:
    """A running measurement. Entering waits for nothing; `began` and `ended` do."""

    def __init__(self, process: "subprocess.Popen[str]", what: str, deadline: float) -> None:
        self._process, self._what, self._deadline = process, what, deadline
        self._has_begun = False

    def began(self) -> None:
        """Wait until it has warmed up, and measures. Raises TrafficError."""
        assert self._process.stdout is not None
        if not self._has_begun and self._process.stdout.readline() != "began\n":
            raise self._failed()
        self._has_begun = True

    def ended(self) -> Sample:
        """Wait until it is over, and what came of it. Raises TrafficError."""
        self.began()
        assert self._process.stdout is not None
        late = threading.Timer(self._deadline, self._process.kill)
        late.start()
        try:
            lines = self._process.stdout.read().splitlines()
        finally:
            late.cancel()
        if self._process.wait() < 0:
            raise TrafficError(f"{self._what} did not end within {self._deadline:g} s")
        if self._process.returncode != 0:
            raise self._failed()
        count, failures, took, cpu, *times = lines[0].split()
        bins = tuple(Bin(int(one), int(failed), int(worst) / 1e9) for one, failed, worst in map(str.split, lines[1:]))
        p01, p50, p90, p99, worst = (int(each) / 1e9 for each in times)
        return Sample(int(count), int(failures), float(took), p01, p50, p90, p99, worst, float(cpu), bins)

    def _failed(self) -> TrafficError:
        assert self._process.stderr is not None
        told = self._process.stderr.read().strip()
        return TrafficError(f"{self._what}: {told or 'the client ended too early'}")


class Poller:
    """A running `traffic poll`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self._from = process.stdout.fileno()
        self._read = b""

    def next_change(self, within: float = PATIENCE) -> tuple[float, str] | None:
        """When the answer became another one (seconds of CLOCK_MONOTONIC), and which: a letter, "-" for none.

        Waits for it, and gives None when so many seconds have brought none. Raises PlumblineError when there will be
        none any more.
        """
        end = time.monotonic() + within
        while b"\n" not in self._read:
            if not select.select([self._from], [], [], max(0.0, end - time.monotonic()))[0]:
                return None
            data = os.read(self._from, CHUNK)
            if not data:
                raise PlumblineError("the client that polls ended too early")
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        at, letter = line.decode().split()
        return int(at) / 1e9, letter

    def await_answer(self, letter: str, *, calm: float = 0.0, within: float = PATIENCE) -> float:
        """When this became the answer that it then was for `calm` seconds without another one.

        A busy machine leaves a connection without an answer now and then: whoever waits for none needs some calm.
        Raises PlumblineError when it is not within so many seconds.
        """
        end = time.monotonic() + within
        at: float | None = None  # since when it is the answer
        while at is not None or time.monotonic() < end:
            if at is not None and not calm:
                return at
            change = self.next_change(calm if at is not None else end - time.monotonic())
            if change is None and at is not None:
                return at
            at = change[0] if change is not None and change[1] == letter else None
        raise PlumblineError(f"the client that polls did not get the answer {letter!r} within {within:g} s")


@contextmanager
def running(
    command: Sequence[str],
    stdin: int = subprocess.DEVNULL,
    stderr: int | None = None,
    *,
    start_new_session: bool = False,
) -> Iterator["subprocess.Popen[str]"]:
    """A process for as long as the block lasts."""
    with subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=start_new_session
    ) as process:
        try:
            yield process
        finally:
            process.kill()
