# SPDX-License-Identifier: Apache-2.0
"""Load balancers' IPs that several Services share, each at a port of its own."""

from conformance.sources import SERVICE_API
from plugins.requirements import requirement


def two_at_one_ip(world):
    def balanced(port, backends):
        return world.service(kind="LoadBalancer", endpoints=backends, port=port, ingress=shared)

    shared = world.virtual_ips()
    return balanced(80, world.backends(2)), balanced(443, world.backends(4)[2:])


@requirement(
    "loadbalancer.shared-ip.other-service-stays",
    must="Of two Services with different ports at one load balancer's IP each MUST be served at its own port, "
    "and one MUST go on being served when the other is deleted.",
    level="extended",
    since="1.0",
    source=SERVICE_API + "#ServiceStatus",
    needs=["external-client", "lb-route"],
    arrange=two_at_one_ip,
    changes=True,
)
def test_shared_ip_outlives_one_service(world, service):
    anyone = world.everywhere("pod", "node", "outside")
    doomed, other = service
    gone = doomed.every_load_balancer_ip()
    anyone.each_must_stay_within_the_verdict([*gone, *other.every_load_balancer_ip()], count=4)

    doomed.delete()
    world.settle()

    anyone.each_must_stay_within_the_verdict([*gone, *other.every_load_balancer_ip()], count=4)
