# SPDX-License-Identifier: Apache-2.0
"""How long the proxy takes from its start until all Services are in force."""

import pytest

from conformance.sources import RESTART
from plugins.requirements import requirement
from plugins.scale.starts import FROM_NOTHING, IN_PLACE, keep


@pytest.mark.scale(at="apart", turn=1)
@requirement(
    "scale.cold.start",
    must="The time from the proxy's start, with nothing in the kernel, to the first answer that only the new process "
    "can have brought about MUST be measured.",
    level="record",
    since="1.0",
    source=RESTART,
)
def test_start(bench, services):
    bench.at(services, None)

    keep(bench, FROM_NOTHING)


@pytest.mark.scale(turn=3)
@requirement(
    "scale.cold.restart",
    must="The time from the proxy's start, with its predecessor's rules in place, to the first answer that only the "
    "new process can have brought about MUST be measured.",
    level="record",
    since="1.0",
    source=RESTART,
)
def test_restart(bench, services):
    bench.at(services, None)

    keep(bench, IN_PLACE)
