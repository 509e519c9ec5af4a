# SPDX-License-Identifier: Apache-2.0
"""The caller's end of the control connection: requests out, replies in, each with a deadline.

Every way in which the agent can fail to answer becomes one PlumblineError: it never hangs and never shows a
traceback of the agent's.
"""

import select
import socket
from collections.abc import Iterator
from time import monotonic
from typing import Any

import orjson

from clusters.errors import PlumblineError

_CHUNK = 1 << 20


class Transport:
    """Sends requests over a connected stream socket and hands each its own reply, in whatever order they
    come.

    Not thread-safe. `close()` ends the agent.
    """

    def __init__(self, sock: socket.socket, name: str = "the agent") -> None:
        self._sock = sock
        self._name = name
        self._number = 0
        self._partial: list[bytes] = []
        self._replies: dict[int, dict[str, Any]] = {}
        self._awaited: set[int] = set()
        self._trouble: str | None = None
        sock.setblocking(False)

    def close(self) -> None:
        self._sock.close()
        if self._trouble is None:
            self._trouble = f"{self._name} was told to end"

    def call(self, operation: str, deadline: float, **arguments: Any) -> Any:
        """Perform one operation. Raises PlumblineError with the agent's sentence, or after `deadline`
        seconds."""
        number = self.send(operation, arguments, deadline)
        return self.receive(number, operation, deadline)

    def send(self, operation: str, arguments: dict[str, Any], deadline: float) -> int:
        """Send a request without waiting for its reply; the number is for `receive`."""
        self._number += 1
        number = self._number
        line = orjson.dumps({"id": number, "op": operation, **arguments}) + b"\n"
        self._awaited.add(number)
        self._write(memoryview(line), operation, monotonic() + deadline)
        return number

    def receive(self, number: int, operation: str, deadline: float) -> Any:
        """The `ok` value of the reply to request `number`. Raises PlumblineError."""
        until = monotonic() + deadline
        while number not in self._replies:
            self._wait(select.POLLIN, until, operation)
            self._read()
        reply = self._replies.pop(number)
        self._awaited.discard(number)
        if "error" in reply:
            raise PlumblineError(f"{self._name} could not {operation}: {reply['error']}")
        return reply["ok"]

    def forget(self, numbers: list[int]) -> None:
        """Throw away the replies to requests nobody will ask for."""
        for number in numbers:
            self._awaited.discard(number)
            self._replies.pop(number, None)

    def _write(self, rest: memoryview, operation: str, until: float) -> None:
        while rest:
            self._check()
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                # The agent reads whatever we send, but it may first want to be rid of a reply.
                if self._wait(select.POLLIN | select.POLLOUT, until, operation) & select.POLLIN:
                    self._read()
            except OSError:
                self._lose()

    def _wait(self, events: int, until: float, operation: str) -> int:
        self._check()
        poll = select.poll()
        poll.register(self._sock, events)
        remaining = until - monotonic()
        ready = poll.poll(remaining * 1000) if remaining > 0 else []
        if not ready:
            # What was half sent or half read cannot be taken up again.
            self._trouble = f"{self._name} did not answer {operation!r} in time"
            raise PlumblineError(self._trouble)
        return ready[0][1]

    def _read(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
        for line in self._lines(data):
            reply = orjson.loads(line)
            if reply["id"] in self._awaited:
                self._replies[reply["id"]] = reply

    def _lines(self, data: bytes) -> Iterator[bytes]:
        *complete, rest = data.split(b"\n")
        for line in complete:
            self._partial.append(line)
            yield b"".join(self._partial)
            self._partial.clear()
        if rest:
            self._partial.append(rest)

    def _lose(self) -> None:
        self._trouble = f"{self._name} has ended: its control connection is closed"
        self._check()

    def _check(self) -> None:
        if self._trouble is not None:
            raise PlumblineError(self._trouble)
