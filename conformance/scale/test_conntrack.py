# SPDX-License-Identifier: Apache-2.0
"""New connections where the table of connections is half full, or full."""

import pytest

from conformance.sources import FULL_TABLE
from plugins.requirements import requirement
from plugins.scale.bench import DIRECT_VETH
from plugins.scale.conntrack import PACE, REPEATS, filled, table_of, ways


# Last, because what has been in a table is given back late.
@pytest.mark.scale(at="fewest", turn=4)
@requirement(
    "scale.conntrack.full",
    must="The rate and the failures of new connections MUST be measured with an empty table of connections, "
    "a half full one, and a full one.",
    level="record",
    since="1.0",
    source=FULL_TABLE,
)
def test_full(bench, services):
    bench.at(services)
    table, last = table_of(bench), bench.last_service()

    for how in ways(bench):
        with filled(table, how) as entries:
            bench.cell(
                "conntrack",
                series=f"table {how}",
                unit="1/s",
                better="more",
                measured=lambda: bench.measure("rate", last, pace=PACE),
                limit=bench.direct("rate"),
                limited_by=DIRECT_VETH,
                repeats=REPEATS,
                note=f"{entries:,} of {table.capacity:,} entries",
            )
