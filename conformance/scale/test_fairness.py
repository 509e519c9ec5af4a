# SPDX-License-Identifier: Apache-2.0
"""Whether one of many Services is fair to its endpoints."""

import pytest

from conformance.sources import VIRTUAL_IPS
from plugins.requirements import requirement
from plugins.scale.fairness import ENDPOINTS, REPEATS, keep, number_of_last, sample, twice_the_first
from plugins.scale.more import endpoints, pointed
from plugins.scale.obligations import must_be_fair, must_be_unfair


@pytest.mark.scale(at="most")
@requirement(
    "scale.fairness.equal-shares",
    must="With the most Services, each endpoint of one of them MUST get an equal share of new connections, but for "
    "chance.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
)
def test_equal_shares(bench, services):
    bench.at(services)
    ten, number = endpoints(bench, 0, ENDPOINTS), number_of_last(bench)

    with pointed(bench, {number: ten}):
        found = [sample(bench, number, ten) for _ in range(REPEATS)]
    keep(bench, "largest share", found)

    must_be_fair(found)


@pytest.mark.scale(at="fewest")
@requirement(
    "scale.control.fairness-shows",
    must="An endpoint that has two addresses, and so twice each other's share, MUST be noticed: a check that does "
    "not notice it shows no fairness.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
)
def test_fairness_shows(bench, services):
    bench.at(services)
    eleven, number = endpoints(bench, 0, ENDPOINTS + 1), number_of_last(bench)

    with pointed(bench, {number: eleven}):
        found = sample(bench, number, eleven, twice_the_first(eleven))

    must_be_unfair(bench, found)
