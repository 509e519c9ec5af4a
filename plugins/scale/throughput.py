# SPDX-License-Identifier: Apache-2.0
"""Bytes in place of connections: iperf3's long flow, and our client's short ones."""

from clusters.measure.stage import DIRECT, DIRECT_ADDRESSES
from clusters.measure.traffic import FLOW_BYTES, Sample, Target
from plugins.scale import iperf as tool
from plugins.scale.bench import Bench

DIRECT_PORT = 9100


def bits(sample: Sample) -> float:
    """Per second, of flows."""
    return sample.rate * FLOW_BYTES * 8


def iperf(bench: Bench, target: Target) -> float:
    """Bits per second of one flow from the client pod, with iperf3 on both ends. Raises UnfitError without it."""
    bench.serve_nothing()
    cpu = bench.stage.traffic.cpu
    with tool.server(bench.endpoints, cpu):
        return tool.bits_per_second(bench.client, cpu, target)


def direct_iperf(bench: Bench) -> float:
    """The same over the direct pair."""
    cpu, client, server = bench.stage.traffic.cpu, *map(bench.stage.namespace, DIRECT)
    with tool.server(server, cpu, DIRECT_PORT):
        return tool.bits_per_second(client, cpu, (DIRECT_ADDRESSES[1], DIRECT_PORT))
