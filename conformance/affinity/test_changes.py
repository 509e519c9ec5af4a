# SPDX-License-Identifier: Apache-2.0
"""Session affinity ClientIP while the Service and its endpoints change: who stays, and who must move."""

from conformance.affinity.test_client_ip import ENOUGH, SOURCE
from plugins.requirements import requirement
from plugins.slices import terminating


def under_both_policies(world):
    return [
        world.service(
            kind="LoadBalancer",
            endpoints=world.backends(6),
            ingress=world.virtual_ips(),
            externalTrafficPolicy=policy,
        )
        for policy in ("Cluster", "Local")
    ]


@requirement(
    "affinity.client-ip.switched-on",
    must="Once a Service is given ClientIP affinity, all connections of a client MUST reach one and the same "
    "endpoint, whatever its traffic policy.",
    level="extended",
    since="1.0",
    source=SOURCE,
    upstream=[
        "Services should be able to switch session affinity for service with type clusterIP",
        "Services should be able to switch session affinity for NodePort service",
        "LoadBalancers should be able to switch session affinity for LoadBalancer service with Local traffic policy",
        (
            "LoadBalancers should be able to switch session affinity for LoadBalancer service with Cluster traffic "
            "policy"
        ),
    ],
    needs=["external-client", "lb-route"],
    arrange=under_both_policies,
    changes=True,
)
def test_affinity_is_switched_on(world, service):
    first = world.node_at("first")
    inside, outside = world.everywhere("pod", "node"), world.everywhere("outside")
    for one in service:
        inside.each_must_reach_exactly(one.every_cluster_ip(), one)
        one.change(sessionAffinity="ClientIP")
    world.settle()

    inside.each_must_stick_to_one([one for each in service for one in each.every_cluster_ip()], count=ENOUGH)
    outside.each_must_stick_to_one([one for each in service for one in each.every_load_balancer_ip()], count=ENOUGH)
    outside.each_must_stick_to_one([one for each in service for one in each.every_node_port(first)], count=ENOUGH)


@requirement(
    "affinity.client-ip.others-do-not-matter",
    must="A client under ClientIP affinity MUST stay with its endpoint while others are added to the Service and "
    "removed again.",
    level="extended",
    since="1.0",
    source=SOURCE,
    arrange=lambda world: world.service(endpoints=world.backends(3), sessionAffinity="ClientIP"),
    changes=True,
)
def test_clients_stay_while_others_come_and_go(world, service):
    mine, others = world.backends(5)[:3], world.backends(5)[3:]
    pins = world.pin(world.everywhere("pod", "node").lines(service.every_cluster_ip()))

    for endpoints in ([*others, *mine], mine):
        service.set_endpoints(endpoints)
        world.settle()
        pins.must_hold()


@requirement(
    "affinity.client-ip.endpoint-terminating",
    must="A client under ClientIP affinity whose endpoint is terminating MUST be served by a ready one, "
    "even while its own is serving.",
    level="extended",
    since="1.26",
    source=SOURCE,
    arrange=lambda world: world.service(endpoints=world.backends(1), sessionAffinity="ClientIP"),
    changes=True,
)
def test_clients_leave_an_endpoint_that_terminates(world, service):
    anyone = world.everywhere("pod", "node")
    old, new = world.backends(2)
    anyone.each_must_stick_to_one(service.every_cluster_ip(), count=2)

    service.set_endpoints([terminating(old), new])
    world.settle()

    anyone.each_must_reach_exactly(service.every_cluster_ip(), [new])
