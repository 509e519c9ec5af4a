# SPDX-License-Identifier: Apache-2.0
"""One running guest: its kernel's processes, its consoles, and the commands that are run in it."""

import os
import re
import select
import shlex
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clusters.errors import PlumblineError, UsageError
from clusters.hermetic.finding import Uml
from clusters.hermetic.wire import Outside

# Of which a core run of two nodes uses about half.
MEMORY = 2048
BOOT_DEADLINE = 60.0
TAIL_LINES = 60
# Some panics end the guest's processes, after others it just does nothing any more.
PANIC = "Kernel panic"
AFTER_PANIC = 0.5
REPOSITORY = Path(__file__).resolve().parents[2]
MEMINFO = Path("/proc/meminfo")


class GuestError(PlumblineError):
    """The guest ended or no longer answers; the sentence ends with the last lines of its console."""


def check_memory(memory: int = MEMORY, guests: int = 1, meminfo: Path = MEMINFO) -> None:
    """Raise UsageError where the machine has too little free memory, `memory` MiB for each guest."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(encoding="ascii"), re.MULTILINE)
    available = int(found[1]) >> 10 if found else memory * guests
    if available < memory * guests:
        each = f"{guests} guests need {memory} MiB each" if guests > 1 else f"a guest needs {memory} MiB"
        fewer = "; run fewer with -n, or free some" if guests > 1 else "; free some"
        raise UsageError(f"--kernel=uml: {each} of memory, and {available} MiB are available here{fewer}.")


class Pipe:
    """A console of the guest as two pipes of this machine."""

    def __init__(self) -> None:
        self.guest_reads, self.write_end = os.pipe()
        self.read_end, self.guest_writes = os.pipe()

    def theirs(self) -> list[int]:
        return [self.guest_reads, self.guest_writes]

    def close_theirs(self) -> None:
        for descriptor in self.theirs():
            os.close(descriptor)

    def close(self) -> None:
        os.close(self.write_end)
        os.close(self.read_end)

    def option(self, number: int) -> str:
        return f"con{number}=fd:{self.guest_reads},fd:{self.guest_writes}"


class Guest:
    """A booted guest, ended by leaving the context. Not thread-safe."""

    def __init__(
        self, uml: Uml, *, memory: int = MEMORY, watched_pids: Sequence[int] = (), number: int | None = None
    ) -> None:
        """Boot it. Raises UsageError where memory is short, GuestError when it does not come up.

        It has one processor, and stays on one: its kernel and its programs are processes that wait for each other at
        each system call, and to wake one on another processor takes three times as long. Of several guests each has
        its `number`.
        """
        check_memory(memory)
        self.uml = uml
        self.console: deque[str] = deque(maxlen=TAIL_LINES)
        self._orders, self._output, self.speech = Pipe(), Pipe(), Pipe()
        log_read, log_write = os.pipe()
        # The watchdog ends the guest when a watched process ends, or when this end of a pipe is closed.
        self._lock = threading.Lock()
        self._leash: int | None
        leash, self._leash = os.pipe()
        watched = [leash, *(os.pidfd_open(pid) for pid in {os.getpid(), *watched_pids})]
        pipes = (self._orders, self._output, self.speech)
        # No shell to parse this, and no room for more than a path: the first script is written by the watchdog.
        kernel = [
            str(uml.binary),
            *(f"mem={memory}M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init={state}/init"),
            *("con=null", "ssl=null", "con0=null,fd:2", *(pipe.option(n) for n, pipe in enumerate(pipes, 1))),
            # Where the kernel can (Linux 6.16), system calls are caught by seccomp(2), not by ptrace(2).
            *("umid=guest", "uml_dir={state}/", "quiet", "seccomp=auto"),
        ]
        argv = [
            sys.executable,
            "-S",
            "-m",
            "clusters.hermetic.watchdog",
            f"--memory={memory}",
            f"--cpu={_processor(os.getpid() if number is None else number)}",
            f"--init={_init(uml)}",
        ]
        argv += [f"--watch-fd={descriptor}" for descriptor in watched]
        self._process = subprocess.Popen(
            [*argv, "--", *kernel],
            pass_fds=[*watched, *(descriptor for pipe in pipes for descriptor in pipe.theirs())],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log_write,
            stderr=log_write,
            start_new_session=True,
        )
        for descriptor in (*watched, log_write):
            os.close(descriptor)
        for pipe in pipes:
            pipe.close_theirs()
        self._log = threading.Thread(target=self._listen, args=(log_read,), daemon=True)
        self._log.start()
        self._wire = Outside(self._orders.read_end, self._orders.write_end)
        try:
            self._answer(BOOT_DEADLINE)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def printed(self) -> int:
        """Where to read what the command prints."""
        return self._output.read_end

    @property
    def answers(self) -> int:
        """Readable once the command has ended, or the guest."""
        return self._orders.read_end

    @property
    def pid(self) -> int:
        """The watchdog's PID on this machine."""
        return self._process.pid

    def close(self) -> None:
        """End the guest, if it has not ended, and wait until all its processes have."""
        self._release()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.join(1.0)
        for pipe in (self._orders, self._output, self.speech):
            pipe.close()

    def load(self, modules: Sequence[str]) -> list[str]:
        """Load kernel modules; returns those that cannot be had."""
        self._order({"do": "load", "modules": list(modules)})
        return [str(name) for name in self._answer(BOOT_DEADLINE)["missing"]]

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        writable: Sequence[Path] = (),
        memory: Sequence[Path] = (),
        stdin: bool = False,
    ) -> None:
        """Run a command as the guest's root.

        `writable` are directories here that it can write, `memory` such in whose place it has an empty one.
        """
        order = {
            "do": "run",
            "argv": list(argv),
            "env": dict(os.environ if env is None else env),
            "cwd": str(cwd or Path.cwd()),
            "writable": list(map(str, writable)),
            "memory": list(map(str, memory)),
            "stdin": stdin,
        }
        self._order(order)

    def pump(self, write: Callable[[bytes], object], stdin: int | None = None) -> int:
        """Hand on what the command prints until it ends; its exit status. Raises GuestError if the guest ends."""
        sources = [self._orders.read_end, self._output.read_end, *([] if stdin is None else [stdin])]
        while True:
            ready = select.select(sources, [], [])[0]
            if self._output.read_end in ready:
                text = os.read(self._output.read_end, 1 << 16)
                if text:
                    write(text)
                else:
                    sources.remove(self._output.read_end)
            elif self._orders.read_end in ready:
                return int(self._answer(BOOT_DEADLINE)["exit"])
            elif stdin is not None and stdin in ready:
                given = os.read(stdin, 4096)
                if given:
                    os.write(self._output.write_end, given)
                else:
                    sources.remove(stdin)

    def gone(self, what: str) -> GuestError:
        """The error that says what happened, with the console's last lines."""
        self._log.join(0.2)
        tail = "\n".join(self.console)
        return GuestError(f"the guest (User-Mode Linux {self.uml.version}) {what}; its console ends with:\n{tail}")

    def _order(self, order: Mapping[str, Any]) -> None:
        try:
            self._wire.send(order)
        except (OSError, EOFError):
            raise self.gone("ended") from None

    def _answer(self, deadline: float) -> dict[str, Any]:
        try:
            return self._wire.receive(deadline)
        except TimeoutError:
            raise self.gone(f"has not answered for {deadline:g} s") from None
        except EOFError:
            raise self.gone("ended") from None

    def _listen(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as log:
            for line in log:
                self.console.append(line.rstrip())
                if PANIC in line:
                    threading.Timer(AFTER_PANIC, self._release).start()

    def _release(self) -> None:
        """Let the watchdog end the guest."""
        with self._lock:
            leash, self._leash = self._leash, None
        if leash is not None:
            os.close(leash)


def _processor(number: int) -> int:
    """One of those that this process may run on."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[number % len(allowed)]


def _init(uml: Uml) -> str:
    """The script that the guest's kernel starts: the first process, by this interpreter."""
    words = [sys.executable, "-S", "-s", "-m", "clusters.hermetic.init", str(uml.modules)]
    environment = f"PYTHONPATH={shlex.quote(str(REPOSITORY))} PYTHONDONTWRITEBYTECODE=1"
    return f"#!/bin/sh\nexport {environment}\nexec {shlex.join(words)}\n"
