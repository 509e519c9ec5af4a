# SPDX-License-Identifier: Apache-2.0
"""Load while endpoints are added and taken away."""

import pytest

from conformance.sources import POD_LIFECYCLE
from plugins.load.order import CONNECTIONS
from plugins.load.results import must_have_answered
from plugins.requirements import requirement


@pytest.mark.load
@requirement(
    "load.scaling.up-and-down",
    must="Requests over connections MUST NOT fail while a Service grows from two endpoints to ten and shrinks to two "
    "again in good order, and each of the ten MUST have its share.",
    level="extended",
    since="1.26",
    source=POD_LIFECYCLE + "#pod-termination-flow",
    needs=["nodes:2"],
)
def test_endpoints_scale_up_and_down(load):
    pods = load.pods(2)

    with load.on(pods) as traffic:
        traffic.go_on(load.seconds / 5)
        pods.grow_to(10)
        traffic.go_on(load.seconds / 2)
        # Half of them are new connections: one of ten endpoints has none of these once in 1e8 runs.
        traffic.until_asked(400)
        answered = {pod.addresses["IPv4"]: pods.servers.answered(pod) for pod in pods.ready}
        pods.shrink_to(2)

    load.note(answered=answered)
    must_have_answered(traffic.result.only(CONNECTIONS), "while endpoints came and went")
    idle = sorted(address for address, count in answered.items() if not count)
    assert not idle, f"of ten endpoints these answered nothing: {', '.join(idle)}"
