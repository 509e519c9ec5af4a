# SPDX-License-Identifier: Apache-2.0
"""Load while the proxy is started again."""

import pytest

from conformance.sources import ISSUES
from plugins.load.order import REQUESTS
from plugins.load.results import must_have_answered
from plugins.requirements import requirement


@pytest.mark.load
@requirement(
    "load.restart.proxy",
    must="Every request to a Service MUST be answered while the proxy is restarted on every node, over connections "
    "that it found established and over new ones.",
    level="extended",
    since="1.15",
    source=ISSUES + "73154",
    needs=["proxy-restart"],
)
def test_proxy_restarts(load, world):
    pods = load.pods(3)

    with load.on(pods) as traffic:
        traffic.go_on(load.seconds / 5)
        world.restart_proxy()

    must_have_answered(traffic.result.only(REQUESTS), "while the proxy was restarted")
