# SPDX-License-Identifier: Apache-2.0
"""The agent's end of the control connection: one JSON object per line in, one per line out, in any order.

`{"id": 7, "op": "probe", ...}` is answered `{"id": 7, "ok": ...}` or `{"id": 7, "error": "one sentence"}`.
"""

import json
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from clusters.agent.loop import HANGUP, READ, WRITE, Loop
from clusters.agent.sockets import explain
from clusters.agent.wire import RequestError

_CHUNK = 1 << 18


class Reply:
    """Where the answer to one request goes, now or later; exactly one of `ok` and `error` is to be called."""

    __slots__ = ("_control", "_number")

    def __init__(self, control: "Control", number: Any) -> None:
        self._control = control
        self._number = number

    def ok(self, value: Any = None) -> None:
        self._control.write({"id": self._number, "ok": value})

    def error(self, sentence: str) -> None:
        self._control.write({"id": self._number, "error": sentence})


Operation = Callable[[dict[str, Any], Reply], None]


class Control:
    """Reads requests, calls their operations, writes replies; stops the loop when the other side has gone."""

    def __init__(self, loop: Loop, sock: socket.socket, operations: Mapping[str, Operation]) -> None:
        self._loop = loop
        self._sock = sock
        self._operations = operations
        self._partial: list[bytes] = []
        self._out: deque[memoryview] = deque()
        sock.setblocking(False)
        loop.register(sock.fileno(), READ, self._on_event)

    def write(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        idle = not self._out
        self._out.append(memoryview(line))
        if idle:
            self._flush()
            if self._out:
                self._loop.modify(self._sock.fileno(), READ | WRITE)

    def _on_event(self, mask: int) -> None:
        if mask & WRITE and self._out:
            self._flush()
            if not self._out:
                self._loop.modify(self._sock.fileno(), READ)
        if mask & (READ | HANGUP):
            self._read()

    def _flush(self) -> None:
        while self._out:
            try:
                sent = self._sock.send(self._out[0])
            except BlockingIOError:
                return
            except OSError:  # nobody listens any more
                self._out.clear()
                self._loop.stop()
                return
            if sent < len(self._out[0]):
                self._out[0] = self._out[0][sent:]
            else:
                self._out.popleft()

    def _read(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.stop()
            return
        # A long line arrives in pieces; they are joined once, when its end has come.
        head, newline, rest = data.partition(b"\n")
        while newline:
            self._partial.append(head)
            line = b"".join(self._partial)
            self._partial.clear()
            self._perform(line)
            head, newline, rest = rest.partition(b"\n")
        if head:
            self._partial.append(head)

    def _perform(self, line: bytes) -> None:
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            Reply(self, None).error("a request is one JSON object on one line")
            return
        reply = Reply(self, request.get("id"))
        operation = self._operations.get(str(request.get("op")))
        if operation is None:
            known = ", ".join(sorted(self._operations))
            reply.error(f"the agent has no operation {request.get('op')!r}, only {known}")
            return
        try:
            operation(request, reply)
        except RequestError as error:
            reply.error(str(error))
        except OSError as error:
            reply.error(f"{request['op']} failed: {explain(error)}")
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            traceback.print_exc(file=sys.stderr)
            reply.error(f"{request['op']} was asked in a form the agent does not understand: {error!r}")
