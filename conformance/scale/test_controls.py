# SPDX-License-Identifier: Apache-2.0
"""What must bend, what must not, and what measuring may cost: without these a flat line proves nothing."""

import pytest

from conformance.sources import FIRST_PACKET
from plugins.requirements import requirement
from plugins.scale.verdicts import must_bend, must_cost_little, must_stay_flat


@pytest.mark.scale
@requirement(
    "scale.control.iptables-bends",
    must="Connections to the last Service MUST take longer with mode iptables the more Services there are: a "
    "measurement that does not show it shows nothing.",
    level="extended",
    since="1.2",
    source=FIRST_PACKET,
)
def test_iptables_bends(bench, measured):
    must_bend(measured, mode=bench.run.proxy.mode)


@pytest.mark.scale
@requirement(
    "scale.control.limit-is-flat",
    must="The direct path, on which there is no Service, MUST NOT change with their number.",
    level="extended",
    since="1.0",
    source=FIRST_PACKET,
)
def test_limit_is_flat(measured):
    must_stay_flat(measured)


@pytest.mark.scale
@requirement(
    "scale.control.client-is-cheap",
    must="What the measuring client itself takes MUST be less than 5 % of what it measures.",
    level="extended",
    since="1.0",
    source=FIRST_PACKET,
)
def test_client_is_cheap(bench, measured):
    must_cost_little(measured, hermetic=bench.settings.guest is not None)
