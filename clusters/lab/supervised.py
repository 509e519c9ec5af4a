# SPDX-License-Identifier: Apache-2.0
"""pytest's end of the supervisor: starting it, asking it, and making sure it is gone.

The supervisor watches pidfds of this process and of an xdist controller, so that a SIGKILL of either ends the lab
even though this code never runs.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clusters.errors import PlumblineError, UsageError
from clusters.lab.wire import Channel, Message
from clusters.patience import patient

# Building a hundred nodes takes about 3 s; whoever is silent for longer than this is stuck.
ANSWER_DEADLINE = patient(30.0)
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended: its exit status (negative: the signal) and all it printed."""

    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Exit:
    """A spawned process that ended."""

    name: str
    pid: int
    status: int


def search_path() -> str:
    """PATH in the lab: the user's, and where distributions keep what only root used to call."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


class Supervisor:
    """A running lab supervisor. Not thread-safe; requests may overlap through `ask` and `answer`."""

    def __init__(self, watched_pids: Sequence[int] = ()) -> None:
        """Start it. `watched_pids`: processes besides this one whose end must end the lab.

        Raises UsageError where namespaces are forbidden, PlumblineError if it dies.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.settimeout(ANSWER_DEADLINE)
        watched = [os.pidfd_open(pid) for pid in {os.getpid(), *watched_pids}]
        argv = [sys.executable, "-S", "-m", "clusters.lab.supervisor", f"--control-fd={theirs.fileno()}"]
        argv += [f"--watch-fd={descriptor}" for descriptor in watched]
        # Its own session: Ctrl-C is pytest's to handle, and the lab has to outlive it until torn down in order.
        self._process = subprocess.Popen(
            argv,
            pass_fds=[theirs.fileno(), *watched],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", "PATH": search_path()},
            cwd="/",
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        for descriptor in watched:
            os.close(descriptor)
        self._channel = Channel(ours)
        self._last_request = 0
        self._answers: dict[int, tuple[Message, list[int]]] = {}
        self._exits: list[Exit] = []
        try:
            self._await_up()
        except BaseException:
            self.close()
            raise

    def _await_up(self) -> None:
        for message, _ in self._receive():
            if message.get("event") == "up":
                return
            raise UsageError(
                f"{message.get('error', message)}; run as root, or allow unprivileged user namespaces "
                "(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The watchdog's PID on this machine."""
        return self._process.pid

    def close(self) -> None:
        """End the lab and wait until its watchdog, and so everything in it, has gone."""
        self._channel.socket.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def await_end(self) -> None:
        """Wait until the lab ends, however long that takes."""
        self._process.wait()

    def ask(self, operation: str, descriptors: Sequence[int] = (), **arguments: Any) -> int:
        """Send a request; its number is for `answer`."""
        self._last_request += 1
        try:
            self._channel.send({"id": self._last_request, "op": operation, **arguments}, descriptors)
        except OSError:
            raise self._gone() from None
        return self._last_request

    def answer(self, request: int) -> tuple[Any, list[int]]:
        """Wait for the answer to a request: its value and descriptors. Raises PlumblineError when it failed."""
        while request not in self._answers:
            for message, descriptors in self._receive():
                self._file(message, descriptors)
        message, descriptors = self._answers.pop(request)
        if "error" in message:
            raise PlumblineError(f"the lab's supervisor failed at {message['error']}")
        return message["ok"], descriptors

    def call(self, operation: str, descriptors: Sequence[int] = (), **arguments: Any) -> Any:
        """Send a request and wait for its value."""
        value, _ = self.answer(self.ask(operation, descriptors, **arguments))
        return value

    def run(
        self, argv: Sequence[str], *, node: str | None = None, netns: str | None = None, text: str = ""
    ) -> Finished:
        """Run a command in a node (network and mounts) or a bare namespace, and wait for it."""
        return self.finished(self.start(argv, node=node, netns=netns, text=text))

    def start(self, argv: Sequence[str], *, node: str | None = None, netns: str | None = None, text: str = "") -> int:
        """Start a command; `finished` waits for it. Several may run at once."""
        return self.ask("run", argv=list(argv), node=node, netns=netns or node, input=text)

    def finished(self, request: int) -> Finished:
        """Wait for a command started with `start`."""
        value, _ = self.answer(request)
        return Finished(**value)

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: int,
        node: str | None = None,
        netns: str | None = None,
        env: Mapping[str, str] | None = None,
        directory: str = "/",
        descriptors: Sequence[int] = (),
        listeners: Sequence[str] = (),
    ) -> int:
        """Start a long-running process in a node (network and mounts) or a bare namespace; its PID in the lab.

        It leads a process group of its own. `descriptors`, then `listeners`, become 3, 4, …
        """
        value = self.call(
            "spawn",
            [log, *descriptors],
            name=name,
            argv=list(argv),
            node=node,
            netns=netns or node,
            env=dict(env or {}),
            directory=directory,
            listeners=list(listeners),
        )
        return int(value["pid"])

    def signal(self, pid: int, number: int, *, group: bool = False) -> bool:
        """Signal a spawned process, or its whole group; False if it had already ended."""
        return bool(self.call("signal", pid=pid, signal=int(number), group=group)["sent"])

    def connect(self, netns: str, ip: str, port: int) -> socket.socket:
        """A TCP connection made from inside a namespace. Raises PlumblineError when refused."""
        _, descriptors = self.answer(self.ask("connect", netns=netns, ip=ip, port=port))
        return socket.socket(fileno=descriptors[0])

    def exits(self) -> list[Exit]:
        """Spawned processes that have ended since the last call; does not wait."""
        self._channel.socket.setblocking(False)
        try:
            with suppress(BlockingIOError):
                while True:
                    for message, descriptors in self._receive():
                        self._file(message, descriptors)
        finally:
            self._channel.socket.settimeout(ANSWER_DEADLINE)
        exits, self._exits = self._exits, []
        return exits

    def await_exit(self, pid: int, deadline: float) -> Exit | None:
        """Wait up to `deadline` seconds for a spawned process to end; None if it did not."""
        end = time.monotonic() + deadline
        while (left := end - time.monotonic()) > 0:
            for ended in self._exits:
                if ended.pid == pid:
                    self._exits.remove(ended)
                    return ended
            self._channel.socket.settimeout(left)
            try:
                for message, descriptors in self._receive():
                    self._file(message, descriptors)
            except TimeoutError:
                break
            finally:
                self._channel.socket.settimeout(ANSWER_DEADLINE)
        return None

    def _file(self, message: Message, descriptors: list[int]) -> None:
        if message.get("event") == "exit":
            self._exits.append(Exit(message["name"], message["pid"], message["status"]))
        else:
            self._answers[message["id"]] = (message, descriptors)

    def _receive(self) -> list[tuple[Message, list[int]]]:
        try:
            return self._channel.receive()
        except TimeoutError:
            if self._channel.socket.gettimeout() != ANSWER_DEADLINE:
                raise  # somebody waits for less than an answer
            raise PlumblineError(f"the lab's supervisor has not answered for {ANSWER_DEADLINE:g} s") from None
        except (EOFError, ConnectionResetError):
            raise self._gone() from None

    def _gone(self) -> PlumblineError:
        return PlumblineError("the lab's supervisor ended unexpectedly; the lab and everything in it is gone")
