# SPDX-License-Identifier: Apache-2.0
"""Bytes in place of connections: iperf3's long flow, and our client's short ones."""

from collections.abc import Iterator
from contextlib import contextmanager

from clusters.measure.stage import DIRECT, DIRECT_ADDRESSES
from clusters.measure.traffic import FLOW_BYTES, Sample, Target
from plugins.scale import iperf as tool
from plugins.scale.bench import Bench

DIRECT_PORT = 9100


def bits(sample: Sample) -> float:
    """Per second, of flows."""
    return sample.rate * FLOW_BYTES * 8


@contextmanager
def iperf_at_endpoints(bench: Bench) -> Iterator[None]:
    """Its server at all endpoints, and at the far end of the direct pair. Raises UnfitError where there is none."""
    tool.program()
    bench.serve_nothing()
    cpu = bench.stage.traffic.cpu
    direct = bench.stage.namespace(DIRECT[1])
    with tool.server(bench.endpoints, cpu), tool.server(direct, cpu, DIRECT_PORT):
        yield


def iperf(bench: Bench, target: Target) -> float:
    """Bits per second of one flow from the client pod."""
    return tool.bits_per_second(bench.client, bench.stage.traffic.cpu, target)


def direct_iperf(bench: Bench) -> float:
    """The same over the direct pair."""
    target = (DIRECT_ADDRESSES[1], DIRECT_PORT)
    return tool.bits_per_second(bench.stage.namespace(DIRECT[0]), bench.stage.traffic.cpu, target)
