# SPDX-License-Identifier: Apache-2.0
"""Writes plans into the maps so that no packet ever meets a state half made.

What is new is written first: endpoints, sets, source ranges. Then the frontends, each by one update, which is the
moment of the switch. Only then is taken away what nothing refers to any more.
"""

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from dataplane_ref.controller.adopt import Adopted
from dataplane_ref.controller.allocate import FullError
from dataplane_ref.controller.book import AddressBook
from dataplane_ref.controller.codec import Codec
from dataplane_ref.controller.mirror import ArrayWrites, MapLike, Mirror, NumberWrites
from dataplane_ref.controller.packed import NO_ADDRESS
from dataplane_ref.controller.plan import Frontend, Plan, PortName, Ranges
from dataplane_ref.controller.ports import Change, Ports, PortState

ServiceKey = tuple[str, str]
"""Namespace and name."""
Rank = tuple[str, str, str]
"""When it was created, and its key: of two Services with the same frontend the one with the lower rank has it."""


class ServiceState(Struct, gc=False):
    """What the maps hold for a Service."""

    rank: Rank
    ports: dict[PortName, PortState]
    frontends: tuple[bytes, ...] = ()
    ranges: dict[int, tuple[int, Ranges]] = {}
    cluster_ips: tuple[bytes, ...] = ()
    virtual_ips: tuple[bytes, ...] = ()


class Programmer:
    """Owns the maps of Services. `left_out` are Services for which there was no room, and why."""

    def __init__(self, maps: Mapping[str, MapLike], codec: Codec, say: Callable[[str], None]) -> None:
        self.codec = codec
        self.frontends = Mirror(maps["frontends"])
        self.source_ranges = Mirror(maps["source_ranges"])
        self.book = AddressBook(maps["addresses"], codec.address_flag)
        self.services: dict[ServiceKey, ServiceState] = {}
        self.left_out: dict[ServiceKey, str] = {}
        self.again: set[ServiceKey] = set()
        """Services to plan anew, because of what others got or gave up."""
        sizes = {name: maps[name].max_entries for name in ("cursors", "endpoints", "members")}
        self.ports = Ports(codec, sizes["cursors"], sizes["endpoints"], sizes["members"])
        self._maps = maps
        self._endpoints, self._members = ArrayWrites(maps["endpoints"]), NumberWrites(maps["members"])
        self._after: list[Change] = []
        self._owners: dict[bytes, ServiceKey] = {}
        self._waiting: dict[bytes, set[ServiceKey]] = {}
        self._adopted: Adopted | None = None
        self._next_set = 1
        self._schedulers = {word: codec.scheduler[name] for word, name in _scheduler_names()}
        self._balancer, self._cluster_ip = codec.kind["LOAD_BALANCER"], codec.kind["CLUSTER_IP"]
        self._restricted = codec.frontend_flag["RESTRICTED"]
        self._say = say

    def adopt(self) -> None:
        """Take over what an earlier process left in the maps; what the first plans do not name is removed then."""
        for mirror in (self.frontends, self.source_ranges, self.book.mirror):
            mirror.adopt()
        self._adopted = Adopted.read(self._maps, self.codec, self.frontends.written, self.source_ranges.written)
        self._adopted.hand_over(self.ports)
        self._next_set = self._adopted.next_set

    def install(self, key: ServiceKey, planned: tuple[Rank, Plan] | None) -> None:
        """Prepare a Service's maps for a plan (None: there is no such Service any more); `flush` writes them."""
        if planned is None:
            self._remove(key)
        else:
            self._install(key, *planned)

    def flush(self) -> int:
        """Write what is to be written, in the order that the module's text gives; how many entries."""
        written = self._endpoints.write() + self._members.write() + self.source_ranges.write()
        written += self.frontends.write() + self.book.mirror.write()
        if self._adopted is not None:
            self._abandon(self._adopted)
            self._adopted = None
        written += self.frontends.remove() + self.book.mirror.remove()
        for change in self._after:
            self._endpoints.extend(change.endpoints_after)
            self._endpoints.add(change.freed_endpoints, self.ports.forgotten(change.freed_endpoints))
        written += self._endpoints.write() + self.source_ranges.remove()
        self._after.clear()
        released = [each.release() for each in (self.ports.numbers, self.ports.endpoints, self.ports.extents)]
        if self.left_out and any(released):
            self.again.update(self.left_out)
        return written

    def _install(self, key: ServiceKey, rank: Rank, plan: Plan) -> None:
        old = self.services.get(key)
        try:
            state, change = self._try(rank, plan, old)
        except FullError as error:
            self._leave_out(key, str(error), partly=old is not None)
            if old is None:
                return
            plan = _without_new(plan, old)
            try:
                state, change = self._try(rank, plan, old)
            except FullError:
                return
        else:
            if self.left_out.pop(key, None) is not None:
                self._say(f"there is room for Service {key[0]}/{key[1]} again")
        self._switch(key, plan, old, state, change)

    def _try(self, rank: Rank, plan: Plan, old: ServiceState | None) -> tuple[ServiceState, Change]:
        """Take what the Service needs, or nothing. Raises FullError."""
        change = Change()
        try:
            return self._place(rank, plan, old, change), change
        except FullError:
            self.ports.undo(change)
            self._let_go(change.adopted)
            raise

    def _place(self, rank: Rank, plan: Plan, old: ServiceState | None, change: Change) -> ServiceState:
        """What the Service shall have; only numbers are taken. Raises FullError."""
        state = ServiceState(rank, {})
        self._check_room(plan)
        for name, port in plan.ports.items():
            before = old.ports.get(name) if old else None
            if before is None and self._adopted is not None:
                before = self._adopted.claim(each.key for each in port.frontends)
                change.adopted += [before] if before is not None else []
            state.ports[name] = self.ports.place(port, before, change)
        if old is not None:
            for name, before in old.ports.items():
                if name not in state.ports:
                    self.ports.release(before, change)
        return state

    def _check_room(self, plan: Plan) -> None:
        """Whether the hash tables have room. Raises FullError."""
        most = sum([len(port.frontends) for port in plan.ports.values()])
        if most <= self.frontends.room and most <= self.book.mirror.room and not plan.ranges:
            return
        keys = [each.key for port in plan.ports.values() for each in port.frontends]
        ranges = sum(len(each) for each in plan.ranges.values())
        for what, mirror, wanted in (
            ("frontends", self.frontends, keys),
            ("addresses", self.book.mirror, [key[:16] for key in keys]),
        ):
            room = mirror.room
            if len(wanted) > room and len({key for key in wanted if not mirror.holds(key)}) > room:
                raise FullError(what, mirror.map.max_entries)
        if ranges > self.source_ranges.room and self._adopted is None:
            raise FullError("source_ranges", self.source_ranges.map.max_entries)

    def _switch(
        self, key: ServiceKey, plan: Plan, old: ServiceState | None, state: ServiceState, change: Change
    ) -> None:
        """Hand everything on to be written."""
        self.services[key] = state
        if plan.ranges or (old is not None and old.ranges):
            state.ranges = self._ranges(plan, old)
        keys: list[bytes] = []
        for name, port in plan.ports.items():
            placed = state.ports[name]
            for frontend in port.frontends:
                number = state.ranges[name[2]][0] if frontend.restricted else 0
                if self._claim(frontend, key, state.rank):
                    keys.append(frontend.key)
                    self.frontends.put(frontend.key, self._value(frontend, port.flags, number, placed, plan, name))
        state.frontends = tuple(keys)
        state.cluster_ips = plan.cluster_ips
        state.virtual_ips = _virtual_ips(plan)
        self.book.move(
            old.cluster_ips if old else (), state.cluster_ips, old.virtual_ips if old else (), state.virtual_ips
        )
        if old is not None and old.frontends != state.frontends:
            for gone in set(old.frontends) - set(keys):
                self._give_up(gone, key)
        self._endpoints.extend(change.endpoints_before)
        for numbers, members in change.members:
            self._members.add(numbers, members)
        self.ports.finish(change)
        if change.endpoints_after or change.freed_endpoints:
            self._after.append(change)

    def _value(
        self, frontend: Frontend, flags: int, ranges: int, placed: PortState, plan: Plan, name: PortName
    ) -> bytes:
        return self.codec.frontend.pack(
            placed.number,
            frontend.kind,
            self._schedulers[placed.scheduler],
            flags | self._restricted if frontend.restricted else flags,
            plan.ports[name].affinity_seconds,
            ranges,
            *placed.cluster,
            *placed.local,
        )

    def _remove(self, key: ServiceKey) -> None:
        self.left_out.pop(key, None)
        old = self.services.pop(key, None)
        for waiting in self._waiting.values():
            waiting.discard(key)
        if old is None:
            return
        change = Change()
        for port in old.ports.values():
            self.ports.release(port, change)
        for frontend in old.frontends:
            self._give_up(frontend, key)
        for number, ranges in old.ranges.values():
            self._drop_ranges(number, ranges)
        self.book.move(old.cluster_ips, (), old.virtual_ips, ())
        self.ports.finish(change)
        self._after.append(change)

    def _claim(self, frontend: Frontend, key: ServiceKey, rank: Rank) -> bool:
        """Whether the Service may have a frontend: a ClusterIP's own Service first, then the older one."""
        owner = self._owners.setdefault(frontend.key, key)
        if owner == key:
            return True
        value = self.codec.frontend.unpack(self.frontends_value(frontend.key))
        theirs = (value[1] != self._cluster_ip, self.services[owner].rank)
        if theirs <= (frontend.kind != self._cluster_ip, rank):
            waiting = self._waiting.setdefault(frontend.key, set())
            if key not in waiting:
                waiting.add(key)
                names = f"Service {key[0]}/{key[1]} and the older {owner[0]}/{owner[1]}"
                self._say(f"{names} want the same address and port: the older one has it")
            return False
        self._owners[frontend.key] = key
        loser = self.services[owner]
        loser.frontends = tuple(each for each in loser.frontends if each != frontend.key)
        self._waiting.setdefault(frontend.key, set()).add(owner)
        return True

    def frontends_value(self, key: bytes) -> bytes:
        """What a frontend is, or is about to be."""
        return self.frontends.wanted(key)

    def _give_up(self, frontend: bytes, key: ServiceKey) -> None:
        if self._owners.get(frontend) != key:
            return
        del self._owners[frontend]
        self.frontends.drop(frontend)
        self.again.update(self._waiting.pop(frontend, ()))

    def _ranges(self, plan: Plan, old: ServiceState | None) -> dict[int, tuple[int, Ranges]]:
        """Every version of a set of ranges has a number of its own, so that a change of several is one change."""
        found = {}
        before = dict(old.ranges) if old else {}
        for family, ranges in plan.ranges.items():
            was = before.get(family)
            if was is None and self._adopted is not None:
                number = self._adopted.ranges_of(self._balanced(plan, family), ranges)
                was = (number, ranges) if number else None
            if was is not None and was[1] == ranges:
                found[family] = before.pop(family, was)
            else:
                found[family] = self._next_set, ranges
                self._next_set += 1
            for base, bits in ranges:
                self.source_ranges.put(self.codec.range_key.pack(32 + bits, found[family][0], base), b"\1")
        for number, ranges in before.values():
            self._drop_ranges(number, ranges)
        return found

    def _balanced(self, plan: Plan, family: int) -> Iterable[bytes]:
        return [
            frontend.key
            for name, port in plan.ports.items()
            if name[2] == family
            for frontend in port.frontends
            if frontend.kind == self._balancer
        ]

    def _drop_ranges(self, number: int, ranges: Ranges) -> None:
        for base, bits in ranges:
            self.source_ranges.drop(self.codec.range_key.pack(32 + bits, number, base))

    def _leave_out(self, key: ServiceKey, why: str, *, partly: bool) -> None:
        if self.left_out.get(key) != why:
            what = "keeps only the endpoints it had" if partly else "is left out"
            self._say(f"{why}: Service {key[0]}/{key[1]} {what} until there is room")
            self.left_out[key] = why

    def _abandon(self, adopted: Adopted) -> None:
        """Remove what an earlier process left and no Service has now."""
        self.frontends.keep_only(self._owners)
        self.book.keep_only_wanted()
        current = {
            self.codec.range_key.pack(32 + bits, number, base)
            for state in self.services.values()
            for number, ranges in state.ranges.values()
            for base, bits in ranges
        }
        self.source_ranges.keep_only(current)
        self._let_go(adopted.unclaimed(), adopted.orphans)

    def _let_go(self, ports: Iterable[PortState], orphans: Iterable[int] = ()) -> None:
        """Free what belonged to Service ports that nobody has."""
        change = Change()
        for port in ports:
            self.ports.release(port, change)
        change.freed_endpoints += orphans
        self.ports.finish(change)
        self._after.append(change)


def _scheduler_names() -> Iterable[tuple[str, str]]:
    from dataplane_ref.controller.schedule import SCHEDULERS

    return SCHEDULERS.items()


def _virtual_ips(plan: Plan) -> tuple[bytes, ...]:
    """External addresses of a Service that are to be known as virtual ones."""
    found = {each.key[:16] for port in plan.ports.values() if len(port.frontends) > 1 for each in port.frontends[1:]}
    return tuple(found - {NO_ADDRESS}) if found else ()


def _without_new(plan: Plan, old: ServiceState) -> Plan:
    """The plan with only those endpoints that have a number already."""
    from dataplane_ref.controller.plan import PortPlan
    from dataplane_ref.controller.select import Selection

    ports = {}
    for name, port in plan.ports.items():
        if name not in old.ports:
            continue
        known = old.ports[name].places()
        chosen = port.selection
        kept = [place for place, key in enumerate(chosen.keys) if key in known]
        at = {place: new for new, place in enumerate(kept)}
        selection = Selection(
            [chosen.keys[place] for place in kept],
            b"".join([chosen.keys[place] for place in kept]),
            bytes(chosen.conditions[place] for place in kept),
            [at[place] for place in chosen.cluster if place in at],
            [at[place] for place in chosen.local if place in at],
        )
        weights = [port.weights[place] for place in kept] if port.weights else None
        on_host = frozenset(at[place] for place in port.on_host if place in at)
        ports[name] = PortPlan(
            port.frontends, selection, port.flags, port.affinity_seconds, port.scheduler, weights, on_host
        )
    return Plan(ports, plan.cluster_ips, plan.ranges, plan.health, [])
