# SPDX-License-Identifier: Apache-2.0
"""This process's guest: a kernel of its own in which tests are run, while pytest stays here.

It is booted beside pytest's collection; a session of pytest inside it has the fixtures and the lab, and sends back
what it reports of each test. A guest that dies or hangs costs the test that it was in: the next test has a new one.
"""

import base64
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clusters.errors import PlumblineError, UsageError
from clusters.hermetic.talk import GuestError, Message, Talk
from plugins.options import Settings
from plugins.run import workers_of

# The longest requirements wait for a timeout of two minutes and more, several times slower than elsewhere.
TEST_DEADLINE = 900.0
# To collect the tests and to say what the kernel can do; half a minute on a busy machine.
ANSWER_DEADLINE = 300.0
# What ends without a test having been run in it will not do better the next time.
DEATHS_IN_A_ROW = 3
GUESTS = pytest.StashKey["Guests"]()


@dataclass(slots=True)
class Guests:
    """One guest at a time. `watched_pids`: processes besides this one whose end must end it."""

    config: pytest.Config
    worker: str
    arguments: Sequence[str]
    watched_pids: Sequence[int] = ()
    times: dict[str, float] = field(default_factory=dict)
    facts: list[dict[str, Any]] = field(default_factory=list)
    deaths: int = 0
    _settings: Settings | None = None
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "guest"))
    _booting: "Future[Talk] | None" = None
    _talk: Talk | None = None
    _has_session: bool = False

    def boot(self, settings: Settings, *, prepare: bool = True) -> None:
        """Begin to; what goes wrong is raised when it is first asked something."""
        self._settings = settings
        started = time.monotonic()

        def boot() -> Talk:
            talk: Talk = self.config.hook.pytest_plumbline_guest(
                config=self.config, settings=settings, watched_pids=self.watched_pids
            )
            if "hello" not in talk.receive(ANSWER_DEADLINE):
                raise GuestError("the guest does not say hello")
            self._took("boot", time.monotonic() - started)
            if prepare:
                talk.send({"prepare": True})
            return talk

        self._booting = self._pool.submit(boot)

    def check(self, settings: Settings) -> dict[str, Any]:
        """What the guest's kernel is and can do (`clusters.host.HostReport`). Raises UsageError where it cannot."""
        talk = self._present()
        question = {
            "mode": settings.mode,
            "backend": settings.iptables_backend,
            "network": settings.pod_network,
            "scheduler": settings.ipvs_scheduler,
        }
        talk.send({"check": question})
        answer = talk.receive(ANSWER_DEADLINE)
        if "usage" in answer:
            raise UsageError(f"In the guest: {answer['usage']}")
        talk.send({"prepare": True})
        found: dict[str, Any] = answer["host"]
        return found

    def run(self, item: pytest.Item, nextitem: pytest.Item | None, settings: Settings) -> Iterator[Message]:
        """Run a test; what the guest says of it, ending with `done`. Raises PlumblineError."""
        self._settings = settings
        talk = self._present()
        if not self._has_session:
            self._begin(talk, item.session.items)
        talk.send({"run": item.nodeid, "next": nextitem.nodeid if nextitem else None})
        end = time.monotonic() + TEST_DEADLINE * settings.deadline_scale
        while True:
            message = talk.receive(end - time.monotonic())
            if "broken" in message:
                raise PlumblineError(f"the session in the guest ended: {message['broken']}")
            if "file" in message:
                self._write(message)
                continue
            yield message
            if "done" in message:
                self.deaths = 0
                return

    def finish(self) -> None:
        """Have the session in the guest end, and take what it knows of the whole run."""
        if self._talk is not None and self._has_session:
            talk = self._talk
            talk.send({"finish": True})
            while "ended" not in (message := talk.receive(ANSWER_DEADLINE)):
                if "file" in message:
                    self._write(message)
            if message["facts"]:
                self.facts.append(message["facts"])
        self.close()

    def died(self) -> bool:
        """The guest is gone; whether that happens again and again."""
        self.close()
        self.deaths += 1
        return self.deaths >= DEATHS_IN_A_ROW

    def close(self) -> None:
        """End the guest, if there is one."""
        booting, self._booting = self._booting, None
        if booting is not None and self._talk is None:
            if booting.cancel() or booting.exception() is not None:
                return
            self._talk = booting.result()
        talk, self._talk, self._has_session = self._talk, None, False
        if talk is not None:
            talk.close()

    def phases(self) -> dict[str, float]:
        """Seconds by phase: the guests' own beside what they say of theirs."""
        found = dict(self.times)
        for facts in self.facts:
            for name, seconds in facts["phases"].items():
                found[name] = found.get(name, 0.0) + seconds
        return found

    def _present(self) -> Talk:
        if self._talk is None:
            if self._booting is None:
                assert self._settings is not None
                self.boot(self._settings)
            assert self._booting is not None
            booting, self._booting = self._booting, None
            self._talk = booting.result()
        return self._talk

    def _begin(self, talk: Talk, items: Sequence[pytest.Item]) -> None:
        assert self._settings is not None
        started = time.monotonic()
        talk.send(
            {
                "session": {
                    "arguments": list(self.arguments),
                    "items": [item.nodeid for item in items],
                    "settings": self._settings.dumps(),
                    "worker": self.worker,
                    "workers": workers_of(self.config),
                    "report": self._settings.report,
                }
            }
        )
        answer = talk.receive(ANSWER_DEADLINE)
        if "collected" not in answer:
            raise PlumblineError(f"the tests could not be collected in the guest: {answer.get('broken', answer)}")
        self._has_session = True
        self._took("imports", time.monotonic() - started)

    def _took(self, phase: str, seconds: float) -> None:
        self.times[phase] = self.times.get(phase, 0.0) + seconds

    def _write(self, message: Message) -> None:
        """A file of the report, which the guest has made. Nothing else than a report's can be written so."""
        assert self._settings is not None
        report = Path(self._settings.report)
        file = (report / message["file"]).resolve()
        if not file.is_relative_to(report.resolve()):
            raise PlumblineError(f"the guest wants to write {file}, which is not below {report}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(zlib.decompress(base64.b64decode(message["data"])))


def report_directory(settings: Settings) -> Path:
    """What the guest has in memory, and sends: it writes nothing here."""
    return Path(settings.report)


def program() -> list[str]:
    """What runs in a guest."""
    return [sys.executable, "-m", "plugins.guest"]


__all__ = ["GUESTS", "GuestError", "Guests", "program"]
