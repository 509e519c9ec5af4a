# SPDX-License-Identifier: Apache-2.0
"""How much gets through: one long flow as iperf3 sends it, and many flows of 64 KiB."""

import pytest

from conformance.sources import THROUGHPUT
from plugins.requirements import requirement
from plugins.scale.bench import DIRECT_VETH
from plugins.scale.throughput import bits, direct_iperf, iperf

COMMON = {"unit": "bit/s", "better": "more", "limited_by": DIRECT_VETH}


@pytest.mark.scale(at="ends")
@requirement(
    "scale.throughput.long-flow",
    must="What a receiver gets of one long flow MUST be measured for the first Service and the last one.",
    level="record",
    since="1.0",
    source=THROUGHPUT,
)
def test_long_flow(bench, services):
    bench.at(services)
    targets = {"iperf3, first Service": bench.first_service, "iperf3, last Service": bench.last_service}

    for series, chosen in targets.items():
        target = chosen()
        bench.cell(
            "throughput",
            series=series,
            measured=lambda target=target: iperf(bench, target),
            limit=lambda: direct_iperf(bench),
            repeats=3,
            **COMMON,
        )


@pytest.mark.scale(at="ends")
@requirement(
    "scale.throughput.short-flows",
    must="What gets through in flows of 64 KiB, a connection each, MUST be measured for the first Service and the "
    "last one.",
    level="record",
    since="1.0",
    source=THROUGHPUT,
)
def test_short_flows(bench, services):
    bench.at(services)
    targets = {
        "64 KiB flows, first Service": bench.first_service,
        "64 KiB flows, last Service": bench.last_service,
    }

    for series, chosen in targets.items():
        target = chosen()
        bench.cell(
            "throughput",
            series=series,
            measured=lambda target=target: bench.flows(target),
            limit=bench.direct("flow"),
            value=bits,
            **COMMON,
        )
