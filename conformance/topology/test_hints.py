# SPDX-License-Identifier: Apache-2.0
"""Topology hints: endpoints meant for a zone or a node, and when such hints count at all.

Since 1.34 the hints alone decide; before, an annotation or a field of the Service had to ask for them.
"""

from conformance.sources import SAME_NODE, TRAFFIC_DISTRIBUTION
from plugins.requirements import everywhere, requirement
from plugins.slices import Endpoint, not_ready


def one_for_each_zone(world):
    hinted = zip(world.backends(2), world.zones(2), strict=True)
    return world.service(endpoints=[Endpoint(backend, for_zones=(zone,)) for backend, zone in hinted])


@requirement(
    "topology.zone-hints.keep-traffic-in-the-zone",
    must="Where every ready endpoint has a zone hint, traffic to a ClusterIP MUST go to endpoints hinted for the "
    "zone of the node that it starts on.",
    level="extended",
    since="1.34",
    source=TRAFFIC_DISTRIBUTION,
    upstream=["Traffic Distribution should route traffic to an endpoint in the same zone when using PreferSameZone"],
    needs=["nodes:2"],
    arrange=one_for_each_zone,
)
@everywhere(family=["IPv4", "IPv6"])
def test_traffic_stays_in_the_zone(world, service, family):
    for node in world.nodes:
        [hinted] = [one.backend for one in service.endpoints if one.for_zones == (node.zone,)]

        world.on(node).each_must_reach_exactly(service.every_cluster_ip(family=family), [hinted])


def all_but_one_with_zones(world):
    zone, _ = world.zones(2)
    hinted, other, without = world.backends(3)
    return world.service(endpoints=[Endpoint(hinted, for_zones=(zone,)), Endpoint(other, for_zones=(zone,)), without])


@requirement(
    "topology.zone-hints.all-or-nothing",
    must="Where a ready endpoint has no zone hint, those of the others MUST NOT count: every ready endpoint MUST be "
    "reached.",
    level="extended",
    since="1.34",
    source=TRAFFIC_DISTRIBUTION,
    needs=["nodes:2"],
    arrange=all_but_one_with_zones,
)
@everywhere(family=["IPv4", "IPv6"])
def test_zone_hints_are_all_or_nothing(world, service, family):
    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)


def all_for_one_zone(world):
    zone, _ = world.zones(2)
    return world.service(endpoints=[Endpoint(backend, for_zones=(zone,)) for backend in world.backends(2)])


@requirement(
    "topology.zone-hints.nobody-for-this-zone",
    must="Where no ready endpoint is hinted for a node's zone, traffic from there MUST reach every ready endpoint, "
    "rather than none.",
    level="extended",
    since="1.34",
    source=TRAFFIC_DISTRIBUTION,
    needs=["nodes:2"],
    arrange=all_for_one_zone,
)
@everywhere(family=["IPv4", "IPv6"])
def test_a_zone_without_endpoints_uses_all(world, service, family):
    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)


def hinted_besides_one_that_is_not_ready(world):
    here, there = world.zones(2)
    first, second, third = world.backends(3)
    return world.service(
        endpoints=[Endpoint(first, for_zones=(here,)), Endpoint(second, for_zones=(there,)), not_ready(third)]
    )


@requirement(
    "topology.zone-hints.unready-endpoints-have-no-say",
    must="An endpoint that is not ready and has no hint MUST NOT keep the hints of the ready ones from counting.",
    level="extended",
    since="1.34",
    source=TRAFFIC_DISTRIBUTION,
    needs=["nodes:2"],
    arrange=hinted_besides_one_that_is_not_ready,
)
@everywhere(family=["IPv4", "IPv6"])
def test_unready_endpoints_have_no_say(world, service, family):
    for node in world.nodes:
        hinted = [one.backend for one in service.endpoints if node.zone in one.for_zones]

        world.on(node).each_must_reach_exactly(service.every_cluster_ip(family=family), hinted)


def one_for_each_node(world):
    """Each node's endpoint runs elsewhere, so that it is the hint that counts, and not the place."""
    names = [node.name for node in world.nodes]
    elsewhere = [*names[1:], names[0]]
    return world.service(
        endpoints=[
            Endpoint(backend, for_nodes=(name,))
            for backend, name in zip(world.backends(len(names)), elsewhere, strict=True)
        ]
    )


@requirement(
    "topology.node-hints.keep-traffic-on-the-node",
    must="Where every ready endpoint has a node hint, traffic to a ClusterIP MUST go to endpoints hinted for the "
    "node that it starts on.",
    level="extended",
    since="1.34",
    source=SAME_NODE,
    upstream=["Traffic Distribution should route traffic to an endpoint on the same node when using PreferSameNode"],
    needs=["nodes:2"],
    arrange=one_for_each_node,
)
@everywhere(family=["IPv4", "IPv6"])
def test_traffic_stays_on_the_node(world, service, family):
    for node in world.nodes:
        [hinted] = [one.backend for one in service.endpoints if one.for_nodes == (node.name,)]

        world.on(node).each_must_reach_exactly(service.every_cluster_ip(family=family), [hinted])


def node_and_zone_hints_at_odds(world):
    first, second = world.backends(2)
    here, there = world.node_at("first"), world.node_at("second")
    world.zones(2)
    return world.service(
        endpoints=[
            Endpoint(first, for_nodes=(here.name,), for_zones=(there.zone,)),
            Endpoint(second, for_nodes=("a-node-that-is-gone",), for_zones=(here.zone,)),
        ]
    )


@requirement(
    "topology.node-hints.before-zone-hints",
    must="Node hints MUST count before zone hints; on a node that none of them names, the zone hints MUST count.",
    level="extended",
    since="1.34",
    source=SAME_NODE,
    needs=["nodes:2"],
    arrange=node_and_zone_hints_at_odds,
)
@everywhere(family=["IPv4", "IPv6"])
def test_node_hints_come_first(world, service, family):
    first, _ = (one.backend for one in service.endpoints)

    for place in ("first", "second"):
        world.on(world.node_at(place)).each_must_reach_exactly(service.every_cluster_ip(family=family), [first])


def all_but_one_with_nodes(world):
    hinted, without = world.backends(2)
    return world.service(endpoints=[Endpoint(hinted, for_nodes=(world.nodes[0].name,)), without])


@requirement(
    "topology.node-hints.all-or-nothing",
    must="Where a ready endpoint has no node hint, those of the others MUST NOT count: every ready endpoint MUST be "
    "reached.",
    level="extended",
    since="1.34",
    source=SAME_NODE,
    needs=["nodes:2"],
    arrange=all_but_one_with_nodes,
)
@everywhere(family=["IPv4", "IPv6"])
def test_node_hints_are_all_or_nothing(world, service, family):
    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)
