# SPDX-License-Identifier: Apache-2.0
"""externalTrafficPolicy Local, and conditions of endpoints: which nodes may answer for a load balancer's IP."""

from conformance.sources import METALLB_LOCAL, METALLB_READY, METALLB_SHARING, METALLB_TROUBLE
from plugins.announcing import announced, overhearing, settled
from plugins.requirements import requirement
from plugins.slices import Endpoint

CONDITIONS = [
    # ready, serving, terminating
    (True, True, False),
    (None, None, None),
    (True, False, False),  # as publishNotReadyAddresses has it
    (False, True, True),
    (False, True, False),
    (False, False, True),
    (False, False, False),
]


@requirement(
    "announcer.local.only-nodes-with-endpoints",
    must="Under externalTrafficPolicy Local only a node that has an active endpoint of the Service MUST answer for "
    "its IP; when the endpoints move to another node, that one MUST make itself known unasked, and alone.",
    level="extended",
    since="1.21",
    source=METALLB_TROUBLE,
    needs=["nodes:2", "external-client", "announcer"],
)
def test_local_follows_endpoints(world):
    one, other = world.node_at("first"), world.node_at("second")
    outside = world.everywhere("outside")
    service = announced(world, endpoints=one.backends, externalTrafficPolicy="Local")
    settled(world, service).must_be_right()
    outside.each_must_reach_exactly(service.every_load_balancer_ip(), service)

    with overhearing(world) as heard:
        since = world.now()
        service.set_endpoints(other.backends)
        answers = settled(world, service)

    answers.must_be_right()
    heard.must_have_announced(world, answers.leaders, within=world.deadlines.failover, since=since)
    outside.each_must_reach_exactly(service.every_load_balancer_ip(), service)


@requirement(
    "announcer.local.shared-ip-follows-endpoints",
    must="An IP that two Services with externalTrafficPolicy Local and the same endpoints share MUST be answered for "
    "by a node that has them, and by that alone, when they have moved.",
    level="extended",
    since="1.21",
    source=METALLB_SHARING,
    needs=["nodes:2", "external-client", "announcer"],
)
def test_shared_local_follows_endpoints(world):
    ips, sharing = world.announced_ips(), {"metallb.io/allow-shared-ip": "local"}
    pods = {place: world.node_at(place).backends for place in ("first", "second")}
    services = [
        announced(
            world,
            endpoints=pods["first"],
            port=port,
            ingress=ips,
            annotations=sharing,
            externalTrafficPolicy="Local",
        )
        for port in (80, 443)
    ]
    settled(world, *services).must_be_right()

    for service in services:
        service.set_endpoints(pods["second"])
    settled(world, *services).must_be_right()

    outside = world.everywhere("outside")
    for service in services:
        outside.each_must_reach_exactly(service.every_load_balancer_ip(), service)


@requirement(
    "announcer.local.keeps-the-source",
    must="Under externalTrafficPolicy Local endpoints behind an announced IP MUST see the client's own address.",
    level="extended",
    since="1.21",
    source=METALLB_LOCAL,
    needs=["nodes:2", "external-client", "announcer"],
)
def test_local_keeps_the_source(world):
    service = announced(world, endpoints=world.backends(3), externalTrafficPolicy="Local")
    settled(world, service).must_be_right()

    world.everywhere("outside").each_must_reach_all_that_is_allowed(service.every_load_balancer_ip())


@requirement(
    "announcer.endpoints.conditions",
    must="A load balancer's IP MUST be answered for if and only if an endpoint of its Service is ready, as all are "
    "of a Service that publishes not ready ones, or is still serving.",
    level="extended",
    since="1.26",
    source=METALLB_READY,
    needs=["external-client", "announcer"],
)
def test_conditions(world):
    (pod,) = world.backends(1)
    services = [
        announced(
            world,
            endpoints=[Endpoint(pod, *conditions)],
            publishNotReadyAddresses=conditions[:2] == (True, False),
            externalTrafficPolicy=policy,
        )
        for conditions in CONDITIONS
        for policy in ("Cluster", "Local")
    ]

    settled(world, *services).must_be_right()
