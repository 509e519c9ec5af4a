# SPDX-License-Identifier: Apache-2.0
"""Several Services that lead to the same endpoints."""

from conformance.sources import SERVICE
from plugins.requirements import requirement


@requirement(
    "clusterip.shared-endpoints.independent",
    must="Services that share endpoints MUST each lead to all of them, and deleting one MUST leave the others whole.",
    level="core",
    since="1.0",
    source=SERVICE,
    upstream=[
        "Networking Granular Checks: Services should function for multiple endpoint-Services with same selector"
    ],
    needs=["external-client"],
    arrange=lambda world: [world.service(kind="NodePort", endpoints=world.backends(2)) for _ in range(2)],
    changes=True,
)
def test_services_share_endpoints(world, service):
    inside, outside = world.everywhere("pod", "node"), world.everywhere("outside")
    first, second = service
    node_ports = [target for node in world.nodes for target in second.every_node_port(node)]
    for one in (first, second):
        inside.each_must_stay_within_the_verdict(one.every_cluster_ip(), count=4)

    first.delete()
    world.settle()

    inside.each_must_reach_exactly(second.every_cluster_ip(), second)
    outside.each_must_reach_exactly(node_ports, second)
