# SPDX-License-Identifier: Apache-2.0
"""Who has an address on the nodes' LAN: asked from outside by ARP and NDP, and compared with who may announce it.

Who may is read from MetalLB's documentation, https://metallb.io/troubleshooting/#general-concepts: a node with a
speaker, if the Service has an active endpoint, under externalTrafficPolicy Local one on that node.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from clusters.api import Announcer, Backend, Link, Node, Vantage
from plugins.flows import ViolationError
from plugins.packets import Claim, claims, who_has
from plugins.services import Service
from plugins.slices import Endpoint
from plugins.world import UnfitError, World

# Every question is repeated: one that is lost shall not pass for a silence.
ASKED = 3
STRANGER = "a stranger"


def announced(world: World, *, endpoints: Iterable[Endpoint | Backend] = (), **more: Any) -> Service:
    """A load balancer's Service whose addresses are the announcer's to make known. Raises UnfitError."""
    return world.service(
        kind="LoadBalancer",
        endpoints=endpoints,
        ingress=more.pop("ingress", None) or world.announced_ips(),
        **{"loadBalancerClass": announcer_of(world).balancer_class, **more},
    )


def announcer_of(world: World) -> Announcer:
    """The announcer. Raises UnfitError where none runs."""
    if world.announcer is None:
        raise UnfitError("no announcer runs on the nodes")
    return world.announcer


def is_active(endpoint: Endpoint) -> bool:
    """Whether an endpoint counts: it is ready (or nobody says), or still serving while it terminates.

    https://github.com/metallb/metallb/pull/2337, https://github.com/metallb/metallb/issues/2074
    """
    return endpoint.ready is not False or endpoint.serving is True


def may_announce(services: Iterable[Service], nodes: Collection[str], balancer_class: str) -> frozenset[str]:
    """The nodes, of those with a speaker, that may announce an address which these Services have in common."""
    found: set[str] = set()
    for service in services:
        spec = service.mirror.services.get(service.name, {"spec": {}})["spec"]
        if spec.get("loadBalancerClass") != balancer_class:
            continue
        holding = {one.backend.node for one in service.endpoints if is_active(one)}
        if holding:
            found |= holding if spec.get("externalTrafficPolicy") == "Local" else set(nodes)
    return frozenset(found & set(nodes))


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answered for an address, and who may: one of these, or nobody if there are none."""

    ip: str
    service: str
    nodes: tuple[str, ...]
    allowed: frozenset[str]

    @property
    def is_right(self) -> bool:
        if not self.allowed:
            return not self.nodes
        return len(self.nodes) == 1 and self.nodes[0] in self.allowed

    @property
    def expected(self) -> str:
        some = " or ".join(sorted(self.allowed))
        return f"only {some} answers for {self.ip}" if self.allowed else f"nobody answers for {self.ip}"

    def __str__(self) -> str:
        return f"{', '.join(self.nodes) or 'nobody'} answers for {self.ip}"


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers for all addresses of some Services."""

    answers: tuple[Answer, ...]

    def wrong(self) -> dict[str, str]:
        """What is not as it must be, by Service."""
        return {one.service: f"{one}, but should: {one.expected}" for one in self.answers if not one.is_right}

    def must_be_right(self) -> None:
        """For each address one node must answer, of those that may, or nobody where none may."""
        __tracebackhide__ = True
        if not self.answers:
            raise ValueError("nobody was asked for, so nothing is proved")
        wrong = [one for one in self.answers if not one.is_right]
        if wrong:
            raise ViolationError("; ".join(f"{one}, but must be so that {one.expected}" for one in wrong))

    @property
    def leaders(self) -> Mapping[str, str]:
        """The node that answers for each address for which just one does."""
        return {one.ip: one.nodes[0] for one in self.answers if len(one.nodes) == 1}


def ask(world: World, services: Sequence[Service], *, of: Collection[Node] | None = None) -> Answers:
    """Ask on the LAN who has the addresses of these Services, and wait for all that answer.

    `of`: those nodes that alone may, for reasons that are not in the Services.
    """
    outside = _outside(world)
    eligible = announcer_of(world).running & {node.name for node in (world.nodes if of is None else of)}
    by_ip: dict[str, list[Service]] = {}
    for service in services:
        for ip in dict.fromkeys(item["ip"] for item in service.ingress):
            by_ip.setdefault(ip, []).append(service)
    heard: list[Claim] = []
    for _ in range(ASKED):
        with world.cluster.capture(outside) as capture:
            for ip in by_ip:
                _send_question(world, outside, ip)
            world.idle(world.deadlines.answer / ASKED)
        heard += [claim for claim in claims(capture.packets) if claim.asked]
    answers = Answers(
        tuple(
            Answer(
                ip,
                sharing[0].name,
                tuple(sorted({named(world, claim.mac) for claim in heard if claim.ip == ip})),
                may_announce(sharing, eligible, announcer_of(world).balancer_class),
            )
            for ip, sharing in by_ip.items()
        )
    )
    world.arrivals |= answers.leaders
    expected = "; ".join(one.expected for one in answers.answers)
    world.record.looked(f"the LAN, asked from {outside.name}", expected, "; ".join(map(str, answers.answers)))
    return answers


def settled(world: World, *services: Service, of: Collection[Node] | None = None) -> Answers:
    """Wait until just those answer that must, and then ask once more: that decides."""
    world.settle("converge", also=lambda: ask(world, services, of=of).wrong())
    return ask(world, services, of=of)


@dataclass(frozen=True, slots=True)
class Overheard:
    """What was said on the LAN while something happened, as the external client heard it."""

    claims: list[Claim]

    def must_have_announced(self, world: World, leaders: Mapping[str, str], *, within: float, since: float) -> None:
        """Each address's node must have made itself known unasked, at most `within` seconds after `since`."""
        __tracebackhide__ = True
        for ip, node in leaders.items():
            mine = [one for one in self.claims if one.ip == ip and not one.asked and one.t >= since]
            ours = [one.t - since for one in mine if named(world, one.mac) == node]
            times = f"{min(ours):.1f} s after the change" if ours else "never"
            expected = f"within {within:g} s"
            world.record.looked("the LAN", f"{node} announces {ip} unasked {expected}", f"it did so {times}")
            if not ours or min(ours) > within:
                raise ViolationError(f"{node} has announced {ip} unasked {times}, but must have {expected}")


@contextmanager
def overhearing(world: World) -> Iterator[Overheard]:
    """Listen on the LAN; what was heard is there when the block has ended."""
    heard = Overheard([])
    with world.cluster.capture(_outside(world)) as capture:
        yield heard
    heard.claims.extend(claims(capture.packets))


@contextmanager
def killed(world: World, node: Node) -> Iterator[float]:
    """Inside, the announcer on a node is dead (SIGKILL); gives when it was killed. Afterwards it runs again."""
    announcer, since = announcer_of(world), world.now()
    announcer.kill(node.name)
    try:
        yield since
    finally:
        announcer.start_again(node.name)


@contextmanager
def apart(world: World, node: Node, services: Sequence[Service]) -> Iterator[Answers]:
    """Inside, the announcer on a node and the others are out of touch; gives who answers once that has had an effect.

    That it has none within the time that failover takes is an answer too.
    """
    announcer, before = announcer_of(world), ask(world, services)
    announcer.cut_off(node.name)
    try:
        end = world.now() + world.deadlines.failover
        while (now := ask(world, services)).answers == before.answers and world.now() < end:
            pass
        yield now
    finally:
        announcer.let_back(node.name)


def named(world: World, mac: str) -> str:
    """Whose a MAC is."""
    return next((node.name for node in world.nodes if node.vantage.mac == mac), f"{STRANGER} ({mac})")


def _outside(world: World) -> Vantage:
    outside = world.cluster.outside
    if outside is None or outside.mac is None or outside.interface is None:
        raise UnfitError("the cluster has no external client on its nodes' LAN")
    return outside


def _send_question(world: World, outside: Vantage, ip: str) -> None:
    assert outside.mac
    assert outside.interface
    packet, to = who_has(ip, outside.addresses["IPv6" if ":" in ip else "IPv4"], outside.mac)
    world.cluster.inject(outside, packet, Link(outside.interface, to))
