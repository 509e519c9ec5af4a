# SPDX-License-Identifier: Apache-2.0
"""A cluster's state in the maps of one node, as the controller's own code writes it, and flows asked of that node."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from msgspec import Raw

from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.netlink import Interface, Interfaces
from dataplane_ref.controller.packed import address as packed
from dataplane_ref.controller.resources import NODES, SERVICES, SLICES, watched
from dataplane_ref.controller.settings import Settings
from dataplane_ref.controller.state import NodeDatapath
from dataplane_ref.controller.watch import Resource
from dataplane_ref.model import ClusterState, Endpoint, Flow, FromNode, FromOutside, FromPod, NodeView, ProxyConfig
from dataplane_ref.model.addresses import family_of, of_family
from tests.datapath.bench import Bench, Sent, text_of
from tests.datapath.network import PODS, UPLINK
from tests.datapath.packets import internet_bytes, transport_bytes

TABLES = ("flows", "affinities", "fragments", "frontends", "source_ranges", "pod_ranges", "addresses", "devices")
LOOPBACK = "lo"
NO_ENDPOINT = 0xFFFFFFFF


@dataclass(frozen=True)
class Decision:
    """What the datapath decided: the fields of struct verdict by name, and who was in the set that it chose from."""

    outcome: str
    endpoint: Endpoint | None
    allowed: frozenset[Endpoint]
    client: str
    kind: int
    reason: str
    by_affinity: bool
    service_port: int


@dataclass(frozen=True)
class Meeting:
    """How a flow's packets meet a node: their source, by which interface, and whether a process of it sends them."""

    source: str
    by: str
    out: bool


@dataclass
class Compiled:
    """One node's controller and its maps. `problems` is what the controller said."""

    bench: Bench
    view: NodeView
    config: ProxyConfig
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in TABLES:
            self.bench.empty(name)
        codec = Codec(self.bench.object)
        settings = Settings(
            self.view.name,
            cluster_cidrs=self.config.cluster_cidrs,
            node_port_addresses=self.config.node_port_addresses or (),
            localhost_node_ports=bool(self.config.localhost_node_ports),
            masquerade_all=self.config.masquerade_all,
            detect_local=self.config.detect_local,
            bridge_interface=PODS,
            interface_name_prefix=PODS[:3],
            straight=False,
            more_flags=("RECORD_VERDICTS",),
        )
        self.datapath = NodeDatapath(self.bench.loaded.maps, codec, settings, self.problems.append)
        self.resources: dict[str, Resource] = {one.name: one for one in watched(self.view.name)}
        numbers = self.bench.interfaces
        links = {
            numbers[LOOPBACK]: Interface(numbers[LOOPBACK], LOOPBACK, 772, is_loopback=True),
            numbers[UPLINK]: Interface(numbers[UPLINK], UPLINK, 1),
            numbers[PODS]: Interface(numbers[PODS], PODS, 1, "veth", has_far_peer=True),
        }
        own = frozenset((numbers[UPLINK], packed(each)) for each in self.view.addresses)
        self.datapath.see(Interfaces(links, own))
        self.tell(NODES, [_node(self.view)])

    def tell(self, resource: str, objects: Iterable[Mapping[str, Any]]) -> None:
        """Objects that came or changed, as the API would send them."""
        for one in objects:
            converted = self.resources[resource].convert(Raw(orjson.dumps(one)))
            if converted is not None:
                self.datapath.change(resource, *converted)

    def gone(self, resource: str, one: Mapping[str, Any]) -> None:
        self.datapath.change(resource, (one["metadata"]["namespace"], one["metadata"]["name"]), None)

    def show(self, state: ClusterState) -> None:
        """Bring the maps to a state; there was none before."""
        self.tell(SERVICES, state.services)
        self.tell(SLICES, state.endpoint_slices)
        self.datapath.program()

    def only_decide(self, value: bool) -> None:
        """Whether packets are only decided about, or acted upon."""
        layout = self.bench.object.layouts["config"]
        maps, flag = self.bench.loaded.maps, self.bench.flags("config_flag", "ONLY_DECIDE")
        config = bytearray(maps["config"].get(bytes(4)) or b"")
        at = layout.fields["flags"].offset
        flags = int.from_bytes(config[at : at + 4], "little") & ~flag | (flag if value else 0)
        config[at : at + 4] = flags.to_bytes(4, "little")
        maps["config"].put(bytes(4), bytes(config))

    def meet(self, state: ClusterState, flow: Flow) -> Meeting | None:
        """How the flow's packets meet this node; None where such a client has no address of the family."""
        entry, family = flow.entry, family_of(flow.dst)
        here = not isinstance(entry, FromOutside) and entry.node == self.view.name
        if isinstance(entry, FromNode):
            owner = state.node(entry.node)
            owned = owner.addresses_of(family)
            if not here:
                return Meeting(owned[0], UPLINK, False) if owned else None
            if flow.to_loopback:
                return Meeting(flow.dst, LOOPBACK, True)
            if flow.dst in owner.addresses:
                return Meeting(flow.dst, LOOPBACK, True)
            return Meeting(owned[0], UPLINK, True) if owned else None
        addresses = of_family(entry.addresses, family)
        if not addresses:
            return None
        return Meeting(addresses[0], PODS if here and isinstance(entry, FromPod) else UPLINK, False)

    def send(self, meeting: Meeting, flow: Flow, sport: int, *, flags: str = "S") -> Sent:
        """A packet of the flow's client."""
        part = transport_bytes(flow.protocol, meeting.source, flow.dst, sport, flow.port, flags)
        data = internet_bytes(meeting.source, flow.dst, flow.protocol, part)
        return self.bench.send(data, by=meeting.by, out=meeting.out)

    @property
    def decision(self) -> Decision:
        """The last one."""
        raw = self.bench.verdict
        names = {value: name for name, value in self.bench.object.enums["counter"].items()}
        return Decision(
            outcome=raw["outcome"],
            endpoint=self.endpoint(raw["endpoint"]) if raw["endpoint"] != NO_ENDPOINT else None,
            allowed=self.members(raw["allowed"]),
            client=text_of(raw["client"]),
            kind=raw["kind"],
            reason=names[raw["reason"]] if raw["outcome"] == "DROPPED" else "",
            by_affinity=bool(raw["by_affinity"]),
            service_port=raw["service_port"],
        )

    def endpoint(self, number: int) -> Endpoint:
        """What is at a number in `endpoints`."""
        value = self.bench.loaded.maps["endpoints"].get(number.to_bytes(4, "little")) or b""
        raw = self.bench.object.layouts["endpoint"].unpack(value)
        return Endpoint(text_of(raw["address"]), raw["port"])

    def members(self, extent: Mapping[str, int]) -> frozenset[Endpoint]:
        """Who is in a set."""
        members = self.bench.loaded.maps["members"]
        places = range(extent["first"], extent["first"] + extent["count"])
        numbers = {int.from_bytes(members.get(place.to_bytes(4, "little")) or b"", "little") for place in places}
        return frozenset(self.endpoint(number) for number in numbers)


def _node(view: NodeView) -> dict[str, Any]:
    """The node as the API knows it: by its primary addresses."""
    primary = [addresses[0] for family in ("IPv4", "IPv6") if (addresses := of_family(view.addresses, family))]
    labels = {"topology.kubernetes.io/zone": view.zone} if view.zone else {}
    return {
        "metadata": {"name": view.name, "labels": labels},
        "spec": {"podCIDRs": list(view.pod_cidrs)},
        "status": {"addresses": [{"type": "InternalIP", "address": address} for address in primary]},
    }
