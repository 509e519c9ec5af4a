# SPDX-License-Identifier: Apache-2.0
"""The API objects and interfaces as the node knows them, and the maps brought to them.

`NodeDatapath` is all of the controller but its surroundings: no thread, socket or clock. What it is told it
remembers; `program` then writes what that changes. It is what the oracle uses too.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.devices import address_flags
from dataplane_ref.controller.mirror import MapLike
from dataplane_ref.controller.netlink import Interfaces
from dataplane_ref.controller.nodeview import NodeMaps, node_ips
from dataplane_ref.controller.objects import Node, Service
from dataplane_ref.controller.plan import Plan, Planner, Viewpoint
from dataplane_ref.controller.program import Programmer, Rank, ServiceKey
from dataplane_ref.controller.resources import NODES, SERVICES, SLICES
from dataplane_ref.controller.settings import Settings
from dataplane_ref.controller.slices import CompactSlice

NOWHERE = Interfaces({}, frozenset())
ROUNDS = 4
"""How often Services are planned anew because of what others got or gave up, before the next change."""
HealthPorts = dict[ServiceKey, tuple[int, dict[int, int]]]
"""The healthCheckNodePort of each Service that has one, and how many ready endpoints are here, by family."""


class NodeDatapath:
    """One node's datapath. `health` is kept up to date by `program`."""

    def __init__(
        self, maps: Mapping[str, MapLike], codec: Codec, settings: Settings, say: Callable[[str], None]
    ) -> None:
        self.settings = settings
        self.codec = codec
        self.programmer = Programmer(maps, codec, say)
        self.node_maps = NodeMaps(maps, codec, settings)
        self.services: dict[ServiceKey, Service] = {}
        self.node: Node | None = None
        self.interfaces = NOWHERE
        self.health: HealthPorts = {}
        self._slices: dict[ServiceKey, dict[str, CompactSlice]] = {}
        self._owner: dict[ServiceKey, str] = {}  # a slice's namespace and name → its Service's name
        self._dirty: set[ServiceKey] = set()
        self._node_changed = True
        self._planner = Planner(codec, Viewpoint(settings.node, scheduler=settings.scheduler))
        self._complaints: dict[ServiceKey, list[str]] = {}
        self._say = say

    def adopt(self) -> None:
        """Go on with what an earlier process left in the maps; before anything else."""
        self.programmer.adopt()
        self.node_maps.adopt()

    # ---- What is known -------------------------------------------------------------------------------------------

    def replace(self, resource: str, objects: Mapping[Hashable, Any]) -> None:
        """All objects of a resource, as `resources.watched` converts them."""
        if resource != NODES:
            known: Mapping[ServiceKey, Any] = self.services if resource == SERVICES else self._owner
            for gone in [key for key in known if key not in objects]:
                self.change(resource, gone, None)
        for key, found in objects.items():
            self.change(resource, key, found)
        if resource == NODES and not objects:
            self.change(resource, "", None)

    def change(self, resource: str, key: Any, found: Any) -> None:
        """One object that came, changed or went (None)."""
        if resource == SERVICES:
            self._change_service(key, found)
        elif resource == SLICES:
            self._change_slice(key, found)
        elif found != self.node:
            self.node = found
            self._node_changed = True

    def _change_service(self, key: ServiceKey, found: Service | None) -> None:
        if found is None:
            self.services.pop(key, None)
        else:
            self.services[key] = found
        self._dirty.add(key)

    def _change_slice(self, key: ServiceKey, found: tuple[str, CompactSlice | None] | None) -> None:
        namespace, name = key
        before = self._owner.pop(key, None)
        service, compact = found if found is not None else ("", None)
        if before is not None and (before != service or compact is None):
            siblings = self._slices[namespace, before]
            del siblings[name]
            if not siblings:
                del self._slices[namespace, before]
            self._dirty.add((namespace, before))
        if compact is not None:
            owner = (namespace, service)
            siblings = self._slices.setdefault(owner, {})
            if siblings.get(name) != compact:
                siblings[name] = compact
                self._dirty.add(owner)
            self._owner[key] = service

    def see(self, interfaces: Interfaces) -> None:
        """The node's interfaces and addresses."""
        if interfaces != self.interfaces:
            self.interfaces = interfaces
            self.node_maps.way_changed()
            self._node_changed = True

    def way_changed(self) -> None:
        """Routes or neighbours changed."""
        self.node_maps.way_changed()
        self._node_changed = True

    # ---- What is written -----------------------------------------------------------------------------------------

    def program(self) -> int:
        """Write what has changed; how many entries. Raises what the maps raise; calling again goes on from there."""
        written = self._program_node() if self._node_changed else 0
        programmer = self.programmer
        programmer.again.clear()
        for _ in range(ROUNDS):
            plans = self._plans()
            for key in self._dirty:
                programmer.install(key, plans(key))
            self._dirty.clear()
            if programmer.again:
                self._dirty |= programmer.again
                programmer.again.clear()
                continue
            written += programmer.flush()
            self._dirty |= programmer.again
            programmer.again.clear()
            if not self._dirty:
                break
        return written

    def _program_node(self) -> int:
        own = node_ips(self.node)
        flags = address_flags(self.interfaces, own.values(), self.settings, self.codec.address_flag)
        changed = self.programmer.book.set_node(flags)
        labels = self.node.metadata.labels if self.node is not None else None
        viewpoint = Viewpoint(
            self.settings.node, labels.zone if labels else None, frozenset(flags), self.settings.scheduler
        )
        if viewpoint != self._planner.viewpoint:
            if viewpoint.zone != self._planner.viewpoint.zone:
                self._dirty.update(self.services)
            else:
                self._dirty.update(self._with_endpoints_at(changed))
            self._planner = Planner(self.codec, viewpoint)
        self._node_changed = False
        return self.node_maps.write(self.node, self.interfaces)

    def _with_endpoints_at(self, addresses: Iterable[bytes]) -> set[ServiceKey]:
        """Services that have an endpoint at one of these addresses."""
        wanted = list(addresses)
        return {
            key
            for key, slices in self._slices.items()
            if any(address in each.addresses for each in slices.values() for address in wanted)
        }

    def _plans(self) -> Callable[[ServiceKey], tuple[Rank, Plan] | None]:
        services, slices, planner = self.services, self._slices, self._planner
        nothing: dict[str, CompactSlice] = {}

        def plan_of(key: ServiceKey) -> tuple[Rank, Plan] | None:
            service = services.get(key)
            plan = None
            if service is not None:
                try:
                    plan = planner.plan(service, slices.get(key, nothing).values())
                except ValueError as error:
                    self._complain(key, [f"cannot be served: {error}"])
            if plan is None or service is None:
                self.health.pop(key, None)
                if service is None:
                    self._complaints.pop(key, None)
                return None
            if plan.health is not None:
                self.health[key] = plan.health
            elif self.health:
                self.health.pop(key, None)
            if plan.complaints or self._complaints:
                self._complain(key, plan.complaints)
            return (service.metadata.creationTimestamp or "", *key), plan

        return plan_of

    def _complain(self, key: ServiceKey, complaints: list[str]) -> None:
        """What is wrong with a Service, once."""
        if not complaints:
            self._complaints.pop(key, None)
        elif self._complaints.get(key) != complaints:
            self._complaints[key] = complaints
            for each in complaints:
                self._say(f"Service {key[0]}/{key[1]} {each}")
