# SPDX-License-Identifier: Apache-2.0
"""Whether Services answer from their own endpoints when there are many, before and after many have changed."""

import pytest

from conformance.sources import VIRTUAL_IPS
from plugins.requirements import requirement
from plugins.scale.correctness import before_and_after_churn, keep
from plugins.scale.obligations import must_be_right


@pytest.mark.scale(at="apart")
@requirement(
    "scale.correctness.own-endpoints",
    must="With many Services, each MUST answer from its own endpoints, before and after many have got others.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
)
def test_own_endpoints(bench, services):
    bench.at(services)

    found = before_and_after_churn(bench)
    keep(bench, found)

    must_be_right(found)
