# SPDX-License-Identifier: Apache-2.0
"""What a request costs on a connection that is kept, on one kept for a hundred, and on a new one each."""

import pytest

from conformance.sources import KEEPALIVE
from plugins.requirements import requirement
from plugins.scale.bench import DIRECT_VETH


def seconds_each(sample):
    return sample.seconds / sample.count


@pytest.mark.scale(at="apart")
@requirement(
    "scale.keepalive.request",
    must="The time of a request MUST be measured on one connection, on connections of a hundred requests, and on new "
    "connections.",
    level="record",
    since="1.0",
    source=KEEPALIVE,
)
def test_keepalive(bench, services):
    bench.at(services)
    last = bench.last_service()
    kinds = {"one connection": "request", "100 requests each": "hundred", "new connections": "rate"}

    for series, kind in kinds.items():
        bench.cell(
            "keepalive",
            series=series,
            unit="s",
            better="less",
            measured=lambda kind=kind: bench.measure(kind, last),
            limit=bench.direct(kind),
            limited_by=DIRECT_VETH,
            value=seconds_each,
        )
