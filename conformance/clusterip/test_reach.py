# SPDX-License-Identifier: Apache-2.0
"""ClusterIP: which endpoint answers."""

from conformance.sources import VIRTUAL_IPS
from plugins.requirements import ON_EVERY_NODE, everywhere, requirement


def three_endpoints(world):
    return world.service(endpoints=world.backends(3), port=80, target_port=8080)


@requirement(
    "clusterip.reach.every-ready-endpoint",
    must="A new connection to a ClusterIP port MUST reach one of the Service's ready endpoints, "
    "and each of them MUST be reachable.",
    level="core",
    since="1.0",
    source=VIRTUAL_IPS,
    upstream=[
        "Services should serve a basic endpoint from pods",
        "Networking Granular Checks: Services should function for pod-Service: http",
        "Networking Granular Checks: Services should function for pod-Service: udp",
        "Networking Granular Checks: Services should function for node-Service: http",
        "Networking Granular Checks: Services should function for node-Service: udp",
    ],
    arrange=three_endpoints,
)
@everywhere(vantage=ON_EVERY_NODE, protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_every_ready_endpoint_is_reached(service, vantage, protocol, family):
    flows = vantage.open(service.cluster_ip(family), protocol, count=service.enough_to_see_every_endpoint())

    flows.must_reach_exactly(service.ready_backends)
