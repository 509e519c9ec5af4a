# SPDX-License-Identifier: Apache-2.0
"""How much of a CPU a fixed rate of connections takes, and how much a fixed rate of changes."""

import pytest

from conformance.sources import KEEPALIVE
from plugins.requirements import requirement
from plugins.scale.bench import DIRECT_VETH
from plugins.scale.fixed_rate import CHANGES, CONNECTIONS, beside_changes, cores_of_connections


@pytest.mark.scale
@requirement(
    "scale.cpu.connections",
    must=f"The CPU that {CONNECTIONS:,} new connections a second take MUST be measured, beside an idle one.",
    level="record",
    since="1.0",
    source=KEEPALIVE,
)
def test_connections(bench, services):
    bench.at(services)
    targets = {"last Service": bench.last_service, "uniform": bench.every_service}

    for series, chosen in targets.items():
        target = chosen()
        bench.cell(
            "cpu",
            series=f"{CONNECTIONS:,} connections/s, {series}",
            unit="cores",
            better="less",
            measured=lambda target=target: cores_of_connections(bench, target),
            limit=lambda: cores_of_connections(bench, None),
            limited_by=DIRECT_VETH,
            repeats=3,
        )


@pytest.mark.scale
@requirement(
    "scale.cpu.changes",
    must=f"The CPU that the proxy takes for {CHANGES} changes of Services a second MUST be measured.",
    level="record",
    since="1.0",
    source=KEEPALIVE,
)
def test_changes(bench, services):
    bench.at(services)

    bench.cell(
        "cpu",
        series=f"proxy, {CHANGES} changes/s",
        unit="cores",
        better="less",
        measured=lambda: beside_changes(bench),
        repeats=2,
    )
