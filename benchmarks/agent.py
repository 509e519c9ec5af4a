# SPDX-License-Identifier: Apache-2.0
"""New connections per second that one agent process opens through a VIP, beside those it opens directly."""

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.lab import lab_of, with_kube_proxy
from benchmarks.rows import Row
from clusters.agent.client import ProbeRequest
from clusters.errors import PlumblineError
from clusters.lab.provider import Lab
from clusters.observation import Address, FlowOutcome
from plugins.world import World

CONNECTIONS = 20_000
# More in flight costs more than it hides: the agent, the backends and the kernel share two cores.
CONCURRENCY = 64
ROUNDS = 3


def new_connections() -> Sequence[Row]:
    """Direct, through the VIP, direct again, three times over (A-B-A): the direct ones show the machine's mood."""
    direct: list[float] = []
    through: list[float] = []
    with ExitStack() as stack:
        lab, _ = stack.enter_context(lab_of(2, 4))
        settler = with_kube_proxy(lab, "iptables", stack)
        world = World(lab, settler, families=("IPv4",), probe_timeout=2.0, after_settling=lambda: None)
        backend = lab.nodes[1].backends[0]
        service = world.service(endpoints=[backend])
        if not world.settle().done:
            raise PlumblineError("the Service was not programmed")
        frontend = service.cluster_ip("IPv4")
        vip, pod = Address(frontend.ip, frontend.port), Address(backend.addresses["IPv4"], 8080)
        for _ in range(ROUNDS):
            direct.append(rate(lab, pod))
            through.append(rate(lab, vip))
            direct.append(rate(lab, pod))
    note = f"direct pod to pod in the same run: {statistics.median(direct):,.0f}/s"
    return [Row("one process's new connections through a ClusterIP", "/s", through, 10_000, "more", note)]


def rate(lab: Lab, target: Address) -> float:
    """TCP connections opened, used once and closed, per second. Raises PlumblineError if any fails."""
    client = lab.nodes[0].client
    request = ProbeRequest(client.name, client.place, client.node, "benchmark", "TCP", target)
    started = time.perf_counter()
    seen = lab.probe([request] * CONNECTIONS, concurrency=CONCURRENCY)
    seconds = time.perf_counter() - started
    failed = sum(one.outcome is not FlowOutcome.REPLY for one in seen)
    if failed:
        raise PlumblineError(f"{failed} of {CONNECTIONS} connections to {target} failed")
    return CONNECTIONS / seconds
