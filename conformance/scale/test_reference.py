# SPDX-License-Identifier: Apache-2.0
"""What the reference datapath promises of itself."""

import pytest

from conformance.sources import FIRST_PACKET
from plugins.requirements import requirement
from plugins.scale.verdicts import must_be_near_the_limit, must_not_grow, only_mode


@pytest.mark.scale
@requirement(
    "scale.reference.connect-is-flat",
    should="With the reference datapath, connections to the last of many Services SHOULD take no more than 1.10 "
    "times as long as to the only one.",
    level="extended",
    since="1.0",
    source=FIRST_PACKET,
)
def test_connect_is_flat(bench, measured):
    only_mode(bench.run.proxy.mode, "ebpf")

    must_not_grow(measured, "first-packet", "last Service", most=1.10)


@pytest.mark.scale
@requirement(
    "scale.reference.request-is-near-the-limit",
    should="With the reference datapath, a request on a connection that is kept SHOULD take no more than 1.15 times "
    "as long as without any Service.",
    level="extended",
    since="1.0",
    source=FIRST_PACKET,
)
def test_request_is_near_the_limit(bench, measured):
    only_mode(bench.run.proxy.mode, "ebpf")

    must_be_near_the_limit(measured, "keepalive", "one connection", most=1.15)
