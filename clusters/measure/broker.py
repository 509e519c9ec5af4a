# SPDX-License-Identifier: Apache-2.0
"""A queue as small as one can be, in memory: what is put is given to one who gets, first in, first out.

A message that was given over a connection which broke before it was acknowledged is given again. So nothing that was
taken in is lost or given twice while connections hold; the broker counts what it had to give again.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol


class Line(Protocol):
    """A client's connection."""

    def tell(self, line: bytes) -> None:
        """Send a line to the client."""


@dataclass(slots=True)
class Broker:
    """`room` is how many messages it holds; who puts one more is answered when there is room.

    So a message's way takes as long as the way does, and does not wait behind a backlog.
    """

    room: int = 10
    put: int = 0
    acknowledged: int = 0
    given_again: int = 0
    _stored: deque[bytes] = field(default_factory=deque)
    _producers: deque[tuple[Line, bytes]] = field(default_factory=deque)
    _consumers: deque[Line] = field(default_factory=deque)
    _given: dict[bytes, tuple[Line, bytes]] = field(default_factory=dict)

    def take_in(self, line: Line, message: bytes) -> None:
        """`PUT`: the answer is OK as soon as the message is stored."""
        self._producers.append((line, message))
        self._move()

    def give(self, line: Line) -> None:
        """`GET`: the answer is a message, as soon as there is one."""
        self._consumers.append(line)
        self._move()

    def give_up(self, line: Line) -> bool:
        """Who waits, for a message or for room, waits no longer; False if there is nothing that it waits for."""
        consumers = deque(one for one in self._consumers if one is not line)
        producers = deque(one for one in self._producers if one[0] is not line)
        waited = len(consumers) < len(self._consumers) or len(producers) < len(self._producers)
        self._consumers, self._producers = consumers, producers
        return waited

    def acknowledge(self, line: Line, name: bytes) -> None:
        """`ACK`: the message with this name has arrived."""
        if self._given.pop(name, None) is not None:
            self.acknowledged += 1
        line.tell(b"OK")

    def hung_up(self, line: Line) -> None:
        """A connection has ended: what it was given and has not acknowledged comes first again."""
        self.give_up(line)
        unsure = [(name, message) for name, (to, message) in self._given.items() if to is line]
        for name, message in reversed(unsure):
            del self._given[name]
            self._stored.appendleft(message)
            self.given_again += 1
        self._move()

    def state(self) -> dict[str, Any]:
        """Counts, and the names of the messages that nobody has acknowledged yet."""
        left = [*map(name_of, self._stored), *self._given]
        return {
            "put": self.put,
            "acknowledged": self.acknowledged,
            "given_again": self.given_again,
            "left": [name.decode() for name in left],
        }

    def _move(self) -> None:
        """Whatever can go on goes on."""
        while True:
            if self._producers and len(self._stored) < self.room:
                line, message = self._producers.popleft()
                self._stored.append(message)
                self.put += 1
                line.tell(b"OK")
            elif self._stored and self._consumers:
                line, message = self._consumers.popleft(), self._stored.popleft()
                self._given[name_of(message)] = (line, message)
                line.tell(b"MSG " + message)
            else:
                return


def name_of(message: bytes) -> bytes:
    """A message's first word, by which it is acknowledged."""
    return message.partition(b" ")[0]
