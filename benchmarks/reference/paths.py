# SPDX-License-Identifier: Apache-2.0
"""What a VIP costs beside a cable: one Service and a hundred thousand, the same node and another."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

from benchmarks.reference.filled import filled, vips
from benchmarks.rows import Beside
from clusters.measure.stage import SECONDS, Stage, beside_limit, staged
from clusters.measure.traffic import PORT, Kind, Sample, Target, Traffic

SERVICES, EACH = 100_000, 10
DIALLED = 1_000
DENSE = 16_000
MICRO = 1e6
RATE_GOAL, REQUEST_GOAL, GROWTH_GOAL = 0.90, 1.15, 1.10


def p50(sample: Sample) -> float:
    """In microseconds."""
    return sample.p50 * MICRO


def connections(sample: Sample) -> float:
    """Per second."""
    return sample.rate


VALUES: Mapping[Kind, Callable[[Sample], float]] = {"connect": p50, "rate": connections, "request": p50}
OVERHEAD: Mapping[Kind, tuple[str, str, float | None]] = {
    "connect": ("connect p50", "µs", None),
    "rate": ("connection rate (connect, byte there, byte back, RST)", "/s", RATE_GOAL),
    "request": ("request latency p50 on one connection", "µs", REQUEST_GOAL),
}


def growth(traffic: Traffic) -> Iterator[Beside]:
    """Three nodes, with one Service, as many as are dialled, and all."""
    with staged(traffic, nodes=3) as stage, ExitStack() as stack:
        one, some, all_ = (node.name for node in stage.lab.nodes)
        for name, count in ((one, 1), (some, DIALLED), (all_, SERVICES)):
            endpoints = [each.addresses["IPv4"] for each in stage.lab.dense_backends(name, DENSE)]
            stack.enter_context(filled(stage, name, count, endpoints, EACH))
            stack.enter_context(traffic.server_for(stage.namespace(f"{name}.dense"), "connect"))
        single, many = vips(SERVICES)[DIALLED // 2], vips(DIALLED)
        measured, limit = beside_limit(
            _run(stage, all_, "connect", [single]), _run(stage, one, "connect", vips(1)), p50
        )
        what = f"connect p50 through a ClusterIP of {EACH} endpoints, {SERVICES:,} Services in the maps"
        yield Beside(what, "µs", measured, limit, "1 Service", GROWTH_GOAL)
        measured, limit = beside_limit(_run(stage, all_, "connect", many), _run(stage, some, "connect", many), p50)
        what = f"the same, {DIALLED:,} ClusterIPs dialled at random"
        yield Beside(what, "µs", measured, limit, f"{DIALLED:,} Services, all dialled", GROWTH_GOAL)


def overhead(traffic: Traffic) -> Iterator[Beside]:
    """Pods of one node, then of two, beside the direct pair; and the same pods without a VIP or a datapath."""
    with staged(traffic, nodes=2) as stage:
        client = stage.lab.nodes[0].name
        for server in stage.lab.nodes:
            pod = server.backends[0]
            for kind in VALUES:
                with traffic.server_for(stage.namespace(pod.name), kind):
                    routed = _beside_direct(stage, kind, _run(stage, client, kind, [(pod.addresses["IPv4"], PORT)]))
                    with filled(stage, client, 1, [pod.addresses["IPv4"]], 1):
                        measured, limit = _beside_direct(stage, kind, _run(stage, client, kind, vips(1)))
                ratio = statistics.median(Beside("", "", *routed, "").ratios)
                what, unit, goal = OVERHEAD[kind]
                is_same = server.name == client
                yield Beside(
                    f"{what} through a ClusterIP, {'the same node' if is_same else 'another node'}",
                    unit,
                    measured,
                    limit,
                    "direct veth",
                    goal if is_same else None,
                    "more" if kind == "rate" else "less",
                    note=f"by the pod's own address, without a datapath: {ratio:.2f}",
                )


def _run(stage: Stage, node: str, kind: Kind, targets: list[Target]) -> Callable[[], Sample]:
    """A run of the client in the node's client pod."""
    namespace = stage.namespace(stage.node(node).client.name)
    return lambda: stage.traffic.measure(namespace, kind, targets, SECONDS)


def _beside_direct(stage: Stage, kind: Kind, measured: Callable[[], Sample]) -> tuple[list[float], list[float]]:
    return beside_limit(measured, lambda: stage.direct(kind), VALUES[kind])
