# SPDX-License-Identifier: Apache-2.0
"""How long the proxy takes from its start until all Services are in force."""

import pytest

from conformance.sources import RESTART
from plugins.requirements import requirement
from plugins.scale.starts import FROM_NOTHING, IN_PLACE, TooLongError, starts


@pytest.mark.scale
@requirement(
    "scale.cold.start",
    must="The time from the proxy's start to the first answer that only the new process can have brought about MUST "
    "be measured, from nothing and with its predecessor's rules in place.",
    level="record",
    since="1.0",
    source=RESTART,
)
def test_cold(bench, services):
    bench.at(services)

    for series in (FROM_NOTHING, IN_PLACE):
        try:
            found = starts(bench, from_nothing=series == FROM_NOTHING)
        except TooLongError as error:
            bench.leave_out("cold", series=series, unit="s", reason=str(error))
            continue
        bench.cell_of("cold", series=series, unit="s", better="less", values=[one.seconds for one in found])
        bench.cell_of("cold", series=f"CPU, {series}", unit="s", better="less", values=[one.cpu for one in found])
