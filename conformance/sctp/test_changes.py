# SPDX-License-Identifier: Apache-2.0
"""SCTP: endpoints that come and go. Transitions: each pays for its own settling."""

from conformance.sources import SCTP_ENTRIES_STAY, SLICES
from plugins.requirements import requirement
from plugins.services import Port

SCTP = (Port(80, 8080, "SCTP"),)


@requirement(
    "sctp.endpoints.replaced",
    must="Once an endpoint has left a Service, new associations MUST reach all that are there now, and no other.",
    level="extended",
    since="1.20",
    source=SLICES,
    features=["sctp"],
    needs=["sctp", "external-client"],
)
def test_new_associations_reach_the_endpoints_of_now(world):
    first, *others = world.backends(3)
    service = world.service(kind="NodePort", endpoints=[first], ports=SCTP)
    world.settle()
    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)

    service.set_endpoints(others)
    world.settle()

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)
    world.everywhere("outside").each_must_reach_exactly(service.every_node_port(world.nodes[0]), service)


@requirement(
    "sctp.endpoints.same-port-after-the-endpoint-left",
    should="A client whose endpoint has left the Service SHOULD reach another with a new association from the "
    "same source port.",
    level="record",
    since="1.20",
    source=SCTP_ENTRIES_STAY,
    features=["sctp"],
    needs=["sctp"],
)
def test_same_source_port_after_the_endpoint_left(world):
    first, second = world.backends(2)
    service = world.service(endpoints=[first], ports=SCTP)
    world.settle()
    with world.everywhere("pod", "node").hold_each(service.every_cluster_ip()) as held:
        held.must_be_served_by(first)
        service.set_endpoints([second])
        world.settle()

    for prober, target, flow in held.flows:
        prober.open(*target, source_port=flow.first.src.port).must_reach_exactly({second.name})
