# SPDX-License-Identifier: Apache-2.0
"""How much of a CPU a fixed rate of connections takes, and how much a fixed rate of changes."""

import pytest

from conformance.sources import KEEPALIVE
from plugins.requirements import requirement
from plugins.scale.bench import DIRECT_VETH
from plugins.scale.fixed_rate import CHANGES, CONNECTIONS, beside_changes, cores_of_connections


@pytest.mark.scale(at="apart")
@requirement(
    "scale.cpu.connections",
    must=f"The CPU that {CONNECTIONS:,} new connections a second, each to any Service, take MUST be measured, "
    "beside an idle one.",
    level="record",
    since="1.0",
    source=KEEPALIVE,
)
def test_connections(bench, services):
    bench.at(services)
    targets = bench.every_service()

    bench.cell(
        "cpu",
        series=f"{CONNECTIONS:,} connections/s, uniform",
        unit="cores",
        better="less",
        measured=lambda: cores_of_connections(bench, targets),
        limit=lambda: cores_of_connections(bench, None),
        limited_by=DIRECT_VETH,
        repeats=3,
    )


@pytest.mark.scale(at="apart")
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
