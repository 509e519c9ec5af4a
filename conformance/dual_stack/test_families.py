# SPDX-License-Identifier: Apache-2.0
"""IP families of a Service: one or both, each served by endpoints of its own."""

from conformance.sources import DUAL_STACK, SECONDARY_FAMILY
from plugins.requirements import everywhere, requirement
from plugins.services import other_family
from plugins.slices import Slice


def single_stack(world, family):
    return world.service(
        kind="NodePort", endpoints=world.backends(2), ipFamilyPolicy="SingleStack", ipFamilies=[family]
    )


@requirement(
    "dual-stack.single-stack.served-in-its-family",
    must="A single-stack Service of either family MUST be served at its one ClusterIP.",
    level="core",
    since="1.23",
    source=DUAL_STACK + "#services",
    upstream=[
        "[Feature:IPv6DualStack] should create service with ipv4 cluster ip",
        "[Feature:IPv6DualStack] should create service with ipv6 cluster ip",
    ],
    arrange=single_stack,
)
@everywhere(family=["IPv4", "IPv6"])
def test_single_stack_service_is_served(world, service, family):
    assert service.live["spec"]["ipFamilies"] == [family]

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)


@requirement(
    "dual-stack.single-stack.node-port-in-its-family-only",
    must="The node port of a single-stack Service MUST lead to its endpoints at node addresses of its family, "
    "and MUST NOT at those of the other.",
    level="core",
    since="1.23",
    source=DUAL_STACK + "#services",
    needs=["external-client"],
    arrange=single_stack,
)
@everywhere(family=["IPv4", "IPv6"])
def test_node_port_has_the_family_of_its_service(world, service, family):
    anyone = world.everywhere("pod", "node", "outside")

    node_ports = [target for node in world.nodes for target in service.every_node_port(node, family=family)]
    world.everywhere("outside").each_must_reach_exactly(node_ports, service)
    others = [(service.node_port(node, other_family(family), "TCP"), "TCP") for node in world.nodes]
    anyone.each_must_stay_within_the_verdict(others, count=4)


def of_both_families(world):
    wanted = [
        ("RequireDualStack", ["IPv4", "IPv6"]),
        ("RequireDualStack", ["IPv6", "IPv4"]),
        ("PreferDualStack", ["IPv6"]),
    ]
    return [
        world.service(endpoints=world.backends(2), ipFamilyPolicy=policy, ipFamilies=families)
        for policy, families in wanted
    ]


@requirement(
    "dual-stack.both-cluster-ips-answer",
    must="A Service that is dual-stack, required or preferred to be so, MUST be served at both of its ClusterIPs, "
    "whichever family comes first.",
    level="core",
    since="1.23",
    source=DUAL_STACK + "#services",
    upstream=[
        "[Feature:IPv6DualStack] should create service with ipv4,v6 cluster ip",
        "[Feature:IPv6DualStack] should create service with ipv6,v4 cluster ip",
        *(
            SECONDARY_FAMILY + f"should function for {who}-Service: {how}"
            for who in ("pod", "node")
            for how in ("http", "udp")
        ),
    ],
    arrange=of_both_families,
)
@everywhere(family=["IPv4", "IPv6"])
def test_both_cluster_ips_answer(world, service, family):
    for one in service:
        assert len(one.live["spec"]["clusterIPs"]) == 2

        world.everywhere("pod", "node").each_must_reach_exactly(one.every_cluster_ip(family=family), one)


def split_by_family(world):
    four, six = world.backends(1), world.backends(3)[1:]
    service = world.service(slices=[Slice(four, families=["IPv4"]), Slice(six, families=["IPv6"])])
    return service, {"IPv4": four, "IPv6": six}


@requirement(
    "dual-stack.endpoints.of-their-own-family",
    must="Each ClusterIP of a Service MUST lead to exactly the endpoints that its slices list in that family.",
    level="core",
    since="1.23",
    source=DUAL_STACK + "#services",
    arrange=split_by_family,
)
@everywhere(family=["IPv4", "IPv6"])
def test_each_family_has_its_own_endpoints(world, service, family):
    split, endpoints = service

    world.everywhere("pod", "node").each_must_reach_exactly(split.every_cluster_ip(family=family), endpoints[family])


def with_endpoints_in_one_family(world, family):
    return [
        world.service(slices=[Slice(world.backends(2), families=[listed])])
        for listed in (family, other_family(family))
    ]


@requirement(
    "dual-stack.endpoints.none-in-a-family-refuses",
    must="A ClusterIP without endpoints of its family MUST be refused although the Service has some in the other, "
    "while one with endpoints of its family MUST be served.",
    level="core",
    since="1.23",
    source=DUAL_STACK + "#services",
    arrange=with_endpoints_in_one_family,
)
@everywhere(family=["IPv4", "IPv6"])
def test_family_without_endpoints_refuses(world, service, family):
    listed, not_listed = service
    anyone = world.everywhere("pod", "node")

    anyone.each_must_reach_exactly(listed.every_cluster_ip(family=family), listed)
    anyone.each_must_stay_within_the_verdict(not_listed.every_cluster_ip(family=family), count=4)


def with_addresses_of_both(world, family):
    return world.service(
        endpoints=world.backends(2),
        ipFamilyPolicy="SingleStack",
        ipFamilies=[family],
        externalIPs=world.virtual_ips(),
    )


@requirement(
    "dual-stack.single-stack.foreign-external-ip-does-no-harm",
    must="An external IP of a family that its Service does not have MUST NOT lead to its endpoints, nor keep the "
    "Service from being served at those of its own family.",
    level="extended",
    since="1.23",
    source=DUAL_STACK + "#services",
    needs=["external-client", "lb-route"],
    arrange=with_addresses_of_both,
)
@everywhere(family=["IPv4", "IPv6"])
def test_external_ip_of_the_other_family(world, service, family):  # noqa: ARG001 - what the Service has
    anyone = world.everywhere("pod", "node", "outside")

    anyone.each_must_stay_within_the_verdict(service.every_external_ip(), count=4)


def local_on_a_node_in_each_family(world):
    first, second = (world.node_at(place).backends[:1] for place in ("first", "second"))
    return world.service(
        kind="NodePort",
        slices=[Slice(first, families=["IPv4"]), Slice(second, families=["IPv6"])],
        externalTrafficPolicy="Local",
    )


@requirement(
    "dual-stack.external-local.by-family",
    must="Under externalTrafficPolicy Local a node MUST answer from outside in the family that it has endpoints of, "
    "and MUST drop what comes in the other.",
    level="extended",
    since="1.23",
    source=DUAL_STACK + "#services",
    needs=["nodes:2", "external-client"],
    arrange=local_on_a_node_in_each_family,
)
def test_local_policy_goes_by_family(world, service):
    node_ports = [target for node in world.nodes for target in service.every_node_port(node)]

    world.everywhere("outside").each_must_reach_all_that_is_allowed(node_ports)
