# SPDX-License-Identifier: Apache-2.0
"""The C client and server (traffic.c): compiled for the run, started inside network namespaces, all on one CPU.

Client and server share the last CPU, so that no other CPU has to be woken; what is under test, and this process, have
the others. A spinner of the lowest class on each keeps them all awake. Both matter more than anything measured here:
an idle virtual CPU takes up to a millisecond to come back.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from clusters.errors import PlumblineError

SOURCE = Path(__file__).with_name("traffic.c")
PORT = 9000
DEADLINE = 60.0
MOST_URGENT, LEAST_URGENT = -20, 19  # nice(2)

Kind = Literal["connect", "rate", "request", "bulk"]
# Which server a client wants; all others want one that answers.
SERVERS: Mapping[Kind, str] = {"connect": "absorb", "bulk": "sink"}
Target = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of the client: how many took how long, how many failed beside, and percentiles of times in seconds.

    Of `bulk`, how many bytes, without percentiles.
    """

    count: int
    failures: int
    seconds: float
    p01: float
    p50: float
    p90: float
    p99: float

    @property
    def rate(self) -> float:
        """Per second."""
        return self.count / self.seconds


def urge(process: int | str, nice: int = MOST_URGENT) -> None:
    """Let a process's whole session go before others, where sessions share the CPU evenly (sched(7), autogroups)."""
    with suppress(OSError):
        Path(f"/proc/{process}/autogroup").write_text(str(nice), encoding="ascii")


def inside(namespace: Path, command: Sequence[str]) -> list[str]:
    """The command that runs another one in a network namespace."""
    return ["nsenter", f"--net={namespace}", *command]


class Traffic:
    """The compiled program. Processes that it starts end with the context, or with this process."""

    def __init__(self) -> None:
        self.cpus = sorted(os.sched_getaffinity(0))
        self.cpu = self.cpus[-1]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Compile, and start the spinners. Raises PlumblineError."""
        if os.geteuid() != 0:
            raise PlumblineError("the reference datapath is measured with real traffic, which needs root: use sudo")
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.program = str(compiled(folder))
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
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def server(self, namespace: Path, kind: Kind, *, letter: str = "a", port: int = PORT) -> Iterator[None]:
        """A server for this kind of client at all addresses of a namespace, which answers with its letter.

        One for `connect` is woken by nobody, one for `bulk` says nothing.
        """
        words = [SERVERS.get(kind, "serve"), str(self.cpu), str(port), *([] if kind in SERVERS else [letter])]
        with running(inside(namespace, [self.program, *words])) as process:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise PlumblineError(f"the benchmark's server did not start in {namespace.name}")
            yield

    def measure(self, namespace: Path, kind: Kind, targets: Sequence[Target], seconds: float) -> Sample:
        """One run against targets that are dialled at random. Raises PlumblineError if more than a few fail."""
        command = inside(namespace, [self.program, kind, str(self.cpu), str(seconds)])
        text = "".join(f"{address} {port}\n" for address, port in targets)
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=DEADLINE)
        if done.returncode != 0:
            raise PlumblineError(f"{kind} from {namespace.name} to {targets[0][0]}: {done.stderr.strip()}")
        count, failures, took, *times = done.stdout.split()
        return Sample(int(count), int(failures), float(took), *(int(each) / 1e9 for each in times))

    @contextmanager
    def poller(self, namespace: Path, target: Target) -> Iterator["Poller"]:
        """Someone who keeps asking, and says when the answer is another one."""
        address, port = target
        command = inside(namespace, [self.program, "poll", str(self.cpu), address, str(port)])
        with running(command, stdin=subprocess.PIPE) as process:
            yield Poller(process)


class Poller:
    """A running `traffic poll`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self._lines = process.stdout

    def next_change(self) -> tuple[float, str]:
        """When the answer became another one (seconds of CLOCK_MONOTONIC), and which: a letter, "-" for none.

        Waits for it. Raises PlumblineError when there will be none any more.
        """
        line = self._lines.readline().split()
        if len(line) != 2:
            raise PlumblineError("the benchmark's client ended too early")
        return int(line[0]) / 1e9, line[1]


@contextmanager
def running(
    command: Sequence[str], stdin: int = subprocess.DEVNULL, *, start_new_session: bool = False
) -> Iterator["subprocess.Popen[str]"]:
    """A process for as long as the block lasts."""
    with subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, text=True, start_new_session=start_new_session
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def compiled(folder: Path) -> Path:
    """traffic.c as a program: by the pinned compiler where it is installed, else by the system's. PlumblineError."""
    if importlib.util.find_spec("ziglang") is not None:
        compiler = [sys.executable, "-m", "ziglang", "cc"]
    elif found := shutil.which("cc"):
        compiler = [found]
    else:
        raise PlumblineError("the benchmark's client is C and here is no compiler: pip install --group dev")
    program = folder / "traffic"
    command = [*compiler, "-O2", "-o", str(program), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PlumblineError(f"the benchmark's client could not be compiled: {done.stderr.strip()}")
    return program
