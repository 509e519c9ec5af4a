# SPDX-License-Identifier: Apache-2.0
"""How long the first packet of a connection takes, as Services grow: a SYN and its answer."""

import pytest

from conformance.sources import FIRST_PACKET
from plugins.requirements import requirement
from plugins.scale.bench import DIRECT_VETH

BESIDE = {"unit": "s", "better": "less", "limited_by": DIRECT_VETH}


@pytest.mark.scale
@requirement(
    "scale.first-packet.latency",
    must="The latency of a connection's first packet MUST be measured for the first Service, the last one, and all.",
    level="record",
    since="1.0",
    source=FIRST_PACKET,
)
def test_first_packet(bench, services):
    bench.at(services)
    targets = {
        "last Service": bench.last_service,
        "uniform": bench.every_service,
        "first Service": bench.first_service,
    }

    for series, chosen in targets.items():
        target = chosen()
        bench.cell(
            "first-packet",
            series=series,
            measured=lambda target=target: bench.connect(target),
            limit=bench.direct("connect"),
            **BESIDE,
        )
