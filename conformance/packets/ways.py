# SPDX-License-Identifier: Apache-2.0
"""What these requirements have in common: one endpoint on another node, and the ways to it through a Service."""

NEEDS = ("nodes:3", "external-client", "lb-route", "raw-packets", "captures")


def far_away(world):
    """A Service whose only endpoint is on the last node; its load balancer's IPs lead from outside to the first."""
    return world.service(kind="LoadBalancer", endpoints=world.nodes[-1].backends[:1], ingress=world.virtual_ips())


def ways(world, service, family, protocol):
    """Clients and frontends: a pod at the ClusterIP, one beside the endpoint, and outside at a node port and the VIP.

    A node's own processes are left out, since nobody sees their packets before they are translated.
    """
    outside = world.vantage("outside")
    (balancer,) = (one for one, own in service.every_load_balancer_ip(family=family) if own == protocol)
    return [
        (world.vantage("pod@first"), service.cluster_ip(family)),
        (world.vantage("pod@third"), service.cluster_ip(family)),
        (outside, service.node_port(world.nodes[0], family, protocol)),
        (outside, balancer),
    ]


def talks(world, service, family, protocol, *, of=("ClusterIP", "NodePort", "LoadBalancer"), routed=False):
    """A flow by each of these ways in turn, watched at both ends; if `routed`, from other nodes than the endpoint's.

    Pods of one node may be joined by a bridge, which is no router.
    """
    backend = service.endpoints[0].backend
    for client, frontend in ways(world, service, family, protocol):
        if frontend.kind in of and not (routed and client.node == backend.node):
            with world.talking(client, frontend, protocol, backend) as talk:
                yield talk
