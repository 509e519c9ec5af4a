# SPDX-License-Identifier: Apache-2.0
"""Load balancers' IPs that several Services share, each at a port of its own."""

from conformance.sources import SERVICE_API
from plugins.requirements import requirement


@requirement(
    "loadbalancer.shared-ip.other-service-stays",
    must="Of two Services with different ports at one load balancer's IP each MUST be served at its own port, "
    "and one MUST go on being served when the other is deleted.",
    level="extended",
    since="1.0",
    source=SERVICE_API + "#ServiceStatus",
    needs=["external-client", "lb-route"],
)
def test_shared_ip_outlives_one_service(world):
    anyone = world.everywhere("pod", "node", "outside")
    addresses = world.virtual_ips()
    doomed = world.service(kind="LoadBalancer", endpoints=world.backends(2), ingress=addresses)
    other = world.service(kind="LoadBalancer", endpoints=world.backends(4)[2:], port=443, ingress=addresses)
    world.settle()
    gone = doomed.every_load_balancer_ip()
    anyone.each_must_stay_within_the_verdict([*gone, *other.every_load_balancer_ip()], count=4)

    doomed.delete()
    world.settle()

    anyone.each_must_stay_within_the_verdict([*gone, *other.every_load_balancer_ip()], count=4)
