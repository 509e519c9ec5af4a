# SPDX-License-Identifier: Apache-2.0
"""Schedulers: whom a proxy chooses that does not choose at random.

A proxy declares those it has. The reference has all, kube-router some, and both take a Service's from its
annotations, which mean nothing to others: a requirement is judged wherever its scheduler is, and no proxy is started
again for it.
"""

from contextlib import ExitStack

from conformance.distribution.test_random import some
from conformance.sources import VIRTUAL_IPS
from plugins.requirements import requirement
from plugins.spread import (
    choices_of,
    must_be_even,
    must_follow,
    must_have_counts,
    must_keep_most,
    open_again,
)
from plugins.statistics import fewest, same_endpoint, shared_by_weight

IPVS = VIRTUAL_IPS + "#proxy-mode-ipvs"
# By which Services ask for their scheduler: of the reference, and of kube-router.
SCHEDULER_ANNOTATIONS = ("plumbline.dev/scheduler", "kube-router.io/service.scheduler")


def scheduled(world, scheduler, count, weights=()):
    """A Service with its scheduler, and with weights for its first endpoints where there are any."""
    backends = world.backends(count)
    shares = [
        f"{ip}={weight}" for one, weight in zip(backends, weights, strict=False) for ip in one.addresses.values()
    ]
    asked = {**dict.fromkeys(SCHEDULER_ANNOTATIONS, scheduler), "plumbline.dev/weights": ",".join(shares)}
    return world.service(endpoints=backends, annotations={key: value for key, value in asked.items() if value})


def four_in_turn(world):
    return scheduled(world, "rr", 4)


@requirement(
    "distribution.rr.takes-turns",
    must="Round robin MUST give each of a Service's endpoints as many of a client's new connections as any other, "
    "but for one.",
    level="extended",
    since="1.8",
    source=IPVS,
    features=["scheduler-rr"],
    arrange=four_in_turn,
)
def test_round_robin(world, service):
    for target in service.every_cluster_ip():
        must_follow(one_by_one(world.vantage("pod"), target, 24), fewest, "turns")


def weighing_three_two_one(world):
    return scheduled(world, "wrr", 3, (3, 2, 1))


@requirement(
    "distribution.wrr.by-weight",
    must="Weighted round robin MUST give each of a Service's endpoints new connections in proportion to its weight.",
    level="extended",
    since="1.8",
    source=IPVS,
    features=["scheduler-wrr", "weights"],
    arrange=weighing_three_two_one,
)
def test_weighted_round_robin(world, service):
    for target in service.every_cluster_ip():
        must_have_counts([world.vantage("pod").open(*target, count=24)], [4, 8, 12])


def three_by_connections(world):
    return scheduled(world, "lc", 3)


@requirement(
    "distribution.lc.fewest-connections",
    must="Least connection MUST give a new connection to an endpoint that has the fewest, among those that are open.",
    level="extended",
    since="1.8",
    source=IPVS,
    features=["scheduler-lc"],
    arrange=three_by_connections,
)
def test_least_connection(world, service):
    client = world.vantage("pod")
    for target in service.every_cluster_ip("TCP"):
        with ExitStack() as stack:
            held = held_by(client, target, 30, stack)
            must_follow(seen_on(client, target, held), fewest, "fewest connections")
            left = choices_of(client.judged(*target, [held[0].first]))
            leaving = [flow for flow in held if str(flow.first.served_at) in left]
            for flow in leaving:
                flow.close()
            after = held_by(client, target, 2, stack)
            for seen in seen_on(client, target, after):
                assert choices_of(seen) == left, "the endpoint that lost its connections has the fewest"


def strong_and_weak_by_delay(world):
    return scheduled(world, "sed", 3, (9,))


@requirement(
    "distribution.sed.least-expected-delay",
    must="Shortest expected delay MUST give a new connection to the endpoint with the least (connections + 1) / "
    "weight, even if others are idle.",
    level="extended",
    since="1.8",
    source=IPVS,
    features=["scheduler-sed", "weights"],
    arrange=strong_and_weak_by_delay,
)
def test_shortest_expected_delay(world, service):
    client = world.vantage("pod")
    for target in service.every_cluster_ip("TCP"):
        with ExitStack() as stack:
            held = held_by(client, target, 8, stack)
            must_have_counts(seen_on(client, target, held), shared_by_weight([9, 1, 1], 8, ahead=1), "least delay")


def strong_and_weak_without_queue(world):
    return scheduled(world, "nq", 3, (9,))


@requirement(
    "distribution.nq.idle-first",
    must="Never queue MUST give a new connection to an idle endpoint, if there is one, rather than to a faster one.",
    level="extended",
    since="1.8",
    source=IPVS,
    features=["scheduler-nq", "weights"],
    arrange=strong_and_weak_without_queue,
)
def test_never_queue(world, service):
    client = world.vantage("pod")
    for target in service.every_cluster_ip("TCP"):
        with ExitStack() as stack:
            held = held_by(client, target, 3, stack)
            must_have_counts(seen_on(client, target, held), [1, 1, 1], "idle first")
            held += held_by(client, target, 5, stack)
            must_have_counts(seen_on(client, target, held), [1, 1, 6], "least delay")


def six_by_source(world):
    return scheduled(world, "sh", 6)


@requirement(
    "distribution.sh.client-keeps-its-endpoint",
    must="Source hashing MUST give all new connections of a client the same endpoint, and not that endpoint to all "
    "clients.",
    level="extended",
    since="1.8",
    source=IPVS,
    features=["scheduler-sh"],
    arrange=six_by_source,
)
def test_source_hashing(world, service):
    clients = [world.prober(one.vantage) for node in world.nodes for one in (*node.backends, node.host_backend)]
    for target in some(service.every_cluster_ip()):
        found = [world.vantage("pod").open(*target, count=12), *(one.open(*target, count=12) for one in clients)]
        for flows in found:
            must_follow([flows], same_endpoint, "one endpoint for a client")
        assert len({name for flows in found for name in flows.backends}) > 1


def six_by_destination(world):
    return scheduled(world, "dh", 6)


@requirement(
    "distribution.dh.address-has-one-endpoint",
    must="Destination hashing MUST give all new connections to an address the same endpoint, whichever client opens "
    "them.",
    level="extended",
    since="1.8",
    source=IPVS,
    features=["scheduler-dh"],
    arrange=six_by_destination,
)
def test_destination_hashing(world, service):
    node = world.nodes[0]
    clients = [world.prober(one.vantage) for one in (*node.backends, node.host_backend)]
    for target in some(service.every_cluster_ip()):
        found = [client.open(*target, count=12) for client in (world.vantage("pod"), *clients)]
        must_follow(found, same_endpoint, "one endpoint for an address")


def four_by_maglev(world):
    return scheduled(world, "maglev", 4)


@requirement(
    "distribution.maglev.even",
    must="Maglev hashing MUST spread new connections evenly over a Service's endpoints.",
    level="extended",
    since="1.8",
    source="https://www.usenix.org/conference/nsdi16/technical-sessions/presentation/eisenbud",
    features=["scheduler-maglev"],
    arrange=four_by_maglev,
)
def test_maglev(world, service):
    must_be_even(world.vantage("pod"), some(service.every_cluster_ip()), "half")


@requirement(
    "distribution.maglev.few-flows-move",
    must="When an endpoint goes, Maglev hashing MUST leave most flows of the other endpoints where they are.",
    level="extended",
    since="1.8",
    source="https://www.usenix.org/conference/nsdi16/technical-sessions/presentation/eisenbud",
    features=["scheduler-maglev"],
    arrange=lambda world: scheduled(world, "maglev", 5),
    changes=True,
)
def test_maglev_moves_few(world, service):
    client, targets = world.vantage("pod"), service.every_cluster_ip("TCP")
    before = [client.open(*target, count=80) for target in targets]
    for flows, target in zip(before, targets, strict=True):
        must_keep_most(flows, open_again(client, target, flows), least=1.0)

    service.set_endpoints(world.backends(5)[1:])
    world.settle()

    for flows, target in zip(before, targets, strict=True):
        must_keep_most(flows, open_again(client, target, flows), least=0.75)


def one_by_one(client, target, count):
    """Flows of which each is over before the next begins."""
    return [client.open(*target) for _ in range(count)]


def held_by(client, target, count, stack):
    return [stack.enter_context(client.hold(*target)) for _ in range(count)]


def seen_on(client, target, held):
    """What held flows saw first, one at a time."""
    return [client.judged(*target, [flow.first]) for flow in held]
