# SPDX-License-Identifier: Apache-2.0
"""healthCheckNodePort: how a load balancer learns which nodes hold endpoints. For kube-proxy's way of telling it."""

from conformance.sources import LOAD_BALANCER_TASK, SOURCE_IP, TERMINATING
from plugins.healthchecks import ask_every_node
from plugins.requirements import everywhere, requirement
from plugins.slices import Endpoint, terminating

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
    "health-check.node-port.follows-the-endpoints",
    must="The health check node port MUST follow endpoints that move to another node, and MUST fall silent once the "
    "policy is no longer Local.",
    level="extended",
    since="1.7",
    source=SOURCE,
    upstream=[
        "Services should implement NodePort and HealthCheckNodePort correctly when ExternalTrafficPolicy changes",
        "LoadBalancers ExternalTrafficPolicy: Local should only target nodes with endpoints",
    ],
    needs=["nodes:2", "external-client"],
)
@everywhere(family=["IPv4", "IPv6"])
def test_health_check_follows_the_endpoints(world, family):
    first, second = world.backends(2)
    service = world.service(kind="LoadBalancer", endpoints=[first], externalTrafficPolicy="Local")
    for change in (
        lambda: None,
        lambda: service.set_endpoints([second]),
        lambda: service.change(externalTrafficPolicy="Cluster", healthCheckNodePort=None),
    ):
        change()
        world.settle()

        ask_every_node(world, world.vantage("outside"), service, family).must_be_what_the_model_says()
