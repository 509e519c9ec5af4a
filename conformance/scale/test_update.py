# SPDX-License-Identifier: Apache-2.0
"""How long a change of one Service takes until clients see it, as Services grow."""

import pytest

from conformance.sources import PROGRAMMING_LATENCY
from plugins.requirements import requirement
from plugins.scale.limits import REPEATS
from plugins.scale.rules import BARE, tool
from plugins.scale.updates import changes


@pytest.mark.scale
@requirement(
    "scale.update.latency",
    must="The time from an API write that adds, modifies or removes one Service to the first answer that shows it "
    "MUST be measured.",
    level="record",
    since="1.0",
    source=PROGRAMMING_LATENCY,
)
def test_update(bench, services):
    bench.at(services)

    for series, found in changes(bench).items():
        bench.cell_of(
            "update",
            series=series,
            unit="s",
            better="less",
            values=[change.seen for change in found],
            limits=[change.told for change in found],
            limited_by="the write's own event",
        )


@pytest.mark.scale
@requirement(
    "scale.update.bare-rule",
    must="The time that the dataplane's own tool takes to add and delete one rule MUST be measured.",
    level="record",
    since="1.0",
    source=PROGRAMMING_LATENCY,
)
def test_bare_rule(bench, services):
    bench.at(services)

    with tool(bench) as own:
        pairs = [(own.change(), own.nothing()) for _ in range(REPEATS)]
    bench.cell_of(
        "update",
        series=BARE,
        unit="s",
        better="less",
        values=[change for change, _ in pairs],
        limits=[nothing for _, nothing in pairs],
        limited_by=own.nothing_is,
    )
