# SPDX-License-Identifier: Apache-2.0
"""The agent's loop: what has arrived in time is never taken for late, however busy the machine is."""

import socket
from time import perf_counter

import pytest

from clusters.agent import loop
from clusters.agent.loop import READ, Loop


@pytest.mark.parametrize("batch", [1, 256])
def test_timers_give_way_to_what_has_arrived_before_them(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_BATCH", batch)
    heard: list[str] = []
    made = Loop()
    pairs = [socket.socketpair() for _ in range(3)]

    def hear(name: str, sock: socket.socket) -> None:
        sock.recv(1)
        heard.append(name)
        until = perf_counter() + 0.02
        while perf_counter() < until:
            """The machine has other things to do, until long after the timer was due."""

    def end() -> None:
        heard.append("timer")
        made.stop()

    for number, (near, far) in enumerate(pairs):
        far.send(b"x")
        made.register(near.fileno(), READ, lambda _, number=number, near=near: hear(f"{number}", near))  # type: ignore[misc]
    made.call_later(0.01, end)
    made.run()
    for near, far in pairs:
        near.close()
        far.close()
    assert sorted(heard[:3]) == ["0", "1", "2"]
    assert heard[3:] == ["timer"]
