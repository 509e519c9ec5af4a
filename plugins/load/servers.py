# SPDX-License-Identifier: Apache-2.0
"""The pods under load: a server at each endpoint, started, drained and killed as pods are."""

import json
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clusters.api import Backend
from clusters.errors import PlumblineError
from clusters.lab.helper import Helper
from clusters.lab.provider import Lab
from clusters.measure.served import HTTP_PORT, STATE
from clusters.observation import Address, Family
from clusters.patience import patient

# From the start of a server to its first word, and from its being told to stop to its last.
STARTED_WITHIN, STOPPED_WITHIN = patient(20.0), patient(10.0)


@dataclass(slots=True)
class Servers:
    """The servers of one test, by backend. Use as a context manager: leaving it kills them all."""

    lab: Lab
    families: tuple[Family, ...]
    logs: Path
    _running: dict[Address, Helper] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._running.clear()

    def start(self, backends: Iterable[Backend]) -> None:
        """Have a server at each, and all of them ready. Raises PlumblineError when one does not come up."""
        started = [(backend, self._start(backend)) for backend in backends]
        for backend, helper in started:
            if helper.await_line(STARTED_WITHIN) != "ready":
                raise PlumblineError(
                    f"no server came up at {self._place(backend)}; its log ends:{helper.last_words()}"
                )

    def drain(self, backends: Iterable[Backend]) -> None:
        """What each answers next on a connection is the last there; new connections are still answered."""
        for backend in backends:
            self._running[self._place(backend)].signal(signal.SIGUSR1)

    def stop(self, backends: Sequence[Backend]) -> None:
        """Listen no longer, and end with the last connection.

        A connection of which nothing more is heard does not keep it for ever: as a pod is, it is then killed. Whoever
        was at its other end will have noticed.
        """
        helpers = [self._running.pop(self._place(backend)) for backend in backends]
        for helper in helpers:
            helper.signal(signal.SIGTERM)
        end = time.monotonic() + STOPPED_WITHIN
        for helper in helpers:
            helper.await_end(end - time.monotonic())
            helper.close()

    def kill(self, backends: Iterable[Backend]) -> None:
        """SIGKILL, as when a pod's node takes its memory back."""
        for backend in backends:
            self._running.pop(self._place(backend)).close()

    def state(self, backend: Backend) -> dict[str, Any]:
        """What a server says of itself, asked from its own place. Raises PlumblineError when it does not."""
        answer = self.lab.fetch(backend.vantage, self._place(backend), STATE)
        if answer is None:
            raise PlumblineError(f"the server at {self._place(backend)} does not answer {STATE}")
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def answered(self, backend: Backend) -> int:
        """How many requests it has answered."""
        return sum(self.state(backend)["answered"].values())

    def _start(self, backend: Backend) -> Helper:
        assert backend.vantage.place
        netns = Path(backend.vantage.place).name
        helper = Helper.start(
            self.lab.supervisor,
            f"served {backend.name}",
            ["-S", "-m", "clusters.measure.served", f"--name={backend.name}", *self._addresses(backend)],
            netns=netns,
            log=self.logs / f"{netns}.served.log",
        )
        self._stack.enter_context(helper)
        self._running[self._place(backend)] = helper
        return helper

    def _addresses(self, backend: Backend) -> list[str]:
        return [f"--ip={backend.addresses[family]}" for family in self.families]

    def _place(self, backend: Backend) -> Address:
        """Dense backends have a name in common, and no address."""
        return Address(backend.addresses[self.families[0]], HTTP_PORT)
