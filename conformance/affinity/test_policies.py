# SPDX-License-Identifier: Apache-2.0
"""Session affinity ClientIP under Local policies: one endpoint of those that the policy leaves."""

from conformance.affinity.test_client_ip import ENOUGH, SOURCE
from plugins.requirements import requirement


@requirement(
    "affinity.external-local.sticks",
    must="Under ClientIP affinity and externalTrafficPolicy Local all connections of a client from outside MUST "
    "reach one and the same endpoint of the node where they arrive.",
    level="extended",
    since="1.0",
    source=SOURCE,
    upstream=["LoadBalancers should have session affinity work for LoadBalancer service with Local traffic policy"],
    needs=["external-client", "lb-route"],
    arrange=lambda world: world.service(
        kind="LoadBalancer",
        endpoints=world.backends(6),
        ingress=world.virtual_ips(),
        externalTrafficPolicy="Local",
        sessionAffinity="ClientIP",
    ),
)
def test_client_sticks_to_an_endpoint_where_it_arrives(world, service):
    outside = world.everywhere("outside")

    outside.each_must_stick_to_one(service.every_load_balancer_ip(), count=ENOUGH)
    for node in world.nodes:
        outside.each_must_stick_to_one(service.every_node_port(node), count=ENOUGH)


@requirement(
    "affinity.internal-local.sticks",
    must="Under ClientIP affinity and internalTrafficPolicy Local all connections of a client MUST reach one and the "
    "same endpoint of its node.",
    level="extended",
    since="1.26",
    source=SOURCE,
    arrange=lambda world: world.service(
        endpoints=world.backends(6), internalTrafficPolicy="Local", sessionAffinity="ClientIP"
    ),
)
def test_client_sticks_to_an_endpoint_of_its_node(world, service):
    world.everywhere("pod", "node").each_must_stick_to_one(service.every_cluster_ip(), count=ENOUGH)


def on_the_second_node_with_affinity(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=world.node_at("second").backends[:1],
        ingress=world.virtual_ips(),
        sessionAffinity="ClientIP",
    )


@requirement(
    "affinity.external-local.comes-first",
    must="A client under ClientIP affinity whose endpoint a Local policy rules out MUST be served by one that the "
    "policy allows.",
    level="extended",
    since="1.0",
    source=SOURCE,
    needs=["external-client", "lb-route", "nodes:2"],
    arrange=on_the_second_node_with_affinity,
    changes=True,
)
def test_policy_comes_before_affinity(world, service):
    here, elsewhere = world.node_at("first").backends[0], world.node_at("second").backends[0]
    outside = world.everywhere("outside")
    outside.each_must_stick_to_one(service.every_load_balancer_ip(), count=2)

    service.change(externalTrafficPolicy="Local")
    service.set_endpoints([elsewhere, here])
    world.settle()

    outside.each_must_stick_to_one(service.every_load_balancer_ip(), count=ENOUGH)
    outside.each_must_reach_exactly(service.every_load_balancer_ip(), [here])
