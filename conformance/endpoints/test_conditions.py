# SPDX-License-Identifier: Apache-2.0
"""Which endpoints of a slice are used, by their conditions."""

from conformance.sources import SLICE_API, SLICES, TERMINATING
from plugins.requirements import ON_EVERY_NODE, everywhere, requirement
from plugins.slices import Endpoint, not_ready


def one_not_ready(world):
    ready, other, unready = world.backends(3)
    return world.service(
        kind="NodePort",
        endpoints=[Endpoint(ready), Endpoint(other), Endpoint(unready, ready=False, serving=False)],
    )


@requirement(
    "endpoints.not-ready.never-used",
    must="An endpoint that is not ready and not terminating MUST NOT receive any connection.",
    level="core",
    since="1.21",
    source=SLICES + "#conditions",
    arrange=one_not_ready,
)
@everywhere(vantage=ON_EVERY_NODE, protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_not_ready_endpoint_is_never_used(world, service, vantage, protocol, family):
    for frontend in (service.cluster_ip(family), service.node_port(world.nodes[0], family, protocol)):
        flows = vantage.open(frontend, protocol, count=service.enough_to_see_every_endpoint())

        flows.must_reach_exactly(service.ready_backends)


def without_conditions(world):
    return world.service(endpoints=[Endpoint(backend, ready=None) for backend in world.backends(2)])


@requirement(
    "endpoints.conditions.absent-means-ready",
    must="An endpoint whose EndpointSlice gives it no conditions MUST be used like one that is ready.",
    level="core",
    since="1.21",
    source=SLICES + "#conditions",
    arrange=without_conditions,
)
@everywhere(family=["IPv4", "IPv6"])
def test_absent_conditions_mean_ready(world, service, family):
    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)


def ready_and_more(world):
    plain, dying, unserving = world.backends(3)
    leaving = Endpoint(unserving, ready=True, serving=False, terminating=True)
    mixed = [Endpoint(plain), Endpoint(dying, ready=True, serving=True, terminating=True), leaving]
    return [world.service(kind="NodePort", endpoints=endpoints) for endpoints in (mixed, [leaving])]


@requirement(
    "endpoints.conditions.ready-decides-alone",
    must="An endpoint that is said to be ready MUST be used although it is terminating, and although it is not "
    "serving: that is how publishNotReadyAddresses shows.",
    level="extended",
    since="1.21",
    source=SLICES + "#conditions",
    upstream=[
        "Services should create endpoints for unready pods",
        "Services should be able to connect to terminating and unready endpoints if PublishNotReadyAddresses is true",
    ],
    needs=["external-client"],
    arrange=ready_and_more,
)
@everywhere(family=["IPv4", "IPv6"])
def test_ready_decides_alone(world, service, family):
    for one in service:
        node_ports = [target for node in world.nodes for target in one.every_node_port(node, family=family)]

        world.everywhere("pod", "node").each_must_reach_exactly(one.every_cluster_ip(family=family), one)
        world.everywhere("outside").each_must_reach_exactly(node_ports, one)


def serving_and_no_more(world):
    first, second, ready = world.backends(3)
    serving = [
        Endpoint(first, ready=False, serving=True, terminating=False),
        Endpoint(second, ready=False, serving=True),
    ]
    return [world.service(kind="NodePort", endpoints=endpoints) for endpoints in (serving, [*serving, ready])]


@requirement(
    "endpoints.conditions.serving-is-not-ready",
    must="An endpoint that is serving but neither ready nor terminating MUST NOT be used, not even for want of "
    "others: such a Service MUST refuse connections.",
    level="extended",
    since="1.26",
    source=TERMINATING,
    needs=["external-client"],
    arrange=serving_and_no_more,
)
@everywhere(family=["IPv4", "IPv6"])
def test_serving_is_not_ready(world, service, family):
    for one in service:
        node_ports = [target for node in world.nodes for target in one.every_node_port(node, family=family)]

        world.everywhere("pod", "node").each_must_reach_exactly(one.every_cluster_ip(family=family), one)
        world.everywhere("outside").each_must_reach_exactly(node_ports, one)


def without_node_names(world):
    unplaced = [Endpoint(backend, placed=False) for backend in world.backends(2)]
    return world.service(endpoints=unplaced), world.service(endpoints=unplaced, internalTrafficPolicy="Local")


@requirement(
    "endpoints.node-name.absent-is-on-no-node",
    must="An endpoint whose EndpointSlice does not name its node MUST be used under a Cluster traffic policy, and "
    "MUST NOT count as any node's own under a Local one.",
    level="extended",
    since="1.22",
    source=SLICE_API,
    arrange=without_node_names,
)
def test_endpoint_without_a_node(world, service):
    cluster, local = service

    world.everywhere("pod", "node").each_must_reach_exactly(cluster.every_cluster_ip(), cluster)
    world.everywhere("pod", "node").each_must_reach_all_that_is_allowed(local.every_cluster_ip())


@requirement(
    "endpoints.conditions.followed-when-they-change",
    must="When readiness passes from one endpoint of a Service to another, new connections MUST reach the second "
    "and no longer the first.",
    level="extended",
    since="1.21",
    source=SLICES + "#conditions",
    upstream=[
        (
            "Connectivity Pod Lifecycle should be able to have zero downtime on a Blue Green deployment "
            "using Services and Readiness Gates"
        )
    ],
)
def test_readiness_passes_to_another(world):
    blue, green = world.backends(2)
    service = world.service()
    for endpoints in ([Endpoint(blue), not_ready(green)], [not_ready(blue), Endpoint(green)]):
        service.set_endpoints(endpoints)
        world.settle()

        world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)
