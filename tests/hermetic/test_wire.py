# SPDX-License-Identifier: Apache-2.0
"""Messages over a console that takes only so much, shown at a pseudo-terminal, which is as narrow."""

import os
import pty
import threading
import tty
from collections.abc import Iterator

import pytest

from clusters.hermetic.wire import WINDOW, Inside, Outside


@pytest.fixture
def ends() -> Iterator[tuple[Outside, Inside]]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield Outside(master, master), Inside(os.ttyname(slave))
    os.close(master)
    os.close(slave)


def read_one(inside: Inside, windows: list[int]) -> object:
    while (message := inside.next()) is None:
        for _ in range(inside.read()):
            windows.append(WINDOW)
            inside.send({"got": True})
    return message


def test_much_goes_in_by_windows(ends: tuple[Outside, Inside]) -> None:
    """100 kB, of which no more than a window lies unread."""
    outside, inside = ends
    message = {"items": [f"test_{number}[é]" for number in range(8000)]}
    heard: list[object] = []
    windows: list[int] = []
    reader = threading.Thread(target=lambda: heard.extend(read_one(inside, windows) for _ in range(2)))
    reader.start()
    outside.send(message)
    outside.send({"after": 1})
    reader.join(20.0)
    assert heard == [message, {"after": 1}]
    assert len(windows) > 100


def test_what_comes_meanwhile_is_kept(ends: tuple[Outside, Inside]) -> None:
    outside, inside = ends
    inside.send({"report": 1})
    reader = threading.Thread(target=read_one, args=(inside, []))
    reader.start()
    outside.send({"long": "x" * 3000})
    reader.join(20.0)
    inside.send({"done": True})
    assert [outside.receive(5.0), outside.receive(5.0)] == [{"report": 1}, {"done": True}]


def test_silence_is_a_timeout(ends: tuple[Outside, Inside]) -> None:
    with pytest.raises(TimeoutError):
        ends[0].receive(0.05)
