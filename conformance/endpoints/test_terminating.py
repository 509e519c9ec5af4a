# SPDX-License-Identifier: Apache-2.0
"""Endpoints of pods that are being deleted. What is used for want of anything better is optional (KEP-1669)."""

from conformance.sources import SLICES, TERMINATING
from plugins.requirements import everywhere, requirement
from plugins.slices import Slice, not_ready, terminating


def beside_ready_ones(world):
    ready, serving, gone = world.backends(3)
    return world.service(
        kind="NodePort", slices=[Slice([ready]), Slice([terminating(serving), terminating(gone, serving=False)])]
    )


@requirement(
    "endpoints.terminating.not-used-beside-ready-ones",
    must="A terminating endpoint MUST NOT receive new connections while its Service has a ready one.",
    level="core",
    since="1.21",
    source=SLICES + "#conditions",
    needs=["external-client"],
    arrange=beside_ready_ones,
)
@everywhere(family=["IPv4", "IPv6"])
def test_terminating_endpoint_is_left_alone(world, service, family):
    node_ports = [target for node in world.nodes for target in service.every_node_port(node, family=family)]

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(family=family), service)
    world.everywhere("outside").each_must_reach_exactly(node_ports, service)


def only_unusable_ones(world):
    first, second, third = world.backends(3)
    unusable = world.service(kind="NodePort", endpoints=[terminating(first, serving=False), not_ready(second)])
    return unusable, world.service(kind="NodePort", endpoints=[terminating(first, serving=False), third])


@requirement(
    "endpoints.terminating.unusable-ones-refuse",
    must="A Service whose endpoints all are neither ready nor serving MUST refuse connections, "
    "while a ready endpoint among them MUST be used.",
    level="core",
    since="1.21",
    source=SLICES + "#conditions",
    upstream=[
        (
            "Services should not be able to connect to terminating and unready endpoints "
            "if PublishNotReadyAddresses is false"
        )
    ],
    needs=["external-client"],
    arrange=only_unusable_ones,
)
@everywhere(family=["IPv4", "IPv6"])
def test_unusable_endpoints_refuse(world, service, family):
    unusable, usable = service
    for one in (unusable, usable):
        node_ports = [target for node in world.nodes for target in one.every_node_port(node, family=family)]

        world.everywhere("pod", "node").each_must_reach_exactly(one.every_cluster_ip(family=family), one)
        world.everywhere("outside").each_must_reach_exactly(node_ports, one)


def all_terminating(world):
    serving, other, gone = world.backends(3)
    slices = [Slice([terminating(serving), terminating(other)]), Slice([terminating(gone, serving=False)])]
    return world.service(kind="NodePort", slices=slices)


@requirement(
    "endpoints.terminating.used-for-want-of-ready-ones",
    must="Where no endpoint of a Service is ready, those that are still serving while they terminate MUST be used.",
    level="extended",
    since="1.26",
    source=TERMINATING,
    upstream=[
        (
            "Services should fallback to terminating endpoints when there are no ready endpoints "
            "with internalTrafficPolicy=Cluster"
        ),
        (
            "Services should fallback to terminating endpoints when there are no ready endpoints "
            "with externallTrafficPolicy=Cluster"
        ),
    ],
    needs=["external-client"],
    arrange=all_terminating,
)
@everywhere(family=["IPv4", "IPv6"])
def test_serving_endpoints_are_fallen_back_to(world, service, family):
    node_ports = [target for node in world.nodes for target in service.every_node_port(node, family=family)]

    world.everywhere("pod", "node").each_must_reach_all_that_is_allowed(service.every_cluster_ip(family=family))
    world.everywhere("outside").each_must_reach_all_that_is_allowed(node_ports)


def terminating_on_one_node(world):
    here, *elsewhere = world.backends(len(world.nodes))  # no node without any
    return world.service(
        kind="NodePort",
        slices=[Slice([terminating(here)]), Slice(elsewhere)],
        internalTrafficPolicy="Local",
        externalTrafficPolicy="Local",
    )


@requirement(
    "endpoints.terminating.used-for-want-of-local-ones",
    must="Under a Local traffic policy a node without ready endpoints MUST use its own that are still serving while "
    "they terminate, though other nodes have ready ones.",
    level="extended",
    since="1.26",
    source=TERMINATING,
    upstream=[
        (
            "Services should fallback to local terminating endpoints when there are no ready endpoints "
            "with internalTrafficPolicy=Local"
        ),
        (
            "Services should fallback to local terminating endpoints when there are no ready endpoints "
            "with externalTrafficPolicy=Local"
        ),
    ],
    needs=["nodes:2", "external-client"],
    arrange=terminating_on_one_node,
)
@everywhere(family=["IPv4", "IPv6"])
def test_local_serving_endpoints_are_fallen_back_to(world, service, family):
    node_ports = [target for node in world.nodes for target in service.every_node_port(node, family=family)]

    world.everywhere("pod", "node").each_must_reach_all_that_is_allowed(service.every_cluster_ip(family=family))
    world.everywhere("outside").each_must_reach_all_that_is_allowed(node_ports)
