# SPDX-License-Identifier: Apache-2.0
"""plumbline's own pytest hooks: where others may watch, or disturb, a run."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from clusters.api import Announcer, Cluster, Proxy
    from clusters.hermetic.talk import Talk
    from plugins.gate import Judgement
    from plugins.options import Settings
    from plugins.oracle import Oracle
    from plugins.run import Run


@pytest.hookspec(firstresult=True)
def pytest_plumbline_cluster(
    settings: "Settings", worker: str, watched_pids: Sequence[int]
) -> "AbstractContextManager[Cluster] | None":
    """The cluster to judge on, not yet entered; the first plugin that knows one has the say."""


@pytest.hookspec(firstresult=True)
def pytest_plumbline_proxy(settings: "Settings", cluster: "Cluster") -> "Proxy | None":
    """The proxy to put on the cluster, not yet started."""


@pytest.hookspec(firstresult=True)
def pytest_plumbline_announcer(settings: "Settings", cluster: "Cluster") -> "Announcer | None":
    """What announces load balancers' addresses beside the proxy, not yet started; nobody: none is wanted."""


@pytest.hookspec(firstresult=True)
def pytest_plumbline_guest(config: pytest.Config, settings: "Settings", watched_pids: Sequence[int]) -> "Talk | None":
    """A booted guest with `plugins.guest` in it; called in a thread of its own."""


@pytest.hookspec(firstresult=True)
def pytest_plumbline_oracle(settings: "Settings") -> "Oracle | None":
    """The second opinion on every verdict; called when it is first needed. LookupError says why there is none."""


@pytest.hookspec(firstresult=True)
def pytest_plumbline_await_ready(run: "Run") -> bool | None:
    """Wait until the proxy works at all, after each of its starts; the first plugin to return True has the say."""


@pytest.hookspec
def pytest_plumbline_settled(run: "Run") -> None:
    """Called after each settle, before anything is probed."""


@pytest.hookspec(firstresult=True)
def pytest_plumbline_baseline(settings: "Settings", records: "Sequence[Mapping[str, Any]]") -> "Judgement | None":
    """This run beside an earlier one, once all its files are written; nobody: there is no --baseline."""
