# SPDX-License-Identifier: Apache-2.0
"""One pytest process's run: its cluster, the proxy on it, and the world the requirements work with."""

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import pluggy
import pytest

from clusters.api import Announcer, Cluster, Proxy
from clusters.errors import PlumblineError
from clusters.observation import Family
from clusters.proxies.configuration import DEFAULT, ProxyConfiguration
from plugins.options import Settings
from plugins.oracle import SecondOpinion
from plugins.settle import Deadlines, Settler
from plugins.world import UnfitError, World


@dataclass(slots=True)
class Run:
    """Use as a context manager; entering it brings everything up."""

    settings: Settings
    hook: pluggy.HookRelay
    worker: str
    watched_pids: Sequence[int] = ()
    phases: dict[str, float] = field(default_factory=dict)
    broken: bool = False
    cluster: Cluster = field(init=False)
    proxy: Proxy = field(init=False)
    announcer: Announcer | None = field(init=False)
    settler: Settler = field(init=False)
    world: World = field(init=False)
    oracle: SecondOpinion = field(init=False)
    configured: ProxyConfiguration = DEFAULT
    asked: ProxyConfiguration = DEFAULT
    _stack: ExitStack = field(default_factory=ExitStack)
    _ready_at: float = 0.0
    _ended_at: float = 0.0

    def __enter__(self) -> Self:
        """Bring up lab and proxy. Raises UsageError, ProxyError or PlumblineError, leaving nothing behind."""
        settings = self.settings
        families: tuple[Family, ...] = tuple("IPv6" if name == "IPv6" else "IPv4" for name in settings.families)
        deadlines = Deadlines.of(settings.sync, settings.deadline_scale, settings.mode)
        try:
            started = time.monotonic()
            provider = self.hook.pytest_plumbline_cluster(
                settings=settings, worker=self.worker, watched_pids=self.watched_pids
            )
            self.cluster = self._stack.enter_context(provider)
            self.phases["cluster"] = time.monotonic() - started
            self.proxy = self.hook.pytest_plumbline_proxy(settings=settings, cluster=self.cluster)
            self.settler = Settler(self.cluster, self.proxy, deadlines, families)
            self.oracle = SecondOpinion(lambda: self.hook.pytest_plumbline_oracle(settings=settings))
            self._stack.callback(self.oracle.close)
            self.world = World(
                self.cluster,
                self.settler,
                families=families,
                probe_timeout=deadlines.probe,
                after_settling=lambda: self.hook.pytest_plumbline_settled(run=self),
                oracle=self.oracle,
            )
            self.settler.create_sentinel()
            self._stack.callback(self._stop_proxy)
            self.proxy.start()
            self.cluster.announce_zones()
            self.hook.pytest_plumbline_await_ready(run=self)
            self.phases["proxy"] = time.monotonic() - started - self.phases["cluster"]
            self._start_announcer()
            self._ready_at = time.monotonic()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended_at = time.monotonic()
        self._stack.close()

    def configure(self, wanted: ProxyConfiguration) -> None:
        """See that the proxy runs with this configuration: nothing, or one restart on all nodes at once.

        A new generation of the sentinel is what only the new process can have programmed. Every batch and every
        transition after it settles anew. Raises UnfitError where this cannot be had here, ProxyError where the
        proxy does not come up with it.
        """
        if wanted == self.asked:
            return
        try:
            filled = wanted.filled_in(self.cluster.placeholders)
        except LookupError as unknown:
            raise UnfitError(f"the cluster has no {unknown.args[0]}, which {wanted} needs") from None
        refused = self.proxy.refuses(filled)
        if refused:
            raise UnfitError(f"{refused}: {wanted}")
        started = time.monotonic()
        self.proxy.configure(filled)
        self.cluster.announce_zones()
        self.configured, self.asked = filled, wanted
        self.world.configured(filled)
        self.settler.next_generation()
        self.hook.pytest_plumbline_await_ready(run=self)
        self.phases["restarts"] = self.phases.get("restarts", 0.0) + time.monotonic() - started

    def _start_announcer(self) -> None:
        self.announcer = self.hook.pytest_plumbline_announcer(settings=self.settings, cluster=self.cluster)
        if self.announcer is None:
            return
        started = time.monotonic()
        self._stack.callback(self._stop_announcer, self.announcer)
        self.announcer.start()
        self.world.announcer = self.announcer
        self.phases["announcer"] = time.monotonic() - started

    def _stop_announcer(self, announcer: Announcer) -> None:
        with suppress(PlumblineError):
            announcer.stop()

    def _stop_proxy(self) -> None:
        # A lab that is gone took its proxies with it.
        with suppress(PlumblineError):
            self.proxy.stop()

    @property
    def seconds_in_tests(self) -> float:
        """From ready to the end, or to now."""
        return (self._ended_at or time.monotonic()) - self._ready_at


def watched_by(config: pytest.Config) -> list[int]:
    """The xdist controller's PID, in a worker: it may die long before the worker notices."""
    workerinput = getattr(config, "workerinput", None)
    return [int(workerinput["plumbline_controller"])] if workerinput else []


def workers_of(config: pytest.Config) -> int:
    """How many processes share the run's tests."""
    return int(getattr(config, "workerinput", {}).get("workercount", 1))


def controller_pid() -> int:
    return os.getpid()
