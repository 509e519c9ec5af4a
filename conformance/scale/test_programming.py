# SPDX-License-Identifier: Apache-2.0
"""How long a change of endpoints takes until clients see it, with the proxy's own default of when it syncs."""

import pytest

from conformance.sources import PROGRAMMING_LATENCY
from plugins.requirements import requirement
from plugins.scale.programming import ADDED, RATE, REMOVED, programming
from plugins.scale.starts import TooLongError, at_as_shipped
from plugins.scale.waits import keep


@pytest.mark.scale(at="ends", turn=2)
@requirement(
    "scale.programming.latency",
    must=f"With the proxy's default sync and {RATE} changes a second, the time from an API write to the first "
    "connection to an added endpoint, and to the last one to a removed endpoint, MUST be measured.",
    level="record",
    since="1.0",
    source=PROGRAMMING_LATENCY,
)
def test_programming(bench, services):
    try:
        at_as_shipped(bench, services)
    except TooLongError as error:
        for kind in (ADDED, REMOVED):
            bench.leave_out("programming", series=kind, unit="s", reason=str(error))
        return

    for kind, found in programming(bench).items():
        keep(
            bench,
            "programming",
            kind,
            found.seen,
            found.told,
            "the write's own event",
            failures=found.failures,
        )
