# SPDX-License-Identifier: Apache-2.0
"""What the runs of the client for one cell have come to."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from clusters.measure.traffic import Sample

VALUES: Mapping[str, Callable[[Sample], float]] = {"s": lambda sample: sample.p50, "1/s": lambda sample: sample.rate}


@dataclass(slots=True)
class Taken:
    """What the repeats of a cell came to, beside their values."""

    value: Callable[[Sample], float]
    samples: list[Sample] = field(default_factory=list)

    def of(self, found: Sample | float) -> float:
        if isinstance(found, Sample):
            self.samples.append(found)
        return self.limit_of(found)

    def limit_of(self, found: Sample | float) -> float:
        return self.value(found) if isinstance(found, Sample) else found

    @property
    def failures(self) -> int:
        return sum(one.failures for one in self.samples)

    def percentiles(self) -> dict[str, float]:
        """The median repeat's, and of all the worst."""
        if not self.samples or not any(one.p50 for one in self.samples):
            return {}
        found = {
            name: statistics.median(getattr(one, name) for one in self.samples)
            for name in ("p01", "p50", "p90", "p99")
        }
        return {**found, "worst": max(one.worst for one in self.samples)}
