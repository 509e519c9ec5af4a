# SPDX-License-Identifier: Apache-2.0
"""Messages over a console: JSON, one a line, both ways.

A console of User-Mode Linux takes up to 4 kB that nobody has read; then it stops its input, and may never begin
again. So whoever writes into a guest does it by windows: the reader says `got` for each, before the next is written.
"""

import json
import os
import select
import time
import tty
from collections import deque
from collections.abc import Mapping
from typing import Any

Message = dict[str, Any]
WINDOW = 1024
GOT = "got"
ANSWER_SECONDS = 60.0


def encoded(message: Mapping[str, Any]) -> bytes:
    """A line; ASCII, so that no console takes a byte of it for its own."""
    return json.dumps(message).encode("ascii") + b"\n"


class Outside:
    """The machine's end: two descriptors."""

    def __init__(self, read_end: int, write_end: int) -> None:
        self.read_end = read_end
        self._write_end = write_end
        self._ready: deque[Message] = deque()
        self._rest: list[bytes] = []
        self._unread = 0

    def send(self, message: Mapping[str, Any]) -> None:
        """Raises OSError or EOFError where nobody is left, TimeoutError where nobody reads."""
        line = encoded(message)
        while line:
            sent = os.write(self._write_end, line[: WINDOW - self._unread])
            line = line[sent:]
            self._unread += sent
            if self._unread == WINDOW:
                self._await_got()

    def receive(self, seconds: float) -> Message:
        """The next message. Raises TimeoutError after so many seconds, EOFError when the other end is gone."""
        end = time.monotonic() + seconds
        while not self._ready:
            self._read(end)
        return self._ready.popleft()

    @property
    def has_message(self) -> bool:
        """Whether one has been read already."""
        return bool(self._ready)

    def _await_got(self) -> None:
        end = time.monotonic() + ANSWER_SECONDS
        while self._unread == WINDOW:
            self._read(end)

    def _read(self, end: float) -> None:
        if not select.select([self.read_end], [], [], max(0.0, end - time.monotonic()))[0]:
            raise TimeoutError
        chunk = os.read(self.read_end, 1 << 16)
        if not chunk:
            raise EOFError
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            message: Message = json.loads(b"".join([*self._rest, line]))
            self._rest.clear()
            if GOT in message:
                self._unread -= WINDOW
            else:
                self._ready.append(message)
        self._rest.append(rest)


class Inside:
    """The guest's end: a console, as a plain pipe of bytes."""

    def __init__(self, path: str) -> None:
        self._descriptor = raw(path)
        self._rest = b""
        self._unsaid = 0

    def send(self, message: Mapping[str, Any]) -> None:
        """Not thread-safe, `receive` included."""
        rest = encoded(message)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def read(self) -> int:
        """Wait for some of a message, and say how many windows have to be answered for. Raises EOFError."""
        chunk = os.read(self._descriptor, 1 << 16)
        if not chunk:
            raise EOFError
        self._rest += chunk
        self._unsaid += len(chunk)
        windows, self._unsaid = divmod(self._unsaid, WINDOW)
        return windows

    def next(self) -> Message | None:
        """A message that has been read whole."""
        line, found, rest = self._rest.partition(b"\n")
        if not found:
            return None
        self._rest = rest
        message: Message = json.loads(line)
        return message


def raw(path: str) -> int:
    """A console's descriptor, without echo or any other meaning of bytes."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    tty.setraw(descriptor)
    return descriptor
