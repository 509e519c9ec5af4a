# SPDX-License-Identifier: Apache-2.0
"""externalTrafficPolicy Local: traffic from outside stays on the node it comes to, and keeps its source."""

from conformance.sources import INTERNAL_LOCAL, SERVICE_API, SOURCE_IP, VIRTUAL_IPS
from plugins.requirements import everywhere, requirement

POLICY = VIRTUAL_IPS + "#external-traffic-policy"
NODE_PORTS = SOURCE_IP + "#source-ip-for-services-with-type-nodeport"
BALANCERS = SOURCE_IP + "#source-ip-for-services-with-type-loadbalancer"


def on_two_of_three_nodes(world):
    first, second = world.node_at("first"), world.node_at("second")
    return world.service(
        kind="LoadBalancer",
        endpoints=[*first.backends[:2], second.backends[0]],
        ingress=[*world.virtual_ips(through="first"), *world.virtual_ips(through="second")],
        externalTrafficPolicy="Local",
    )


@requirement(
    "traffic-policy.external-local.node-port.endpoints-of-the-node",
    must="Under externalTrafficPolicy Local a node port MUST lead from outside to every ready endpoint of the node "
    "that is dialled and to no other, and the endpoint MUST see the client's own address.",
    level="core",
    since="1.7",
    source=NODE_PORTS,
    upstream=["Services should support externalTrafficPolicy=Local for type=NodePort"],
    needs=["nodes:2", "external-client"],
    arrange=on_two_of_three_nodes,
)
@everywhere(family=["IPv4", "IPv6"], node=["first", "second"])
def test_node_port_leads_to_its_own_node(world, service, family, node):
    must_stay_on(node, world, service.every_node_port(node, family=family))


@requirement(
    "traffic-policy.external-local.load-balancer.endpoints-of-the-node",
    must="Under externalTrafficPolicy Local a load balancer's IP MUST lead from outside to every ready endpoint of "
    "the node that the traffic arrives at and to no other, and the endpoint MUST see the client's own address.",
    level="core",
    since="1.7",
    source=BALANCERS,
    upstream=[
        "LoadBalancers ExternalTrafficPolicy: Local should work for type=LoadBalancer",
        "LoadBalancers ExternalTrafficPolicy: Local should target all nodes with endpoints",
    ],
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=on_two_of_three_nodes,
)
@everywhere(family=["IPv4", "IPv6"], node=["first", "second"])
def test_load_balancer_leads_to_the_node_of_arrival(world, service, family, node):
    arriving = [target for target in service.every_load_balancer_ip(family=family) if world.enters_at(node, target)]

    must_stay_on(node, world, arriving)


def must_stay_on(node, world, targets):
    for flows in world.everywhere("outside").open_each(targets):
        flows.must_reach_all_that_is_allowed()
        assert {seen.backend.partition(".")[0] for seen in flows} == {node.name}
        assert {seen.client_seen.ip for seen in flows} == {seen.src.ip for seen in flows}


def on_one_node_each(world):
    return [
        world.service(
            kind="LoadBalancer",
            endpoints=world.node_at(node).backends[:1],
            ingress=world.virtual_ips(through="first"),
            externalTrafficPolicy="Local",
        )
        for node in ("first", "second")
    ]


@requirement(
    "traffic-policy.external-local.dropped-without-local-endpoints",
    must="Under externalTrafficPolicy Local traffic from outside to a node without endpoints MUST be dropped, "
    "at node ports and at the load balancer's IP, while a node with endpoints MUST serve it.",
    level="core",
    since="1.7",
    source=POLICY,
    upstream=["LoadBalancers ExternalTrafficPolicy: Local should only target nodes with endpoints"],
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=on_one_node_each,
)
def test_node_without_endpoints_drops(world, service):
    targets = [
        target
        for one in service
        for target in (
            *one.every_load_balancer_ip(),
            *(target for node in world.nodes for target in one.every_node_port(node)),
        )
    ]

    world.everywhere("outside").each_must_reach_all_that_is_allowed(targets)


@requirement(
    "traffic-policy.external-local.load-balancer.in-cluster-reaches-every-endpoint",
    must="Under externalTrafficPolicy Local pods and nodes MUST reach every ready endpoint at a load balancer's IP, "
    "wherever it is, and an endpoint MUST see a pod's own address.",
    level="core",
    since="1.17",
    source=POLICY,
    upstream=["LoadBalancers ExternalTrafficPolicy: Local should work from pods"],
    needs=["nodes:2"],
    arrange=on_one_node_each,
)
@everywhere(family=["IPv4", "IPv6"])
def test_in_cluster_clients_are_exempt(world, service, family):
    for one in service:
        targets = one.every_load_balancer_ip(family=family)

        world.everywhere("node").each_must_reach_exactly(targets, one)
        for flows in world.everywhere("pod").open_each(targets):
            flows.must_reach_exactly(one.ready_backends)
            assert {seen.client_seen.ip for seen in flows} == {seen.src.ip for seen in flows}


def on_every_node_under_local(world):
    return world.service(
        kind="NodePort", endpoints=[node.backends[0] for node in world.nodes], externalTrafficPolicy="Local"
    )


@requirement(
    "traffic-policy.external-local.changed-to-cluster",
    must="A Service whose externalTrafficPolicy changes from Local to Cluster MUST be served from outside by every "
    "endpoint through every node.",
    level="core",
    since="1.7",
    source=POLICY,
    upstream=[
        "Services should implement NodePort and HealthCheckNodePort correctly when ExternalTrafficPolicy changes"
    ],
    needs=["nodes:2", "external-client"],
    arrange=on_every_node_under_local,
    changes=True,
)
def test_policy_changes_to_cluster(world, service):
    outside = world.everywhere("outside")
    node_ports = [target for node in world.nodes for target in service.every_node_port(node)]
    outside.each_must_reach_all_that_is_allowed(node_ports)

    service.change(externalTrafficPolicy="Cluster")
    world.settle()

    outside.each_must_reach_exactly(node_ports, service)


def external_ips_on_one_node(world):
    """Of type ClusterIP: it is the external IPs that let anybody in from outside."""
    return world.service(
        endpoints=world.node_at("first").backends[:2],
        externalIPs=[*world.virtual_ips(through="first"), *world.virtual_ips(through="second")],
        externalTrafficPolicy="Local",
    )


@requirement(
    "traffic-policy.external-local.external-ips-of-type-cluster-ip",
    must="externalTrafficPolicy Local MUST hold at the external IPs of a Service of type ClusterIP as at those of "
    "any other.",
    level="extended",
    since="1.26",
    source=SERVICE_API,
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=external_ips_on_one_node,
)
def test_policy_holds_without_node_ports(world, service):
    world.everywhere("outside").each_must_reach_all_that_is_allowed(service.every_external_ip())


def on_the_second_node(world):
    return world.service(
        kind="LoadBalancer", endpoints=world.node_at("second").backends[:2], externalTrafficPolicy="Local"
    )


@requirement(
    "traffic-policy.external-local.says-nothing-about-cluster-ips",
    must="externalTrafficPolicy Local MUST NOT keep anybody from reaching endpoints of other nodes at a ClusterIP.",
    level="extended",
    since="1.7",
    source=POLICY,
    needs=["nodes:2"],
    arrange=on_the_second_node,
)
@everywhere(family=["IPv4", "IPv6"])
def test_cluster_ips_are_not_bound_by_the_external_policy(world, service, family):
    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)


@requirement(
    "traffic-policy.external-local.node-port.own-node-reaches-every-endpoint",
    must="Under externalTrafficPolicy Local a node's own pods and processes MUST reach every ready endpoint at its "
    "node port, wherever it is, as at a load balancer's IP.",
    level="extended",
    since="1.17",
    source=POLICY,
    upstream=[
        "Services should implement NodePort and HealthCheckNodePort correctly when ExternalTrafficPolicy changes"
    ],
    needs=["nodes:2"],
    arrange=on_one_node_each,
)
@everywhere(family=["IPv4", "IPv6"])
def test_own_node_is_exempt_at_its_node_port(world, service, family):
    for node in world.nodes[:2]:
        for one in service:
            world.on(node).each_must_reach_exactly(one.every_node_port(node, family=family), one)


@requirement(
    "traffic-policy.external-local.node-port.other-nodes-are-outside",
    must="Under externalTrafficPolicy Local pods and processes of other nodes MUST count as external at a node port: "
    "no endpoint of another node than the one dialled answers them, and none at all where that one has none.",
    level="extended",
    since="1.17",
    source=POLICY,
    upstream=[
        (
            "Services should fallback to local terminating endpoints when there are no ready endpoints "
            "with externalTrafficPolicy=Local"
        ),
        "Services should support externalTrafficPolicy=Local for type=NodePort",
        "Services should implement NodePort and HealthCheckNodePort correctly when ExternalTrafficPolicy changes",
    ],
    needs=["nodes:3"],
    arrange=on_one_node_each,
)
@everywhere(protocol=["TCP", "UDP"])
def test_other_nodes_are_outside(world, service, protocol):
    targets = [target for node in world.nodes[:2] for one in service for target in one.every_node_port(node)]

    from_elsewhere = world.on(world.node_at("third"))
    from_elsewhere.each_must_reach_all_that_is_allowed([target for target in targets if target[1] == protocol])


def under_both(world):
    return world.service(
        kind="LoadBalancer",
        endpoints=world.node_at("first").backends[:2],
        ingress=world.virtual_ips(through="first"),
        internalTrafficPolicy="Local",
        externalTrafficPolicy="Local",
    )


@requirement(
    "traffic-policy.both-local.each-at-its-own-frontends",
    must="With both traffic policies Local the internal one MUST hold at the ClusterIP and the external one "
    "everywhere else, neither of them instead of the other.",
    level="extended",
    since="1.22",
    source=INTERNAL_LOCAL,
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=under_both,
)
def test_both_policies_hold(world, service):
    balanced, node_ports = service.every_load_balancer_ip(), service.every_node_port(world.node_at("first"))

    world.everywhere("pod", "node").each_must_reach_all_that_is_allowed(service.every_cluster_ip())
    world.everywhere("pod", "node").each_must_reach_exactly(balanced, service)
    world.everywhere("outside").each_must_reach_exactly([*node_ports, *balanced], service)


@requirement(
    "traffic-policy.external-local.changed-from-cluster",
    must="A Service whose externalTrafficPolicy changes from Cluster to Local MUST be served from outside by the "
    "endpoints of the node that is dialled alone, which see the client's own address.",
    level="extended",
    since="1.7",
    source=POLICY,
    upstream=[
        "Services should implement NodePort and HealthCheckNodePort correctly when ExternalTrafficPolicy changes"
    ],
    needs=["nodes:2", "external-client"],
    arrange=lambda world: world.service(kind="NodePort", endpoints=[node.backends[0] for node in world.nodes]),
    changes=True,
)
def test_policy_changes_to_local(world, service):
    outside = world.everywhere("outside")
    node_ports = [target for node in world.nodes for target in service.every_node_port(node)]
    outside.each_must_reach_exactly(node_ports, service)

    service.change(externalTrafficPolicy="Local")
    world.settle()

    outside.each_must_reach_all_that_is_allowed(node_ports)
