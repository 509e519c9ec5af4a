# SPDX-License-Identifier: Apache-2.0
"""One epoll loop with timers: everything the agent does happens in its callbacks, in one thread.

A callback must tolerate an event that is not for it: when a descriptor is closed and its number used again
within one batch of events, the rest of the batch may name the new socket. Non-blocking calls make that
harmless.
"""

import heapq
import math
import select
from collections import deque
from collections.abc import Callable
from itertools import count
from time import perf_counter

Handler = Callable[[int], None]
Callback = Callable[[], None]

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
ERROR = select.EPOLLERR
HANGUP = select.EPOLLHUP | select.EPOLLRDHUP
EDGE = select.EPOLLET
# A connection is registered once for all it will ever wait for: no epoll_ctl when its state changes.
CONNECTION = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET

_BATCH = 256
# Full turns until what was sent before them has led to all that it can: an association is made in three round trips,
# and either end of each is a turn of its own where one agent is both.
_TURNS_TO_AN_ANSWER = 8


class Timer:
    """A callback due at one moment; `cancel()` makes it do nothing."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """Waits for descriptors and for moments, until `stop()`.

    `now` is the `perf_counter()` (CLOCK_MONOTONIC, seconds) at which the current batch of events was ready.
    Moments are kept to about a millisecond, the granularity of epoll_wait(2).

    Timers give way to the sockets: of what is due, only what was so at `handled_until`, a moment before which
    everything that the sockets had has been handled. On a machine too busy to let the agent run, what has arrived
    in time is then never taken for late. What was called with `give_up_at` waits for `answered_until`: before that
    moment everything has been handled that this process had to do for an answer too, as its client or its server.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: _Heap = []
        self._silences: _Heap = []
        self._order = count()
        self._soon: deque[Callback] = deque()
        self._running = True
        self._leftover = False
        self.now = self.handled_until = self.answered_until = perf_counter()
        self._full_turns = deque([self.now], maxlen=_TURNS_TO_AN_ANSWER)

    def register(self, fd: int, mask: int, handler: Handler) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask)

    def forget(self, fd: int) -> None:
        """To be called just before the descriptor is closed; closing it takes it out of the epoll set."""
        self._handlers.pop(fd, None)

    def call_at(self, when: float, callback: Callback) -> Timer:
        return self._add(self._timers, when, callback)

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        return self.call_at(perf_counter() + seconds, callback)

    def give_up_at(self, when: float, callback: Callback) -> Timer:
        """Call at a moment, or as soon after it as silence means that nobody else has answered."""
        return self._add(self._silences, when, callback)

    def give_up_later(self, seconds: float, callback: Callback) -> Timer:
        return self.give_up_at(perf_counter() + seconds, callback)

    def leave_over(self) -> None:
        """For handlers: more is waiting than was handled in this turn, so that the turn is not a full one."""
        self._leftover = True

    def call_soon(self, callback: Callback) -> None:
        """Call after the events of this turn: how long work gives way to the sockets."""
        self._soon.append(callback)

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        handlers = self._handlers
        poll = self._epoll.poll
        while self._running:
            asked = perf_counter()
            events = poll(self._patience(), _BATCH)
            self.now = perf_counter()
            for fd, mask in events:
                handler = handlers.get(fd)
                if handler is not None:
                    handler(mask)
            if len(events) < _BATCH and not self._leftover:  # or there may be more
                self.handled_until = asked
                self._full_turns.append(asked)
                self.answered_until = self._full_turns[0]
            self._leftover = False
            _run(self._timers, self.handled_until)
            _run(self._silences, self.answered_until)
            for _ in range(len(self._soon)):
                self._soon.popleft()()
        self._epoll.close()

    def _add(self, timers: "_Heap", when: float, callback: Callback) -> Timer:
        timer = Timer(callback)
        heapq.heappush(timers, (when, next(self._order), timer))
        return timer

    def _patience(self) -> float:
        """Seconds until something is due; -1 when nothing is."""
        if self._soon:
            return 0
        first = min(_first(self._timers), _first(self._silences))
        return max(0.0, first - perf_counter()) if first < math.inf else -1


_Heap = list[tuple[float, int, Timer]]


def _first(timers: _Heap) -> float:
    """When the next one is due; infinity when there is none."""
    while timers and timers[0][2].callback is None:
        heapq.heappop(timers)
    return timers[0][0] if timers else math.inf


def _run(timers: _Heap, until: float) -> None:
    while timers and timers[0][0] <= until:
        callback = heapq.heappop(timers)[2].callback
        if callback is not None:
            callback()
