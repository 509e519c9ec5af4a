# SPDX-License-Identifier: Apache-2.0
"""The wire between pytest's process and the supervisor: one JSON object a line, with descriptors beside it.

A message that carries descriptors has `"fds": n`; the n descriptors travel with it as SCM_RIGHTS (unix(7)).
"""

import json
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]
MAX_DESCRIPTORS = 250  # the kernel's SCM_MAX_FD is 253


class Channel:
    """Either end of the control socket."""

    def __init__(self, control: socket.socket) -> None:
        self.socket = control
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send one message. Raises OSError when the other end is gone."""
        if descriptors:
            message = {**message, "fds": len(descriptors)}
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        if descriptors:
            sent = socket.send_fds(self.socket, [data], list(descriptors))
            data = data[sent:]
        if data:
            self.socket.sendall(data)

    def receive(self) -> list[tuple[Message, list[int]]]:
        """Whatever complete messages one read gives; an empty list if none. Raises EOFError at the end."""
        data, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 18, MAX_DESCRIPTORS)
        self._descriptors.extend(descriptors)
        if not data:
            raise EOFError("the other end closed the control socket")
        self._buffer += data
        if b"\n" not in data:
            return []
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        messages = []
        for line in lines:
            message = json.loads(line)
            messages.append((message, [self._descriptors.popleft() for _ in range(message.get("fds", 0))]))
        return messages
