# SPDX-License-Identifier: Apache-2.0
"""Load while other Services come and go."""

import pytest

from conformance.sources import VIRTUAL_IPS
from plugins.load.order import REQUESTS
from plugins.load.results import must_have_answered
from plugins.requirements import requirement
from plugins.world import UnfitError

A_SECOND = 100


@pytest.mark.load
@requirement(
    "load.churn.others",
    must="Every request to a Service MUST be answered while a hundred other Services are added and removed "
    "each second.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
)
def test_other_services_come_and_go(load):
    pods = load.pods(3)

    with load.churn(A_SECOND) as others, load.on(pods) as traffic:
        others.go_on(traffic)

    load.note(services_added=others.added, services_removed=others.removed, services_per_second=round(others.rate))
    must_have_answered(traffic.result.only(REQUESTS), "while other Services came and went")
    if others.rate < A_SECOND * 0.8:
        raise UnfitError(f"beside the load no more than {others.rate:.0f} Services could be added in a second")
