# SPDX-License-Identifier: Apache-2.0
"""Which endpoints of a slice are used, by their conditions."""

from conformance.sources import SLICES
from plugins.requirements import ON_EVERY_NODE, everywhere, requirement
from plugins.slices import Endpoint


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
    upstream=["Services should only target nodes with endpoints"],
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
