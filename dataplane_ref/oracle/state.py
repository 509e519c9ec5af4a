# SPDX-License-Identifier: Apache-2.0
"""A cluster's state on its way into a node's maps, by the controller's own code: what it would write on that node."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.netlink import Interfaces
from dataplane_ref.controller.objects import EndpointSlice, Metadata, Node, NodeAddress, NodeSpec, NodeStatus, Service
from dataplane_ref.controller.packed import address, family_of
from dataplane_ref.controller.program import ServiceKey
from dataplane_ref.controller.resources import NODES, SERVICES, SLICES
from dataplane_ref.controller.settings import Settings
from dataplane_ref.controller.slices import compact
from dataplane_ref.controller.state import NodeDatapath
from dataplane_ref.loader import Map
from dataplane_ref.oracle.answer import NoRoomError

JsonObject = Mapping[str, Any]
# What the datapath is told to do with its decisions: to write them down, and nothing else.
FLAGS = ("RECORD_VERDICTS", "ONLY_DECIDE", "STATELESS")
# Tables in which what is not wanted any more would still be found.
TABLES = ("frontends", "source_ranges", "pod_ranges", "addresses")
# Some interface that has the node's addresses. What a packet's own is, in `devices`, is said with every question.
INTERFACE = 2


class NodeLike(Protocol):
    """What is read of a node: every address it owns, the primary one of each family first."""

    @property
    def name(self) -> str: ...
    @property
    def addresses(self) -> tuple[str, ...]: ...
    @property
    def pod_cidrs(self) -> tuple[str, ...]: ...
    @property
    def zone(self) -> str | None: ...


class ConfigLike(Protocol):
    """What is read of the proxies' configuration; docs/architecture.md says what it means."""

    @property
    def cluster_cidrs(self) -> tuple[str, ...]: ...
    @property
    def masquerade_all(self) -> bool: ...
    @property
    def node_port_addresses(self) -> tuple[str, ...] | None: ...
    @property
    def localhost_node_ports(self) -> bool | None: ...
    @property
    def detect_local(self) -> str: ...


class StateLike(Protocol):
    """A cluster at one moment. Its objects are not changed afterwards: what changed is another object."""

    @property
    def nodes(self) -> Sequence[NodeLike]: ...
    @property
    def services(self) -> Sequence[JsonObject]: ...
    @property
    def endpoint_slices(self) -> Sequence[JsonObject]: ...
    @property
    def config(self) -> ConfigLike: ...


Objects = dict[ServiceKey, JsonObject]


class Tables:
    """Keeps the maps of one node at a state; what did not change is not written."""

    def __init__(self, node: str, maps: Mapping[str, Map], codec: Codec) -> None:
        self._node = node
        self._maps = maps
        self._codec = codec
        self._surroundings: tuple[NodeLike, ConfigLike] | None = None
        self._datapath: NodeDatapath | None = None
        self._known: dict[str, Objects] = {}

    def show(self, state: StateLike) -> None:
        """Bring the maps to a state.

        Raises LookupError for a node that it has not, ValueError for a broken object, NoRoomError for a large state.
        """
        node = next((one for one in state.nodes if one.name == self._node), None)
        if node is None:
            raise LookupError(f"there is no node {self._node!r}")
        if self._datapath is None or self._surroundings != (node, state.config):
            self._datapath = self._anew(node, state.config)
            self._surroundings = node, state.config
            self._known = {SERVICES: {}, SLICES: {}}
        for resource, objects, convert in (
            (SERVICES, state.services, self._service),
            (SLICES, state.endpoint_slices, self._slice),
        ):
            self._change(self._datapath, resource, {_key(one): one for one in objects}, convert)
        self._datapath.program()
        left_out = self._datapath.programmer.left_out
        if left_out:
            (namespace, name), why = next(iter(left_out.items()))
            raise NoRoomError(f"{why}: the oracle cannot see Service {namespace}/{name}")

    def _change(
        self, datapath: NodeDatapath, resource: str, wanted: Objects, convert: Callable[[JsonObject], object]
    ) -> None:
        known = self._known[resource]
        for key in known.keys() - wanted.keys():
            datapath.change(resource, key, None)
        for key, one in wanted.items():
            if known.get(key) is not one:
                datapath.change(resource, key, convert(one))
        self._known[resource] = wanted

    def _anew(self, node: NodeLike, config: ConfigLike) -> NodeDatapath:
        """A controller that knows the node, and maps that know nothing."""
        for name in TABLES:
            keys = list(self._maps[name].keys())
            self._maps[name].delete_many(b"".join(keys), len(keys))
        settings = Settings(
            node.name,
            cluster_cidrs=config.cluster_cidrs,
            node_port_addresses=config.node_port_addresses or (),
            localhost_node_ports=bool(config.localhost_node_ports),
            masquerade_all=config.masquerade_all,
            detect_local=config.detect_local,
            # By whichever names the interfaces go: the question says whether one leads to pods.
            bridge_interface="-",
            interface_name_prefix="-",
            more_flags=FLAGS,
        )
        datapath = NodeDatapath(self._maps, self._codec, settings, lambda _: None)
        own = [address(text) for text in node.addresses]
        datapath.see(Interfaces({}, frozenset((INTERFACE, packed) for packed in own)))
        datapath.change(NODES, node.name, _node(node))
        return datapath

    def _service(self, one: JsonObject) -> Service:
        return msgspec.convert(one, Service)

    def _slice(self, one: JsonObject) -> tuple[str, Any]:
        found = msgspec.convert(one, EndpointSlice)
        labels = found.metadata.labels
        is_ours = labels is not None and labels.service and not labels.hides
        return (labels.service or "" if labels else "", compact(found, self._node) if is_ours else None)


def _key(one: JsonObject) -> ServiceKey:
    metadata = one["metadata"]
    return metadata["namespace"], metadata["name"]


def _node(node: NodeLike) -> Node:
    """The node as the API knows it: by its primary addresses."""
    primary = {family_of(address(text)): text for text in reversed(node.addresses)}
    zone = {"topology.kubernetes.io/zone": node.zone} if node.zone else {}
    return Node(
        metadata=msgspec.convert({"name": node.name, "labels": zone}, Metadata),
        spec=NodeSpec(pod_cidrs=node.pod_cidrs),
        status=NodeStatus(addresses=tuple(NodeAddress("InternalIP", text) for text in primary.values())),
    )
