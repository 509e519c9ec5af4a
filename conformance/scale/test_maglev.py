# SPDX-License-Identifier: Apache-2.0
"""How many connections move to another endpoint when one goes, with Maglev hashing."""

import pytest

from conformance.sources import MAGLEV
from plugins.requirements import requirement
from plugins.scale.maglev import ENDPOINTS, FEATURE, disrupt, keep
from plugins.scale.obligations import must_move_few


@pytest.mark.scale(at="fewest")
@requirement(
    "scale.maglev.disruption",
    must="When one of many endpoints goes, Maglev hashing MUST leave the connections of all others where they are, "
    "but for 1 % with a table of 65,537 slots, 2 % with 16,381 and 6 % with 1,021.",
    level="extended",
    since="1.8",
    source=MAGLEV,
    features=[FEATURE],
)
def test_disruption(bench, services):
    bench.at(services)

    found = {count: disrupt(bench, count) for count in ENDPOINTS}
    keep(bench, found)

    must_move_few(bench.run.proxy.mode, found)
