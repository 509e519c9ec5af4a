# SPDX-License-Identifier: Apache-2.0
"""Programming latency: from the write, as far as it came in time, and only where the proxy can be told to wait."""

import pytest

from clusters.measure.whom import Came
from plugins.scale.programming import dialled_every, programmed
from plugins.scale.waits import Waits


def test_times_count_from_the_write() -> None:
    came = [Came(True, 12.5, 9, 1), Came(True, 9.5, 40, 0), Came(False, 0.0, 0, 2)]
    found = programmed(came, [12.0, 10.0, 11.0], [12.001, 10.002, 11.003], 15.0, 0.05)
    assert found.seen == Waits((0.5, 0.05), 1, 15.0), "sooner than it is dialled nobody can be seen to be gone"
    assert dialled_every(came, [12.0, 10.0, 11.0]) == 0.05
    assert dialled_every(came[1:], [10.0, 11.0]) == 0.0
    assert found.told.censored == 0
    assert found.told.percentile(0.5) == pytest.approx(0.002)
    assert found.failures == 3
