# SPDX-License-Identifier: Apache-2.0
"""What Services take of memory, in the proxy and in the kernel."""

import pytest

from conformance.sources import KEEPALIVE
from plugins.requirements import requirement
from plugins.scale import memory


@pytest.mark.scale
@requirement(
    "scale.memory.footprint",
    must="The memory of the proxy, of its BPF maps and of the kernel MUST be measured.",
    level="record",
    since="1.0",
    source=KEEPALIVE,
)
def test_memory(bench, services):
    bench.at(services)

    for series, of in memory.SERIES.items():
        bench.cell_of("memory", series=series, unit="B", better="less", values=[float(of(bench))])
