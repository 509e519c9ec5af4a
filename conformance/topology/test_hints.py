# SPDX-License-Identifier: Apache-2.0
"""Topology hints: endpoints meant for a zone or a node, and when such hints count at all.

Since 1.34 the hints alone decide; before, an annotation or a field of the Service had to ask for them.
"""

from conformance.sources import SAME_NODE, TERMINATING, TRAFFIC_DISTRIBUTION, ZONE_LABEL
from plugins.requirements import everywhere, requirement
from plugins.slices import Endpoint, Slice, not_ready

# What a Service may ask for, none of which changes what its hints mean.
ASKED_FOR = (None, "PreferClose", "PreferSameZone", "PreferSameNode")


def one_for_each_zone(world):
    hinted = zip(world.backends(2), world.zones(2), strict=True)
    endpoints = [Endpoint(backend, for_zones=(zone,)) for backend, zone in hinted]
    return [world.service(endpoints=endpoints, trafficDistribution=asked) for asked in ASKED_FOR]


@requirement(
    "topology.zone-hints.keep-traffic-in-the-zone",
    must="Where every ready endpoint has a zone hint, traffic to a ClusterIP MUST go to endpoints hinted for the "
    "zone of the node that it starts on, whatever trafficDistribution the Service asks for.",
    level="extended",
    since="1.34",
    source=TRAFFIC_DISTRIBUTION,
    upstream=[
        "Topology Hints should distribute endpoints evenly",
        "Traffic Distribution should route traffic to an endpoint in the same zone when using PreferClose",
        "Traffic Distribution should route traffic to an endpoint in the same zone when using PreferSameZone",
    ],
    needs=["nodes:2"],
    arrange=one_for_each_zone,
)
@everywhere(family=["IPv4", "IPv6"])
def test_traffic_stays_in_the_zone(world, service, family):
    targets = [target for one in service for target in one.every_cluster_ip(family=family)]
    for node in world.nodes:
        [hinted] = [one.backend for one in service[0].endpoints if one.for_zones == (node.zone,)]

        world.on(node).each_must_reach_exactly(targets, [hinted])


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
    upstream=[
        "Traffic Distribution should route traffic correctly between pods on multiple nodes when using PreferClose",
        (
            "Traffic Distribution should route traffic correctly between pods on multiple nodes "
            "when using PreferSameZone"
        ),
    ],
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
    elsewhere = zip(world.backends(len(names)), [*names[1:], names[0]], strict=True)
    endpoints = [Endpoint(backend, for_nodes=(name,)) for backend, name in elsewhere]
    return [world.service(endpoints=endpoints, trafficDistribution=asked) for asked in ASKED_FOR]


@requirement(
    "topology.node-hints.keep-traffic-on-the-node",
    must="Where every ready endpoint has a node hint, traffic to a ClusterIP MUST go to endpoints hinted for the "
    "node that it starts on, whatever trafficDistribution the Service asks for.",
    level="extended",
    since="1.34",
    source=SAME_NODE,
    upstream=[
        (
            "Traffic Distribution should route traffic to an endpoint on the same node "
            "or fall back to same zone when using PreferSameNode"
        )
    ],
    needs=["nodes:2"],
    arrange=one_for_each_node,
)
@everywhere(family=["IPv4", "IPv6"])
def test_traffic_stays_on_the_node(world, service, family):
    targets = [target for one in service for target in one.every_cluster_ip(family=family)]
    for node in world.nodes:
        [hinted] = [one.backend for one in service[0].endpoints if one.for_nodes == (node.name,)]

        world.on(node).each_must_reach_exactly(targets, [hinted])


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
    upstream=[
        (
            "Traffic Distribution should route traffic to an endpoint on the same node "
            "or fall back to same zone when using PreferSameNode"
        )
    ],
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


def with_hints_in_one_of_two_slices(world):
    zone, _ = world.zones(2)
    hinted, without = world.backends(2)
    return world.service(slices=[Slice([Endpoint(hinted, for_zones=(zone,))]), Slice([without])])


@requirement(
    "topology.zone-hints.over-all-slices",
    must="Hints in one EndpointSlice of a Service MUST NOT count where endpoints in another one have none: every "
    "ready endpoint MUST be reached.",
    level="extended",
    since="1.34",
    source=TRAFFIC_DISTRIBUTION,
    needs=["nodes:2"],
    arrange=with_hints_in_one_of_two_slices,
)
@everywhere(family=["IPv4", "IPv6"])
def test_hints_count_over_all_slices(world, service, family):
    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)


def zones_and_frontends(world):
    hinted = zip(world.backends(2), world.zones(2), strict=True)
    endpoints = [Endpoint(backend, for_zones=(zone,)) for backend, zone in hinted]
    ingress = [ip for place in ("first", "second") for ip in world.virtual_ips(through=place)]
    return world.service(kind="LoadBalancer", endpoints=endpoints, ingress=ingress)


@requirement(
    "topology.zone-hints.of-the-node-that-is-dialled",
    must="For traffic from outside the zone of the node that it arrives at MUST decide which hints count, at node "
    "ports and at load balancers' IPs.",
    level="extended",
    since="1.34",
    source=TRAFFIC_DISTRIBUTION,
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=zones_and_frontends,
)
def test_zone_of_the_dialled_node_decides(world, service):
    for node in world.nodes[:2]:
        [hinted] = [one.backend for one in service.endpoints if one.for_zones == (node.zone,)]
        balanced = [target for target in service.every_load_balancer_ip() if world.enters_at(node, target)]

        world.everywhere("outside").each_must_reach_exactly([*service.every_node_port(node), *balanced], [hinted])


def hinted_away_from_every_node(world):
    """Both endpoints of each node, of which one is meant for its zone and one for another."""
    zones = world.zones(2)
    endpoints = [
        Endpoint(backend, for_zones=(zone,))
        for node in world.nodes
        for backend, zone in zip(node.backends[:2], zones, strict=True)
    ]
    policies = {"internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}
    return world.service(kind="NodePort", endpoints=endpoints, **policies)


@requirement(
    "topology.hints.nothing-to-local-policies",
    must="Under Local traffic policies hints MUST NOT count: every ready endpoint of the node MUST be reached.",
    level="extended",
    since="1.34",
    source=TRAFFIC_DISTRIBUTION,
    needs=["nodes:2", "external-client"],
    arrange=hinted_away_from_every_node,
)
def test_hints_are_nothing_to_local_policies(world, service):
    node_ports = [target for node in world.nodes for target in service.every_node_port(node)]

    world.everywhere("pod", "node").each_must_reach_all_that_is_allowed(service.every_cluster_ip())
    world.everywhere("outside").each_must_reach_all_that_is_allowed(node_ports)


def terminating_with_hints(world):
    hinted = zip(world.backends(2), world.zones(2), strict=True)
    return world.service(
        endpoints=[
            Endpoint(backend, ready=False, serving=True, terminating=True, for_zones=(zone,))
            for backend, zone in hinted
        ]
    )


@requirement(
    "topology.hints.nothing-to-the-terminating",
    must="Where no endpoint is ready, hints MUST NOT keep traffic from any of those that are still serving while "
    "they terminate.",
    level="extended",
    since="1.34",
    source=TERMINATING,
    needs=["nodes:2"],
    arrange=terminating_with_hints,
)
@everywhere(family=["IPv4", "IPv6"])
def test_hints_are_nothing_to_the_terminating(world, service, family):
    world.everywhere("pod", "node").each_must_reach_all_that_is_allowed(service.every_cluster_ip(family=family))


@requirement(
    "topology.hints.followed-when-they-change",
    must="Traffic MUST follow hints that change though their endpoints do not, MUST go to every endpoint once the "
    "one that was hinted for its node is gone, and MUST return when that is back.",
    level="extended",
    since="1.34",
    source=SAME_NODE,
    upstream=[
        (
            "Traffic Distribution should route traffic to an endpoint on the same node when using PreferSameNode "
            "and fall back when the endpoint becomes unavailable"
        )
    ],
    needs=["nodes:2"],
)
def test_changed_hints_are_followed(world):
    first, second = (node.name for node in world.nodes[:2])
    one, other = world.backends(2)
    as_they_are = [Endpoint(one, for_nodes=(first,)), Endpoint(other, for_nodes=(second,))]
    the_other_way = [Endpoint(one, for_nodes=(second,)), Endpoint(other, for_nodes=(first,))]
    service = world.service()
    for endpoints in (as_they_are, the_other_way, the_other_way[:1], as_they_are):
        service.set_endpoints(endpoints)
        world.settle()

        for node in world.nodes[:2]:
            hinted = [each.backend for each in endpoints if node.name in each.for_nodes]
            everyone = [each.backend for each in endpoints]
            world.on(node).each_must_reach_exactly(service.every_cluster_ip(), hinted or everyone)


@requirement(
    "topology.zone-hints.followed-when-the-node-moves",
    must="When a node's label topology.kubernetes.io/zone changes, traffic that starts on it MUST go to endpoints "
    "hinted for its new zone.",
    level="extended",
    since="1.34",
    source=ZONE_LABEL,
    needs=["nodes:2", "disruptive"],
)
def test_node_that_moves_to_another_zone_is_followed(world):
    node = world.node_at("first")
    [elsewhere] = [zone for zone in world.zones(2) if zone != node.zone]
    near, far = world.backends(2)
    service = world.service(endpoints=[Endpoint(near, for_zones=(node.zone,)), Endpoint(far, for_zones=(elsewhere,))])
    world.settle()
    world.on(node).each_must_reach_exactly(service.every_cluster_ip(), [near])

    with world.labelled(node, "topology.kubernetes.io/zone", elsewhere):
        world.settle("converge")
        world.on(node).each_must_reach_exactly(service.every_cluster_ip(), [far])
    world.settle("converge")

    world.on(node).each_must_reach_exactly(service.every_cluster_ip(), [near])
