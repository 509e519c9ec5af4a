# SPDX-License-Identifier: Apache-2.0
"""What traffic feels of a proxy at work: on the same CPU, and on another."""

import pytest

from conformance.sources import RESYNC
from plugins.requirements import requirement
from plugins.scale.jitter import SAME_CPU, TOLD, at_work, beside_spinner, keep
from plugins.scale.obligations import must_be_felt, must_hardly_be_felt
from plugins.scale.verdicts import only_mode


@pytest.mark.scale(at="most")
@requirement(
    "scale.jitter.resync",
    must="Requests and new connections MUST be measured in bins of 100 ms while a Service changes every second, with "
    "the proxy on the traffic's CPU and on another one.",
    level="record",
    since="1.0",
    source=RESYNC,
)
def test_jitter(bench, services):
    bench.at(services)

    for kind in TOLD:
        for where, found in at_work(bench, kind).items():
            keep(bench, kind, where, found)


@pytest.mark.scale(at="fewest")
@requirement(
    "scale.control.jitter-shows",
    must="Requests beside somebody who wants the same CPU MUST be measured as fewer: a measurement that does not "
    "show it shows no jitter.",
    level="extended",
    since="1.0",
    source=RESYNC,
)
def test_jitter_shows(bench, services):
    bench.at(services)

    must_be_felt(bench, beside_spinner(bench))


@pytest.mark.scale
@requirement(
    "scale.reference.resync-is-hardly-felt",
    should="With the reference datapath on the traffic's own CPU, no connection SHOULD fail and none SHOULD take "
    "more than 50 ms while Services change.",
    level="extended",
    since="1.0",
    source=RESYNC,
)
def test_resync_is_hardly_felt(bench, measured):
    only_mode(bench.run.proxy.mode, "ebpf")

    must_hardly_be_felt(measured, SAME_CPU)
