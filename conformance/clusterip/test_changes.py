# SPDX-License-Identifier: Apache-2.0
"""ClusterIP: endpoints and Services that come and go."""

from conformance.sources import SECONDARY_FAMILY, SERVICE, SLICES, VIRTUAL_IPS
from plugins.requirements import requirement


@requirement(
    "clusterip.endpoints.added",
    must="An endpoint added to a Service MUST receive new connections, beside those already there.",
    level="core",
    since="1.0",
    source=SLICES,
    upstream=["Services should serve a basic endpoint from pods"],
    arrange=lambda world: world.service(endpoints=world.backends(1)),
    changes=True,
)
def test_added_endpoint_is_used(world, service):
    world.everywhere("pod", "node").each_must_stay_within_the_verdict(service.every_cluster_ip(), count=4)

    service.set_endpoints(world.backends(3))
    world.settle()

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)


@requirement(
    "clusterip.endpoints.removed",
    must="An endpoint removed from a Service MUST NOT receive new connections, and the rest MUST go on serving.",
    level="core",
    since="1.0",
    source=SLICES,
    upstream=[
        "Networking Granular Checks: Services should update endpoints: http",
        "Networking Granular Checks: Services should update endpoints: udp",
        SECONDARY_FAMILY + "should update endpoints: http",
        SECONDARY_FAMILY + "should update endpoints: udp",
    ],
    arrange=lambda world: world.service(endpoints=world.backends(3)),
    changes=True,
)
def test_removed_endpoint_is_left_alone(world, service):
    world.everywhere("pod", "node").each_must_stay_within_the_verdict(service.every_cluster_ip(), count=4)

    service.set_endpoints(world.backends(3)[1:])
    world.settle()

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)


@requirement(
    "clusterip.endpoints.none-and-back",
    must="A Service whose endpoints come, go to none and come back MUST serve, refuse and serve again.",
    level="core",
    since="1.0",
    source=VIRTUAL_IPS,
    upstream=["Services should serve a basic endpoint from pods"],
)
def test_endpoints_come_go_and_come_back(world):
    service = world.service(endpoints=[])
    for count in (2, 0, 2):
        service.set_endpoints(world.backends(count))
        world.settle()

        world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)


@requirement(
    "clusterip.service.deleted",
    must="A deleted Service's ClusterIP MUST NOT lead to its former endpoints, "
    "and other Services MUST go on serving.",
    level="core",
    since="1.0",
    source=SERVICE,
    upstream=["Services should be able to up and down services"],
    arrange=lambda world: [world.service(endpoints=world.backends(2)) for _ in range(2)],
    changes=True,
)
def test_deleted_service_is_gone(world, service):
    doomed, other = service
    frontends = doomed.every_cluster_ip()
    world.everywhere("pod", "node").each_must_stay_within_the_verdict(frontends, count=4)

    doomed.delete()
    world.settle()

    world.everywhere("pod", "node").each_must_stay_within_the_verdict(frontends, count=4)
    world.everywhere("pod", "node").each_must_reach_exactly(other.every_cluster_ip(), other)


@requirement(
    "clusterip.service.created-again",
    must="A Service created again under its old name, with other endpoints, MUST lead to those and to no old one.",
    level="core",
    since="1.0",
    source=SERVICE,
    upstream=["Services should work after the service has been recreated"],
    arrange=lambda world: world.service(endpoints=world.backends(2)),
    changes=True,
)
def test_recreated_service_serves_its_new_endpoints(world, service):
    new, frontends = world.backends(4)[2:], service.every_cluster_ip()
    world.everywhere("pod", "node").each_must_stay_within_the_verdict(frontends, count=4)

    service.delete()
    service.create_again(new, same_addresses=True)
    world.settle()

    world.everywhere("pod", "node").each_must_reach_exactly(frontends, service)
