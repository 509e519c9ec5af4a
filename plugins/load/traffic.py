# SPDX-License-Identifier: Apache-2.0
"""locust at work in the lab: started in the client's network namespace, watched, ended, and its figures read.

Its processes are the lab's: whatever ends the lab ends them.
"""

import importlib.util
import json
import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusters.errors import PlumblineError
from clusters.lab.helper import Helper
from clusters.lab.provider import Lab
from clusters.patience import patient
from plugins.load.order import CLASSES, TELL_SECONDS, VARIABLE, Order
from plugins.load.progress import Moment, Shown
from plugins.load.results import Load, read
from plugins.world import UnfitError

USERS = Path(__file__).with_name("users.py")
WORKERS = 2
# From its start until all users are at work, and from its being told to stop until it has written its figures: the
# last requests may take as long as their deadline.
STARTED_WITHIN, STOPPED_WITHIN = patient(60.0), patient(60.0)
RESULT, RECEIPTS = "result", "receipts"


@dataclass(slots=True)
class Traffic:
    """Requests that go on until the block ends, `seconds` from when all users were at work, or later."""

    helper: Helper
    seconds: float
    what: str
    shown: Shown
    began: float = 0.0
    last: Mapping[str, Any] = field(default_factory=dict)
    errors: list[Mapping[str, Any]] = field(default_factory=list)
    load: Load | None = None
    receipts: tuple[str, ...] = ()

    @property
    def left(self) -> float:
        """Seconds until it is over, if nobody takes longer."""
        return self.began + self.seconds - time.monotonic()

    @property
    def result(self) -> Load:
        """What came of it, once the block has ended. Raises PlumblineError before."""
        if self.load is None:
            raise PlumblineError("load was asked for its figures before it had ended")
        return self.load

    def go_on(self, seconds: float) -> None:
        """Return when so many seconds have passed. Raises PlumblineError when locust has ended by itself."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.look(left)

    def until_asked(self, count: int) -> None:
        """Return when so many requests have been made since the call. Raises UnfitError where that takes too long."""
        # Whatever is told within this time may have been before.
        self.go_on(2 * TELL_SECONDS)
        before, end = int(self.last["requests"]), time.monotonic() + STARTED_WITHIN
        while (done := int(self.last["requests"]) - before) < count:
            left = end - time.monotonic()
            if left <= 0:
                raise UnfitError(
                    f"locust has made {done} requests in {STARTED_WITHIN:g} s: this machine was too busy"
                )
            self.look(left)

    def look(self, patience: float = 0.0) -> None:
        """Show what locust has told, waiting for it up to so many seconds. Raises PlumblineError if it has ended."""
        line = self.helper.await_line(patience)
        for told in ([line] if line else []) + self.helper.told():
            self._hear(told)
        if self.helper.ended:
            raise PlumblineError(f"locust has ended by itself; its log ends:{self.helper.last_words()}")

    def await_all_users(self) -> None:
        """Return when every user is at work. Raises PlumblineError when that takes too long."""
        end = time.monotonic() + STARTED_WITHIN
        while not self.last.get("running"):
            left = end - time.monotonic()
            if left <= 0:
                raise PlumblineError(
                    f"locust had not started all users after {STARTED_WITHIN:g} s; its log "
                    f"ends:{self.helper.last_words()}"
                )
            self.look(left)
        self.began = time.monotonic()

    def stop(self) -> None:
        """Let every user finish what it is at, and wait for locust's end. Raises PlumblineError."""
        self.helper.signal(signal.SIGUSR1)
        if not self.helper.await_end(STOPPED_WITHIN):
            raise PlumblineError(
                f"locust was still there {STOPPED_WITHIN:g} s after it was to end; its log "
                f"ends:{self.helper.last_words()}"
            )
        for told in self.helper.told():
            self._hear(told)

    def _hear(self, line: str) -> None:
        told: dict[str, Any] = json.loads(line)
        if "errors" in told:
            self.errors = told["errors"]
            return
        self.last = told
        if self.began:
            self.shown.show(self.what, Moment(told["users"], told["requests"], told["failures"], self.left))


@contextmanager
def traffic(
    lab: Lab, order: Order, *, netns: str, seconds: float, what: str, shown: Shown, log: Path, number: int
) -> Iterator[Traffic]:
    """Inside, load is put on; it goes on until `seconds` have passed, however early the block ends.

    Raises UnfitError without locust, PlumblineError where it does not do what it should.
    """
    if importlib.util.find_spec("locust") is None:
        raise UnfitError("locust is not installed here; type: make setup")
    directory = Path(order.receipts).parent
    lab.supervisor.call("write", path=order.receipts, text="")
    environment = {
        VARIABLE: order.dumps(),
        # No configuration of the user's, and gevent's sockets whatever the user has set.
        "HOME": str(directory),
        "LOCUST_SKIP_MONKEY_PATCH": "",
    }
    with Helper.start(
        lab.supervisor,
        f"locust {number}",
        arguments(order, directory),
        netns=netns,
        log=log,
        environment=environment,
    ) as helper:
        running = Traffic(helper, seconds, what, shown)
        try:
            running.await_all_users()
            yield running
            running.go_on(running.left)
            running.stop()
        finally:
            shown.over()
        running.load = Load(read(_text(lab, directory / f"{RESULT}.json"), running.errors))
        running.receipts = tuple(_text(lab, Path(order.receipts)).splitlines())


def arguments(order: Order, directory: Path) -> list[str]:
    """locust's command line, after the interpreter; its JSON will be in a directory, under `RESULT`."""
    users = sum(order.users.values())
    return [
        *("-m", "locust", "--locustfile", str(USERS), "--headless", "--only-summary", "--loglevel", "INFO"),
        *("--users", str(users), "--spawn-rate", str(users), "--processes", str(WORKERS)),
        *("--stop-timeout", str(math.ceil(max(order.deadline, order.datagram_deadline)) + 1)),
        *("--json-file", str(directory / RESULT), "--exit-code-on-error", "0"),
        *(CLASSES[kind] for kind, count in order.users.items() if count),
    ]


def _text(lab: Lab, path: Path) -> str:
    text: str = lab.supervisor.call("read", path=str(path))["text"]
    return text
