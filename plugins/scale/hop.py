# SPDX-License-Identifier: Apache-2.0
"""The hop: an endpoint on the client's own node, or on another one, through a Service; two nodes, two pod networks.

The limit is the endpoint's own address on the same network: what is left is the Service's. One packet at a time is
what a network card without offloads makes of it; a veth pair would hand on 64 KiB in one piece.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from clusters.api import Backend
from clusters.errors import PlumblineError
from clusters.lab.topology import PodNetwork
from clusters.measure.stage import run
from clusters.measure.traffic import PORT, Kind, Sample, Target
from plugins.scale import more
from plugins.scale.bench import Bench
from plugins.scale.cells import Better, Unit
from plugins.scale.start import opened

NETWORKS: tuple[PodNetwork, ...] = ("routed", "vxlan")
OWN_ADDRESS = "the endpoint's own address"
REPEATS = 3
BULK_SECONDS = 0.15
"""At least: a long flow takes its time to be one."""
SAME, OTHER = "same node", "other node"
NUMBER = 0
ALL_SEGMENTS = 65_535
BITS = 8


@dataclass(frozen=True, slots=True)
class Way:
    """One thing that is measured: its name, what the client does, its unit, and whether a packet goes at a time."""

    name: str
    kind: Kind
    unit: Unit
    better: Better
    single_packets: bool = False

    def value(self, sample: Sample) -> float:
        """What counts of a run."""
        if self.kind == "bulk":
            return sample.rate * BITS
        return sample.p50 if self.unit == "s" else sample.rate


WAYS = (
    Way("request", "request", "s", "less"),
    Way("connections", "rate", "1/s", "more"),
    Way("bulk, offloads on", "bulk", "bit/s", "more"),
    Way("bulk, offloads off", "bulk", "bit/s", "more", single_packets=True),
)


@dataclass(slots=True)
class Hop:
    """A lab with two nodes, the proxy on both, and one Service."""

    other: Bench

    @property
    def places(self) -> Mapping[str, Backend]:
        """Where the only endpoint can be."""
        near, far = self.other.lab.nodes
        return {SAME: near.backends[0], OTHER: far.backends[0]}

    @contextmanager
    def served_by(self, pod: Backend, kind: Kind) -> Iterator[None]:
        """The Service's only endpoint is this pod, which serves this kind of client."""
        stage = self.other.stage
        with stage.traffic.server_for(stage.namespace(pod.name), kind):
            yield

    def point(self, pod: Backend) -> None:
        """Make it the only endpoint, and wait until that is in force. Raises PlumblineError."""
        more.point(self.other, {NUMBER: [pod.addresses["IPv4"]]})
        settled = self.other.run.settler.settle(None, dict)
        if not settled.done:
            raise PlumblineError(f"with two nodes the proxy does not follow: {', '.join(settled.missing)}")

    def measure(self, target: Target, kind: Kind) -> Sample:
        """One run of the client pod on the first node."""
        seconds = max(self.other.share, BULK_SECONDS) if kind == "bulk" else self.other.share
        return self.other.stage.traffic.measure(self.other.client, kind, [target], seconds)

    def through_service(self, kind: Kind) -> Sample:
        return self.measure(self.other.service(NUMBER), kind)

    def to(self, pod: Backend, kind: Kind) -> Sample:
        return self.measure((pod.addresses["IPv4"], PORT), kind)

    @contextmanager
    def segments(self, *, single_packets: bool) -> Iterator[None]:
        """Whether what the client sends leaves it in packets, or in pieces of up to 64 KiB."""
        lab, name = self.other.lab, self.other.node.client.name
        change = ("ip", "link", "set", "eth0", "gso_max_segs")
        if single_packets:
            run(lab, *change, "1", netns=name)
        try:
            yield
        finally:
            if single_packets:
                run(lab, *change, str(ALL_SEGMENTS), netns=name)


@contextmanager
def two_nodes(bench: Bench, network: PodNetwork) -> Iterator[Hop]:
    """Beside the bench's lab another one. Raises UnfitError, PlumblineError."""
    with opened(
        bench.settings,
        bench.run.hook,
        bench.keep,
        worker=f"hop-{network}",
        nodes=2,
        pod_network=network,
        watched_pids=bench.run.watched_pids,
        traffic=bench.stage.traffic,
    ) as other:
        other.write(NUMBER, NUMBER + 1)
        yield Hop(other)


def measure(bench: Bench, hop: Hop, network: PodNetwork) -> None:
    """Keep a cell for each place and each way; what stays on a node does not know what is between nodes."""
    for place, pod in hop.places.items():
        if place == SAME and network != NETWORKS[0]:
            continue
        hop.point(pod)
        for way in WAYS:
            with hop.served_by(pod, way.kind), hop.segments(single_packets=way.single_packets):
                bench.cell(
                    "hop",
                    series=f"{way.name}, {place}" if place == SAME else f"{way.name}, {network}, {place}",
                    unit=way.unit,
                    better=way.better,
                    measured=lambda way=way: hop.through_service(way.kind),  # type: ignore[misc]
                    limit=lambda way=way, pod=pod: hop.to(pod, way.kind),  # type: ignore[misc]
                    limited_by=OWN_ADDRESS,
                    value=way.value,
                    repeats=REPEATS,
                )
