# SPDX-License-Identifier: Apache-2.0
"""What becomes of a run of locust that does not do what it should: one sentence, and never a pass."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from clusters.errors import PlumblineError
from clusters.lab.helper import Helper
from plugins.load import traffic
from plugins.load.order import CLASSES, HTTP_NEW, REQUESTS, UDP_DATAGRAM, Order
from plugins.load.progress import Moment
from plugins.load.traffic import Traffic, arguments
from plugins.world import UnfitError

UP = '{"users": 4, "requests": 0, "failures": 0, "running": true}'
GOING = '{"users": 4, "requests": 7, "failures": 2, "running": true}'
STARTING = '{"users": 0, "requests": 0, "failures": 0, "running": false}'


@dataclass
class Told:
    """A helper that has told these lines, and has then ended, or not."""

    lines: deque[str]
    ends: bool = False
    signals: list[int] = field(default_factory=list)

    def await_line(self, _: float) -> str | None:
        return self.lines.popleft() if self.lines else None

    def told(self) -> list[str]:
        return []

    @property
    def ended(self) -> bool:
        return self.ends and not self.lines

    def last_words(self) -> str:
        return "\n    no more"

    def signal(self, number: int) -> bool:
        self.signals.append(number)
        return True

    def await_end(self, _: float) -> bool:
        return self.ends


@dataclass
class Seen:
    """Shows nothing, and remembers."""

    moments: list[Moment] = field(default_factory=list)

    def show(self, _: str, moment: Moment) -> None:
        self.moments.append(moment)

    def over(self) -> None:
        """Nothing to take back."""


def running(lines: Iterable[str], *, ends: bool = False, shown: Any = None) -> Traffic:
    return Traffic(cast(Helper, Told(deque(lines), ends)), 10.0, "drain", shown or Seen())


def test_it_begins_when_all_users_are_at_work_and_is_shown_from_then_on() -> None:
    seen = Seen()
    one = running([STARTING, UP, GOING], shown=seen)
    one.await_all_users()
    assert seen.moments == []
    one.look()
    (moment,) = seen.moments
    assert (moment.users, moment.requests, moment.failures) == (4, 7, 2)
    assert 9.0 < moment.left <= 10.0


def test_a_locust_that_ends_by_itself_is_one_sentence() -> None:
    one = running([UP], ends=True)
    with pytest.raises(PlumblineError, match=r"^locust has ended by itself; its log ends:\s+no more$"):
        one.await_all_users()


def test_users_that_never_start_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "STARTED_WITHIN", 0.01)
    with pytest.raises(PlumblineError, match=r"^locust had not started all users after 0.01 s; its log ends:"):
        running([STARTING]).await_all_users()


def test_requests_that_never_come_are_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "STARTED_WITHIN", 0.01)
    monkeypatch.setattr(traffic, "TELL_SECONDS", 0.0)
    one = running([UP, GOING])
    one.await_all_users()
    one.until_asked(7)
    with pytest.raises(UnfitError, match=r"^locust has made 0 requests in 0.01 s: this machine was too busy$"):
        one.until_asked(1)


def test_requests_that_are_told_late_were_not_made_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "STARTED_WITHIN", 0.01)
    monkeypatch.setattr(traffic, "TELL_SECONDS", 0.01)
    one = running([UP, GOING])
    one.await_all_users()
    with pytest.raises(UnfitError, match=r"^locust has made 0 requests in 0.01 s"):
        one.until_asked(7)


def test_a_locust_that_does_not_end_is_one_sentence() -> None:
    with pytest.raises(PlumblineError, match=r"^locust was still there 60 s after it was to end; its log ends:"):
        running([UP]).stop()


def test_figures_before_the_end_are_none() -> None:
    with pytest.raises(PlumblineError, match="before it had ended"):
        running([UP]).result.of(HTTP_NEW)


def order(**users: int) -> Order:
    return Order(
        ip="10.96.0.9", users=users, http_port=80, line_port=81, queue_port=82, receipts="/run/tmp/x/receipts"
    )


def test_an_order_travels_whole() -> None:
    one = order(**{HTTP_NEW: 3})
    assert Order.loads(one.dumps()) == one


def test_only_the_users_that_are_wanted_are_named(tmp_path: Any) -> None:
    argv = arguments(order(**{HTTP_NEW: 3, UDP_DATAGRAM: 0}), tmp_path)
    assert argv[-1] == "HttpNew"
    assert CLASSES[UDP_DATAGRAM] not in argv
    assert argv[argv.index("--users") + 1] == "3"
    assert set(REQUESTS) <= set(CLASSES)
