# SPDX-License-Identifier: Apache-2.0
"""Services that requirements of several topics arrange."""

from plugins.services import Port


def with_every_frontend(world, protocol, endpoints, **spec):
    """A Service of one protocol with ClusterIPs, node ports, a load balancer's IPs and external IPs."""
    return world.service(
        kind="LoadBalancer",
        endpoints=endpoints,
        ports=[Port(80, 8080, protocol)],
        ingress=world.virtual_ips(),
        externalIPs=world.virtual_ips(through="second"),
        **spec,
    )
