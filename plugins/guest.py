# SPDX-License-Identifier: Apache-2.0
"""What runs in a guest: a session of pytest that is told test by test what to run, and sends back its reports.

`python -m plugins.guest` speaks over the console that PLUMBLINE_GUEST names. It is a worker as xdist's are, so that
whatever leaves files and reports to a controller does so here too: the controller is pytest on the machine outside.
Messages in: `check`, `prepare`, `session`, `run` (with `next`), `finish`. Messages out: `hello`; `host` or `usage`;
`collected`; `report`, `warning`, `file` and at last `done`; `ended` with the facts of the run; `broken`; every few
seconds `alive`.
"""

import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from clusters.hermetic.wire import Inside, Message
from clusters.patience import GUEST

HEARTBEAT = 5.0


class Speech:
    """The console; signs of life are sent beside what is said."""

    def __init__(self, console: Inside) -> None:
        self._console = console
        self._lock = threading.Lock()

    def send(self, **message: Any) -> None:
        with self._lock:
            self._console.send(message)

    def receive(self) -> Message:
        """Wait for a message."""
        while (message := self._console.next()) is None:
            for _ in range(self._console.read()):
                self.send(got=True)
        return message

    def live(self) -> None:
        """Send signs of life for ever."""
        pause = threading.Event()
        while not pause.wait(HEARTBEAT):
            self.send(alive=True)


def main() -> int:
    """Answer until the session has ended; the exit status says nothing."""
    speech = Speech(Inside(os.environ[GUEST]))
    # Whatever came before its console was raw would have been echoed.
    speech.send(hello=True)
    threading.Thread(target=speech.live, daemon=True).start()
    while True:
        message = speech.receive()
        if "check" in message:
            _check(speech, message["check"])
        elif "prepare" in message:
            _prepare()
        elif "session" in message:
            from plugins.guest_session import run

            run(speech, message["session"])
            return 0


def _check(speech: Speech, asked: Mapping[str, Any]) -> None:
    """What this kernel is and can do."""
    from clusters import host
    from clusters.errors import UsageError

    try:
        found = host.check(
            asked["mode"],
            iptables_backend=asked["backend"],
            pod_network=asked["network"],
            ipvs_scheduler=asked["scheduler"],
        )
    except UsageError as error:
        speech.send(usage=str(error))
    else:
        speech.send(host=found.as_dict())


def _prepare() -> None:
    """Import what the session will need, while outside tests are being collected.

    Not the plugins themselves: pytest has to see to their assertions when it imports them.
    """
    import pytest  # noqa: F401

    import dataplane_ref.model  # noqa: F401


if __name__ == "__main__":
    sys.exit(main())
