# SPDX-License-Identifier: Apache-2.0
"""Schedulers of IPVS among endpoints that all have weight 1, as kube-proxy gives them.

With equal weights some are alike (`wrr` is `rr`; `wlc`, `sed` and `nq` are `lc` while connections are held), and some
look unfair: these are judged by what they promise, one endpoint at a time. plugins/statistics.py has the rules.
"""

from contextlib import ExitStack

from conformance.distribution.test_random import some
from conformance.distribution.test_schedulers import IPVS, held_by, one_by_one, scheduled, seen_on
from conformance.sources import IPVS_SCHEDULERS
from plugins.requirements import requirement
from plugins.spread import must_follow
from plugins.statistics import fewest, locality, locality_replicated, overflow, same_endpoint

ENDPOINTS = 3


def four_in_weighted_turn(world):
    return scheduled(world, "wrr", 4)


@requirement(
    "distribution.wrr.equal-weights",
    must="Weighted round robin MUST give endpoints of equal weight as many new connections each, but for one.",
    level="extended",
    since="1.8",
    source=IPVS,
    features=["scheduler-wrr"],
    arrange=four_in_weighted_turn,
)
def test_weighted_round_robin(world, service):
    for target in service.every_cluster_ip():
        must_follow(one_by_one(world.vantage("pod"), target, 24), fewest, "turns")


def three_by_weighted_connections(world):
    return scheduled(world, "wlc", ENDPOINTS)


@requirement(
    "distribution.wlc.equal-weights",
    must="Weighted least connection MUST give a new connection to an endpoint that has the fewest, among endpoints "
    "of equal weight.",
    level="extended",
    since="1.8",
    source=IPVS,
    features=["scheduler-wlc"],
    arrange=three_by_weighted_connections,
)
def test_weighted_least_connection(world, service):
    for target in service.every_cluster_ip("TCP"):
        must_hold(world, target, 30, fewest, "fewest connections")


def three_by_delay(world):
    return scheduled(world, "sed", ENDPOINTS)


@requirement(
    "distribution.sed.equal-weights",
    must="Shortest expected delay MUST give a new connection to an endpoint that has the fewest, among endpoints of "
    "equal weight.",
    level="extended",
    since="1.8",
    source=IPVS,
    features=["scheduler-sed"],
    arrange=three_by_delay,
)
def test_shortest_expected_delay(world, service):
    for target in service.every_cluster_ip("TCP"):
        must_hold(world, target, 30, fewest, "least delay")


def three_without_queue(world):
    return scheduled(world, "nq", ENDPOINTS)


@requirement(
    "distribution.nq.equal-weights",
    must="Never queue MUST give a new connection to an idle endpoint, and to one that has the fewest where none is "
    "idle, among endpoints of equal weight.",
    level="extended",
    since="1.8",
    source=IPVS,
    features=["scheduler-nq"],
    arrange=three_without_queue,
)
def test_never_queue(world, service):
    for target in service.every_cluster_ip("TCP"):
        must_hold(world, target, 30, fewest, "idle first, then least delay")


def three_by_locality(world):
    return scheduled(world, "lblc", ENDPOINTS)


@requirement(
    "distribution.lblc.address-keeps-its-endpoint",
    must="Locality-based least connection MUST leave an address with its endpoint, unless that has more connections "
    "than its weight while another has less than half of its own.",
    level="extended",
    since="1.8",
    source=IPVS,
    features=["scheduler-lblc"],
    arrange=three_by_locality,
)
def test_locality_based(world, service):
    client = world.vantage("pod")
    for target in service.every_cluster_ip("TCP"):
        must_follow(one_by_one(client, target, 14), same_endpoint, "one endpoint for an address")
        must_hold(world, target, 15, locality, "locality")


def three_by_replicated_locality(world):
    return scheduled(world, "lblcr", ENDPOINTS)


@requirement(
    "distribution.lblcr.address-gets-more-endpoints",
    must="Locality-based least connection with replication MUST leave an address with its endpoints, and give it one "
    "more when they are overloaded.",
    level="extended",
    since="1.8",
    source=IPVS,
    features=["scheduler-lblcr"],
    arrange=three_by_replicated_locality,
)
def test_locality_based_with_replication(world, service):
    client = world.vantage("pod")
    for target in service.every_cluster_ip("TCP"):
        must_follow(one_by_one(client, target, 14), same_endpoint, "one endpoint for an address")
        must_hold(world, target, 24, locality_replicated, "locality, replicated")


def three_to_overflow(world):
    return scheduled(world, "ovf", ENDPOINTS)


@requirement(
    "distribution.ovf.one-after-the-other",
    must="Weighted overflow MUST give new connections to an endpoint until it has more than its weight, and only "
    "then to the next.",
    level="extended",
    since="1.8",
    source=IPVS_SCHEDULERS,
    features=["scheduler-ovf"],
    arrange=three_to_overflow,
)
def test_overflow(world, service):
    for target in service.every_cluster_ip("TCP"):
        for _ in range(3):
            must_hold(world, target, 2 * ENDPOINTS, overflow, "overflow")


def four_to_fail_over(world):
    return scheduled(world, "fo", 4)


@requirement(
    "distribution.fo.one-until-it-goes",
    must="Weighted failover MUST give all new connections to one endpoint, and all to another when that one goes.",
    level="extended",
    since="1.8",
    source=IPVS_SCHEDULERS,
    features=["scheduler-fo"],
    arrange=four_to_fail_over,
    changes=True,
)
def test_failover(world, service):
    client, targets = world.vantage("pod"), some(service.every_cluster_ip())
    found = [client.open(*target, count=24) for target in targets]
    for flows in found:
        must_follow([flows], same_endpoint, "one endpoint")

    gone = {name for flows in found for name in flows.backends}
    service.set_endpoints([one for one in world.backends(4) if one.name not in gone])
    world.settle()

    for target in targets:
        must_follow([client.open(*target, count=24)], same_endpoint, "one endpoint")


def must_hold(world, target, count, rule, model):
    """So many connections, opened one after the other and kept, must go where the rule lets each."""
    client = world.vantage("pod")
    with ExitStack() as stack:
        must_follow(seen_on(client, target, held_by(client, target, count, stack)), rule, model)
