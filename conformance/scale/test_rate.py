# SPDX-License-Identifier: Apache-2.0
"""How many connections a second one client gets, as Services grow: connect, a byte there, a byte back, RST."""

import pytest

from conformance.sources import CONNECTION_RATE
from plugins.requirements import requirement
from plugins.scale.bench import DIRECT_VETH


@pytest.mark.scale
@requirement(
    "scale.rate.connections",
    must="The rate of new connections MUST be measured for the last Service, and for all.",
    level="record",
    since="1.0",
    source=CONNECTION_RATE,
)
def test_rate(bench, services):
    bench.at(services)
    targets = {"last Service": bench.last_service, "uniform": bench.every_service}

    for series, chosen in targets.items():
        target = chosen()
        bench.cell(
            "rate",
            series=series,
            unit="1/s",
            better="more",
            measured=lambda target=target: bench.rate(target),
            limit=bench.direct("rate"),
            limited_by=DIRECT_VETH,
        )
