# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that rejects a node's packets to the pods for a second, after so many settles of a test of load.

`pytest -p tests.load.sabotage --rejecting-after=N …`
"""

from collections.abc import Generator

import pytest

from clusters.lab.provider import Lab
from clusters.measure.served import HTTP_PORT, QUEUE_PORT
from plugins.run import Run

SECONDS = 1.0
RULE = ("-p", "tcp", "--dport", f"{HTTP_PORT}:{QUEUE_PORT}", "-j", "REJECT", "--reject-with", "tcp-reset")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rejecting-after", type=int, required=True, metavar="N")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Rejecting(config.getoption("--rejecting-after")))


class Rejecting:
    """Counts the settles of each test."""

    def __init__(self, after: int) -> None:
        self._after = after
        self._seen = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, None, None]:
        self._seen = 0
        yield

    def pytest_plumbline_settled(self, run: Run) -> None:
        self._seen += 1
        if self._seen != self._after:
            return
        lab = run.cluster
        assert isinstance(lab, Lab)
        node = lab.nodes[0].name
        for what in ("--insert", "--delete"):
            done = lab.supervisor.run(["iptables", what, "FORWARD", *RULE], node=node)
            if done.status != 0:
                raise RuntimeError(f"the rule could not be written: {done.err}")
            if what == "--insert":
                run.settler.clock.let_pass(SECONDS)
