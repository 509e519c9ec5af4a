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


def beside_another(world, protocol):
    """A Service, and another one with every frontend that shares its endpoints and external IPs."""
    shared = world.backends(3)
    other = with_every_frontend(world, protocol, shared)
    external_ips = other.live["spec"]["externalIPs"]
    return world.service(endpoints=shared, ports=[Port(81, 8080, protocol)], externalIPs=external_ips), other


def two_behind_a_node_port(world):
    """A Service of type NodePort."""
    return world.service(kind="NodePort", endpoints=world.backends(2))
