# SPDX-License-Identifier: Apache-2.0
"""ClusterIP: UDP flows with one source port, whose connection-tracking entry outlives their endpoint."""

from conformance.sources import VIRTUAL_IPS
from plugins.requirements import requirement


@requirement(
    "clusterip.udp.flow-leaves-removed-endpoint",
    must="A UDP flow that keeps its source port MUST move to a remaining endpoint once its own has been removed.",
    level="core",
    since="1.0",
    source=VIRTUAL_IPS,
    upstream=["Conntrack should be able to preserve UDP traffic when server pod cycles for a ClusterIP service"],
    arrange=lambda world: world.service(endpoints=world.backends(1)),
    changes=True,
)
def test_udp_flow_moves_to_the_remaining_endpoint(world, service):
    first, second = world.backends(2)

    with world.everywhere("pod", "node").hold_each(service.every_cluster_ip("UDP")) as flows:
        flows.must_be_served_by(first)
        service.set_endpoints([second])
        world.settle()
        flows.must_be_served_by(second)
