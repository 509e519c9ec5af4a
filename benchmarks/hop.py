# SPDX-License-Identifier: Apache-2.0
"""The hop: a load balancer's IP that is announced on the node of the only endpoint, or on another one.

kube-proxy (nftables) and MetalLB on two nodes. The external client sends as fast as it can, or a byte there and back,
to the IP, and as a limit to the endpoint's own address by way of its node (A-B-A). All of it shares one CPU, what the
nodes do too, so that what a hop costs shows as a rate. A packet at a time is what a network card without offloads
makes of it: a veth pair would hand on 64 KiB in one piece.
"""

import os
import platform
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks import page
from benchmarks.rows import Beside
from clusters import binaries
from clusters.announcers.metallb import MetalLB
from clusters.api import Node
from clusters.errors import PlumblineError
from clusters.lab.topology import PodNetwork
from clusters.measure.stage import Stage, beside_limit, staged
from clusters.measure.traffic import PORT, Kind, Sample, Traffic
from clusters.proxies.kube_proxy import KubeProxy
from plugins.announcing import announced, ask
from plugins.services import Port, Service
from plugins.settle import Deadlines, Settler
from plugins.world import World

SECONDS, ROUNDS = 0.3, 3
READY_SECONDS = 60.0
NETWORKS: tuple[PodNetwork, ...] = ("routed", "vxlan")
SEGMENTS = {"64 KiB at a time": None, "a packet at a time": "1"}
GIGABIT, MICRO = 8e-9, 1e6
READING = (
    "Between virtual machines, with flannel, kube-proxy's IPVS and MetalLB, 4 Gbit/s on the same node were once seen",
    "to become 0.6 on another (CloudyBytes, January 2024). What is left of that where all share one kernel is",
    "the work for each packet: masquerading, another node's forwarding, and a VXLAN's header.",
)
TITLE = "The hop: a load balancer's IP on its endpoint's node, and on another"


def gigabits(sample: Sample) -> float:
    """Per second."""
    return sample.rate * GIGABIT


def p50(sample: Sample) -> float:
    """In microseconds."""
    return sample.p50 * MICRO


def rows(traffic: Traffic) -> Iterator[Beside]:
    """Every pod network, way of sending and place of the endpoint. Raises PlumblineError."""
    for network in NETWORKS:
        with staged(traffic, nodes=2, pod_network=network) as stage, ExitStack() as stack:
            world, settler = _balanced(stage, stack)
            service = announced(world, ports=[Port(PORT, PORT, "TCP")], endpoints=world.backends(1))
            leader = _leader(world, settler, service)
            other = next(node for node in stage.lab.nodes if node is not leader)
            _shortest_ways(stage)
            for name, segments in SEGMENTS.items():
                if segments:
                    _in_client(stage, "ip", "link", "set", "eth0", "gso_max_segs", segments)
                yield from _cells(stage, settler, service, leader, other, f"pods {network}, {name}")
            # A byte fits into any packet.
            yield from _cells(stage, settler, service, leader, other, f"pods {network}", "request")


def _cells(
    stage: Stage, settler: Settler, service: Service, leader: Node, other: Node, what: str, kind: Kind = "bulk"
) -> Iterator[Beside]:
    value, unit = (gigabits, "Gbit/s") if kind == "bulk" else (p50, "µs")
    told = "one connection" if kind == "bulk" else "a byte there and back, p50"
    same = 0.0
    for place, node in (("the same node", leader), ("another node", other)):
        pod = node.backends[0]
        service.set_endpoints([pod])
        if not settler.settle("ordered", dict).done:
            raise PlumblineError("kube-proxy does not follow")
        with stage.traffic.server_for(stage.namespace(pod.name), kind):
            measured, limit = beside_limit(
                lambda: _run(stage, kind, service.ingress[0]["ip"]),
                lambda pod=pod: _run(stage, kind, pod.addresses["IPv4"]),  # type: ignore[misc]
                value,
                ROUNDS,
            )
        median = statistics.median(Beside("", "", measured, limit, "").ratios)
        note = f"{median / same:.2f} of the same node" if same else ""
        same = same or median
        yield Beside(
            f"{told}, {what}, endpoint on {place}", unit, measured, limit, "the endpoint's own address", note=note
        )


def _run(stage: Stage, kind: Kind, address: str) -> Sample:
    return stage.traffic.measure(stage.namespace(stage.lab.plan.client.name), kind, [(address, PORT)], SECONDS)


def _balanced(stage: Stage, stack: ExitStack) -> tuple[World, Settler]:
    """kube-proxy and MetalLB on every node, and the world in which Services are made."""
    lab = stage.lab
    found, speaker = binaries.find("kube-proxy"), binaries.find("metallb-speaker")
    proxy = KubeProxy(lab, binary=found.path, version=found.version, mode="nftables")
    settler = Settler(lab, proxy, Deadlines(settle=READY_SECONDS), ("IPv4",))
    settler.create_sentinel()
    stack.callback(proxy.stop)
    proxy.start()
    if not settler.ready(READY_SECONDS).done:
        raise PlumblineError(f"kube-proxy did not become ready within {READY_SECONDS:g} s")
    announcer = MetalLB(
        lab,
        lab.kube,
        binary=speaker.path,
        version=speaker.version,
        ranges=lab.announced_cidrs,
        ready_deadline=READY_SECONDS,
    )
    stack.callback(announcer.stop)
    announcer.start()
    world = World(lab, settler, families=("IPv4",), probe_timeout=2.0, after_settling=lambda: None)
    world.announcer = announcer
    return world, settler


def _leader(world: World, settler: Settler, service: Service) -> Node:
    """The node that alone answers for the Service's IP. Raises PlumblineError where none does."""
    end = settler.clock.now() + READY_SECONDS
    while (answers := ask(world, [service])).wrong():
        if settler.clock.now() > end:
            raise PlumblineError(f"nobody leads for {service.ingress[0]['ip']}: {answers.wrong()}")
    (name,) = answers.leaders.values()
    return next(node for node in world.nodes if node.name == name)


def _shortest_ways(stage: Stage) -> None:
    """The client knows at which node each pod is, as its router would."""
    for node in stage.lab.plan.nodes:
        _in_client(stage, "ip", "route", "replace", node.pod_cidr4, "via", node.host.ipv4)


def _in_client(stage: Stage, *command: str) -> None:
    done = stage.lab.supervisor.run(command, netns=stage.lab.plan.client.name)
    if done.status != 0:
        raise PlumblineError(f"{' '.join(command)} failed outside: {done.err.strip()}")


def main() -> int:
    """0 whatever the numbers are; 3 where there are none."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{os.cpu_count()} CPUs, kernel {platform.release()}, load {load}\n")
    print(*Beside.HEADER, sep="\n")
    lines: list[str] = []
    try:
        with Traffic() as traffic:
            for row in rows(traffic):
                lines.append(row.as_markdown())
                print(lines[-1], flush=True)
    except PlumblineError as error:
        print(f"the hop could not be measured: {error}", file=sys.stderr)
        return 3
    versions = [f"{name} {binaries.find(name).version}" for name in ("kube-proxy", "metallb-speaker")]
    page.write(TITLE, "make hop", page.machine(versions), [*Beside.HEADER, *lines, "", *READING])
    return 0


if __name__ == "__main__":
    sys.exit(main())
