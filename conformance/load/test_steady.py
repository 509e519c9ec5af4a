# SPDX-License-Identifier: Apache-2.0
"""Load on a Service that nobody changes: what can be had of it, and that every request is answered."""

import pytest

from conformance.sources import VIRTUAL_IPS
from plugins.load.order import REQUESTS
from plugins.load.results import must_have_answered
from plugins.requirements import requirement


@pytest.mark.load
@requirement(
    "load.steady.every-request-answered",
    must="Every request to a Service whose endpoints do not change MUST be answered.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
)
def test_every_request_is_answered(load):
    with load.on(load.pods(3)) as traffic:
        pass

    must_have_answered(traffic.result.only(REQUESTS), "while nothing changed")


@pytest.mark.load
@requirement(
    "load.steady.rate",
    must="What one client can have of a Service MUST be measured, beside what it can have of the endpoint itself.",
    level="record",
    since="1.0",
    source=VIRTUAL_IPS,
)
@pytest.mark.parametrize("kind", REQUESTS)
def test_rate(load, kind):
    pods = load.pods(1)

    must_have_answered(load.steady(pods, kind), "as fast as they could be asked")
