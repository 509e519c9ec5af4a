# SPDX-License-Identifier: Apache-2.0
"""healthCheckNodePort: how a load balancer learns which nodes hold endpoints. For kube-proxy's way of telling it."""

from conformance.sources import ENDPOINT_WEIGHT, LOAD_BALANCER_TASK, SOURCE_IP, TERMINATING
from plugins.healthchecks import ask_every_node
from plugins.requirements import everywhere, requirement
from plugins.services import Port
from plugins.slices import Endpoint, Slice, terminating

SOURCE = SOURCE_IP + "#source-ip-for-services-with-type-loadbalancer"


def on_some_nodes(world):
    first, second = world.node_at("first"), world.node_at("second")
    return world.service(
        kind="LoadBalancer", endpoints=[*first.backends[:2], second.backends[0]], externalTrafficPolicy="Local"
    )


@requirement(
    "health-check.node-port.tells-who-has-endpoints",
    must="The health check node port MUST answer 200 on nodes with ready endpoints of the Service "
    "and 503 on all others.",
    level="extended",
    since="1.7",
    source=SOURCE,
    upstream=["LoadBalancers ExternalTrafficPolicy: Local should only target nodes with endpoints"],
    needs=["nodes:3", "external-client"],
    arrange=on_some_nodes,
)
@everywhere(vantage=["outside", "node"], family=["IPv4", "IPv6"])
def test_health_check_tells_who_has_endpoints(world, service, vantage, family):
    checks = ask_every_node(world, vantage, service, family)

    checks.must_be_what_the_model_says()
    assert {check.status for check in checks} == {200, 503}


@requirement(
    "health-check.node-port.counts-endpoints",
    should="The health check node port SHOULD say in JSON (localEndpoints) how many endpoints of the Service the "
    "node holds.",
    level="extended",
    since="1.7",
    source=LOAD_BALANCER_TASK + "#preserving-the-client-source-ip",
    needs=["nodes:3", "external-client"],
    arrange=on_some_nodes,
)
@everywhere(family=["IPv4", "IPv6"])
def test_health_check_counts_endpoints(world, service, family):
    ask_every_node(world, world.vantage("outside"), service, family).must_count_local_endpoints()


def draining_on_the_first_node(world):
    first, second = world.backends(2)
    return world.service(
        kind="LoadBalancer", endpoints=[terminating(first), Endpoint(second)], externalTrafficPolicy="Local"
    )


@requirement(
    "health-check.node-port.terminating-endpoints-do-not-count",
    must="The health check node port MUST answer 503 on a node whose endpoints all are terminating, "
    "and 200 where there is a ready one.",
    level="extended",
    since="1.26",
    source=TERMINATING,
    upstream=["Services should fail health check node port if there are only terminating endpoints"],
    needs=["nodes:2", "external-client"],
    arrange=draining_on_the_first_node,
)
@everywhere(family=["IPv4", "IPv6"])
def test_terminating_endpoints_do_not_count(world, service, family):
    checks = ask_every_node(world, world.vantage("outside"), service, family)

    checks.must_be_what_the_model_says()
    assert {check.status for check in checks} == {200, 503}


@requirement(
    "health-check.node-port.tells-the-weight",
    should="The health check node port SHOULD give the number of the Service's endpoints that the node holds in the "
    "header X-Load-Balancing-Endpoint-Weight.",
    level="extended",
    since="1.28",
    source=ENDPOINT_WEIGHT,
    needs=["nodes:3", "external-client"],
    arrange=on_some_nodes,
)
@everywhere(family=["IPv4", "IPv6"])
def test_health_check_gives_the_weight(world, service, family):
    ask_every_node(world, world.vantage("outside"), service, family).must_give_the_weight()


@requirement(
    "health-check.node-port.names-the-service",
    should="The health check node port SHOULD name the Service in what it answers, in JSON by its header too.",
    level="extended",
    since="1.7",
    source=ENDPOINT_WEIGHT,
    needs=["nodes:3", "external-client"],
    arrange=on_some_nodes,
)
@everywhere(family=["IPv4", "IPv6"])
def test_health_check_names_the_service(world, service, family):
    ask_every_node(world, world.vantage("outside"), service, family).must_name_the_service()


def pods_with_two_ports(world):
    """Each port in EndpointSlices of its own, so that a pod stands in two."""
    pods = world.node_at("first").backends[:2]
    return world.service(
        kind="LoadBalancer",
        ports=[Port(80, 8080, "TCP"), Port(443, 8081, "TCP")],
        slices=[Slice(pods, targets={"tcp-80": 8080}), Slice(pods[:1], targets={"tcp-443": 8081})],
        externalTrafficPolicy="Local",
    )


@requirement(
    "health-check.node-port.counts-each-pod-once",
    should="The health check node port SHOULD count an endpoint once that serves several ports of the Service.",
    level="extended",
    since="1.7",
    source=ENDPOINT_WEIGHT,
    needs=["external-client"],
    arrange=pods_with_two_ports,
)
@everywhere(family=["IPv4", "IPv6"])
def test_health_check_counts_each_pod_once(world, service, family):
    ask_every_node(world, world.vantage("outside"), service, family).must_count_local_endpoints()


@requirement(
    "health-check.node-port.follows-the-endpoints",
    must="The health check node port MUST follow endpoints that come, go and move to another node, MUST fall silent "
    "once the policy is no longer Local, and MUST answer again when it is.",
    level="extended",
    since="1.7",
    source=SOURCE,
    upstream=[
        "Services should implement NodePort and HealthCheckNodePort correctly when ExternalTrafficPolicy changes",
        "LoadBalancers ExternalTrafficPolicy: Local should only target nodes with endpoints",
        "LoadBalancers ExternalTrafficPolicy: Local should work for type=LoadBalancer",
    ],
    needs=["nodes:2", "external-client"],
)
def test_health_check_follows_the_endpoints(world):
    [first, other], [second, *_] = (world.node_at(place).backends[:2] for place in ("first", "second"))
    service = world.service(kind="LoadBalancer", endpoints=[first, other], externalTrafficPolicy="Local")
    for change in (
        lambda: None,
        lambda: service.set_endpoints([first]),
        lambda: service.set_endpoints([]),
        lambda: service.set_endpoints([first, second]),
        lambda: service.set_endpoints([second]),
        lambda: service.change(externalTrafficPolicy="Cluster", healthCheckNodePort=None),
        lambda: service.change(externalTrafficPolicy="Local"),
    ):
        change()
        world.settle()

        for family in world.families:
            ask_every_node(world, world.vantage("outside"), service, family).must_be_what_the_model_says()


def two_on_the_first_node(world):
    return [
        world.service(kind="LoadBalancer", endpoints=world.backends(1), externalTrafficPolicy="Local")
        for _ in range(2)
    ]


@requirement(
    "health-check.node-port.closed-with-its-service",
    must="The health check node port of a deleted Service MUST NOT answer any more.",
    level="extended",
    since="1.7",
    source=SOURCE,
    needs=["external-client"],
    arrange=two_on_the_first_node,
    changes=True,
)
def test_health_check_is_closed_with_its_service(world, service):
    outside = world.vantage("outside")
    doomed, other = service
    for family in world.families:
        ask_every_node(world, outside, doomed, family).must_be_what_the_model_says()

    doomed.delete()
    world.settle()

    for one in (doomed, other):
        for family in world.families:
            ask_every_node(world, outside, one, family).must_be_what_the_model_says()
