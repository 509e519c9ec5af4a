# SPDX-License-Identifier: Apache-2.0
"""One Service with thousands of endpoints: what it costs to replace a hundred of them."""

import pytest

from conformance.sources import SLICE_SIZE
from plugins.requirements import requirement
from plugins.scale.slices import keep, sliced


@pytest.mark.scale(at="fewest")
@requirement(
    "scale.slices.replacement",
    must="With 1,000 and with 10,000 endpoints of one Service, the bytes that one slice's replacement takes, the "
    "time until it is in force and the CPU time of the proxy MUST be measured.",
    level="record",
    since="1.21",
    source=SLICE_SIZE,
)
def test_slices(bench, services):
    bench.at(services)

    for endpoints in (1_000, 10_000):
        with sliced(bench, endpoints) as service:
            keep(bench, endpoints, service.replaced())
