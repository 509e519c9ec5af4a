# SPDX-License-Identifier: Apache-2.0
"""Sequences of API events and packets of live flows: what the model expects of each, and what the datapath does."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from dataplane_ref.controller.resources import SERVICES, SLICES
from dataplane_ref.model import Affinity, ClusterState, Endpoint, Flow, Past, Verdict, first_packet, next_packet
from dataplane_ref.model.addresses import Family, family_of
from dataplane_ref.model.continuity import after_change, past_after_change
from tests.datapath.bench import Bench
from tests.datapath.compiled import Compiled, Meeting
from tests.datapath.generate import Draw
from tests.datapath.network import PODS, UPLINK
from tests.datapath.node import NEXT, PASS, REDIRECT
from tests.datapath.packets import ends, internet_bytes, transport_bytes
from tests.model.cluster import (
    CLUSTER_IP,
    CLUSTER_IP6,
    DETECT,
    EXTERNAL_IP,
    NODE_IP,
    NODE_IP6,
    NODES,
    OUTSIDE,
    endpoint,
    endpoint_slice,
    from_node,
    from_pod,
    service,
)

NODE = "node-a"
EVENTS = 40
ENTROPY = 6 * EVENTS
PLACES = ("a1", "a2", "b1", "node-c")
CLIENTS = (from_pod("a1"), from_pod("a2"), from_node("node-a"), OUTSIDE)
DIALLED: dict[Family, tuple[tuple[str, int], ...]] = {
    "IPv4": ((CLUSTER_IP, 80), (NODE_IP[NODE], 30080), (EXTERNAL_IP, 80)),
    "IPv6": ((CLUSTER_IP6, 80), (NODE_IP6[NODE], 30080)),
}
CONDITIONS: dict[str, dict[str, bool] | None] = {
    "ready": {"ready": True},
    "draining": {"ready": False, "serving": True, "terminating": True},
    "not ready": {"ready": False, "serving": False},
    "removed": None,
}
PROTOCOLS = ("TCP", "UDP", "SCTP")
NAMES = {"TCP": "t", "UDP": "u", "SCTP": "s"}
Key = tuple[Flow, int]


EXPECTED = (
    "packet: answered", "packet: refused", "packet: dropped", "packet: passed",
    "TCP: a flow goes on", "TCP: a flow goes on without its endpoint", "TCP: a flow is begun anew",
    "UDP: a flow goes on", "UDP: a flow is begun to another endpoint", "SCTP: a flow is begun to another endpoint",
    "TCP: a reply", "UDP: a reply", "SCTP: a reply", "event: sessionAffinity", "affinity: the same endpoint again",
)  # fmt: skip


class DifferenceError(AssertionError):
    """A packet did not do what it should; the text has all events up to it."""


@dataclass
class Live:
    """What is known of a flow: its past, and the last packet that an endpoint saw of it, from where to where."""

    past: Past
    seen: tuple[str, int, str, int]


@dataclass
class Sequence:
    """One node, one Service with a port per protocol, and the flows that were begun. `said`: what happened so far."""

    bench: Bench
    draw: Draw
    cases: Counter[str] = field(default_factory=Counter)
    conditions: dict[str, str] = field(default_factory=lambda: dict.fromkeys(PLACES, "ready"))
    spec: dict[str, Any] = field(default_factory=dict)
    exists: bool = True
    live: dict[Key, Live] = field(default_factory=dict)
    affinities: dict[tuple[str, str, Family], tuple[Affinity, Flow]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        view = next(node for node in NODES if node.name == NODE)
        self.node = Compiled(self.bench, view, DETECT)
        self.state = ClusterState.from_objects(NODES, [], [], DETECT)
        self._show()

    def run(self, events: int = EVENTS) -> None:
        """So many events. Raises DifferenceError."""
        steps: tuple[Callable[[], None], ...] = (
            self._endpoint, self._endpoint, self._service, self._policy, self._none_or_all,
            *(self._packet,) * 8, *(self._reply,) * 4, self._end, self._end,
        )  # fmt: skip
        for _ in range(events):
            self.draw.of(*steps)()

    # ---- The API -------------------------------------------------------------------------------------------------

    def _objects(self) -> tuple[list[Any], list[Any]]:
        ports = [
            {"name": NAMES[protocol], "protocol": protocol, "port": 80, "targetPort": 8080, "nodePort": 30080}
            for protocol in PROTOCOLS
        ]
        listed = [{"name": NAMES[protocol], "protocol": protocol, "port": 8080} for protocol in PROTOCOLS]
        slices = []
        families: tuple[Family, ...] = ("IPv4", "IPv6")
        for family in families:
            endpoints = [
                endpoint(place, family=family, **conditions)
                for place, name in self.conditions.items()
                if (conditions := CONDITIONS[name]) is not None
            ]
            slices.append(endpoint_slice(*endpoints, family=family, name=f"web-{family.lower()}", ports=listed))
        spec = {"externalIPs": [EXTERNAL_IP], "ports": ports, **self.spec}
        return ([service(**spec)] if self.exists else []), slices

    def _show(self) -> None:
        services, slices = self._objects()
        self.node.tell(SERVICES, services)
        if not services:
            self.node.gone(SERVICES, service())
        self.node.tell(SLICES, slices)
        self.node.datapath.program()
        self.state = ClusterState.from_objects(NODES, services, slices, DETECT)
        for (flow, _), known in self.live.items():
            known.past = past_after_change(self.state, flow, known.past)
        for key, (affinity, flow) in self.affinities.items():
            self.affinities[key] = after_change(self.state, flow, affinity), flow

    def _say(self, what: str, case: str) -> None:
        self.said.append(what)
        self.cases[case] += 1

    def _endpoint(self) -> None:
        place, condition = self.draw.of(*PLACES), self.draw.of(*CONDITIONS)
        self.conditions[place] = condition
        self._say(f"{place} is {condition}", f"event: an endpoint is {condition}")
        self._show()

    def _none_or_all(self) -> None:
        condition = self.draw.of("removed", "ready", "draining")
        self.conditions = dict.fromkeys(PLACES, condition)
        self._say(f"every endpoint is {condition}", f"event: all are {condition}")
        self._show()

    def _service(self) -> None:
        self.exists = not self.exists or self.draw.below(3) > 0
        self._say(f"the Service {'exists' if self.exists else 'is deleted'}", f"event: Service {self.exists}")
        self._show()

    def _policy(self) -> None:
        name, values = self.draw.of(
            ("internalTrafficPolicy", ("Local", "Cluster")),
            ("externalTrafficPolicy", ("Local", "Cluster")),
            ("sessionAffinity", ("ClientIP", "ClientIP", "None")),
        )
        self.spec[name] = self.draw.of(*values)
        self._say(f"{name} is {self.spec[name]}", f"event: {name}")
        self._show()

    # ---- Packets -------------------------------------------------------------------------------------------------

    def _packet(self) -> None:
        """A client's packet: of a live flow, or of one of a few that may be new."""
        if self.live and self.draw.below(2):
            key = self.draw.of(*self.live)
            self._sent(key, self.draw.of("A", "A", "S"))
            return
        family: Family = self.draw.of("IPv4", "IPv6")
        entry, protocol = self.draw.of(*CLIENTS), self.draw.of(*PROTOCOLS)
        address, port = self.draw.of(*DIALLED[family])
        flow = Flow(entry, protocol, address, port, via=NODE)
        self._sent((flow, 40000 + self.draw.below(3)), "S")

    def _expected(self, key: Key, opens: bool) -> Verdict:
        flow = key[0]
        known, affinity = self.live.get(key), self._affinity(flow)
        if known is None:
            return first_packet(self.state, flow, affinity)
        return next_packet(self.state, flow, known.past, opens=opens, affinity=affinity)

    def _affinity_key(self, flow: Flow) -> tuple[str, str, Family]:
        return self._meeting(flow).source, flow.protocol, family_of(flow.dst)

    def _affinity(self, flow: Flow) -> Affinity | None:
        """Of the client on the port; firm only for what it dialled then, since another policy allows others."""
        known = self.affinities.get(self._affinity_key(flow))
        if known is None:
            return None
        affinity, dialled = known
        return affinity if dialled == flow else replace(affinity, is_firm=False)

    def _meeting(self, flow: Flow) -> Meeting:
        meeting = self.node.meet(self.state, flow)
        assert meeting is not None
        return meeting

    def _sent(self, key: Key, flags: str) -> None:
        flow, sport = key
        opens = flags == "S" or flow.protocol != "TCP"
        if key not in self.live and not opens:
            return
        expected, meeting = self._expected(key, opens), self._meeting(flow)
        sent = self.node.send(meeting, flow, sport, flags=flags)
        followed = self.node.decision.outcome == "FOLLOWED"
        what = f"{flow} from port {sport}, {flags}"
        is_refusal = sent.action == REDIRECT and sent.packet[23 if sent.packet[12] == 8 else 20] in (1, 58)
        if sent.action == NEXT:
            self._judge(what, "passed", expected, "unreachable")
        elif is_refusal:
            self._judge(what, "refused", expected, "refused")
        elif sent.action not in (PASS, REDIRECT):
            self._judge(what, "dropped", expected, "timeout")
        else:
            seen = ends(sent.packet)
            where = Endpoint(seen[2], seen[3])
            self._judge(f"{what} → {where} ({'known' if followed else 'new'})", "answered", expected, "reply", where)
            self._follow(key, where, seen, flags, followed=followed)
            return
        self.live.pop(key, None)

    def _follow(
        self, key: Key, where: Endpoint, seen: tuple[str, int, str, int], flags: str, *, followed: bool
    ) -> None:
        flow, known = key[0], self.live.get(key)
        if not followed:
            remembered = self._affinity(flow)
            if remembered is not None and self._is_sticky(flow) and remembered.endpoint == where:
                self.cases["affinity: the same endpoint again"] += 1
        if not followed or known is None:
            if known is not None:
                moved = "to another endpoint" if known.past.endpoint != where else "anew"
                self.cases[f"{flow.protocol}: a flow is begun {moved}"] += 1
            self.live[key] = Live(Past(where), seen)
            if self._is_sticky(flow):
                self.affinities[self._affinity_key(flow)] = after_change(self.state, flow, Affinity(where)), flow
            return
        if known.past.endpoint != where or known.seen != seen:
            raise self._difference(f"it was {known.seen} before, and is {seen}")
        gone = all(where not in each for each in [first_packet(self.state, flow).answers])
        self.cases[f"{flow.protocol}: a flow goes on{' without its endpoint' if gone else ''}"] += 1
        if flow.protocol == "TCP" and ("F" in flags or "R" in flags):
            known.past = replace(known.past, ended=True)

    def _is_sticky(self, flow: Flow) -> bool:
        return first_packet(self.state, flow).affinity_s is not None

    def _reply(self) -> None:
        """A packet of a flow's endpoint: translated as long as the flow must go on."""
        if not self.live:
            return
        key = self.draw.of(*self.live)
        self._answer(key, self.draw.of("SA", "A", "A"))

    def _answer(self, key: Key, flags: str) -> None:
        (flow, sport), known = key, self.live[key]
        source, port, address, target = known.seen
        data = internet_bytes(
            address, source, flow.protocol, transport_bytes(flow.protocol, address, source, target, port, flags)
        )
        by, out = (UPLINK, False) if address not in self.node.view.addresses else ("lo", True)
        back = self.bench.send(data, by=PODS if address.startswith(("10.244.0.", "fd00:10:244::")) else by, out=out)
        expected = (flow.dst, flow.port, self._meeting(flow).source, sport)
        self._say(f"{flow} from port {sport}: {address} answers {flags}", f"{flow.protocol}: a reply")
        if ends(back.packet) != expected and next_packet(self.state, flow, known.past).service is None:
            raise self._difference(f"the reply became {ends(back.packet)}, but should {expected}")
        known.past = replace(known.past, answered=True, ended=known.past.ended or "R" in flags)

    def _end(self) -> None:
        """A TCP connection is closed, by its client or both."""
        connections = [key for key, known in self.live.items() if key[0].protocol == "TCP"]
        if not connections:
            return
        key = self.draw.of(*connections)
        self._sent(key, self.draw.of("FA", "R"))
        if key in self.live and self.draw.below(2):
            self._answer(key, "FA")

    def _judge(self, what: str, case: str, expected: Verdict, outcome: str, where: Endpoint | None = None) -> None:
        self._say(f"{what}: {case}", f"packet: {case}")
        if outcome not in expected.outcomes or (where is not None and where not in expected.answers):
            raise self._difference(expected.explain())

    def _difference(self, why: str) -> DifferenceError:
        return DifferenceError("\n".join([*self.said, f"but should: {why}"]))


def run(bench: Bench, sequences: int, start: int) -> Counter[str]:
    """So many sequences from a seed. Raises DifferenceError, with the events that led there."""
    cases: Counter[str] = Counter()

    @seed(start)
    @settings(
        max_examples=sequences, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.binary(min_size=ENTROPY, max_size=ENTROPY))
    def check(entropy: bytes) -> None:
        Sequence(bench, Draw(entropy), cases).run()

    check()
    return cases


def report(cases: Counter[str]) -> str:
    """What the events and packets were, and how many of each."""
    return "\n".join(f"{number:9,}  {case}" for case, number in cases.most_common())
