# SPDX-License-Identifier: Apache-2.0
"""ServiceCIDRs: ranges of ClusterIPs that a cluster gets later."""

from conformance.sources import SERVICE_RANGES
from plugins.requirements import requirement

# For documentation (RFC 5737, RFC 3849), and upstream's choice for the same purpose: no cluster has them of itself.
CIDRS = ("203.0.113.0/24", "2001:db8:cb00::/64")
ADDRESSES = {"IPv4": "203.0.113.10", "IPv6": "2001:db8:cb00::10"}


def in_a_range_of_its_own(world):
    addresses = [ADDRESSES[family] for family in world.families]
    return world.service(
        kind="NodePort",
        endpoints=world.backends(2),
        cidrs=CIDRS,
        clusterIP=addresses[0],
        clusterIPs=addresses,
    )


@requirement(
    "service-cidr.added.is-served",
    must="A Service whose ClusterIP is of a ServiceCIDR that was added to the cluster MUST be served at that "
    "ClusterIP and at its node port.",
    level="extended",
    since="1.33",
    source=SERVICE_RANGES,
    upstream=["Service CIDRs should create Services and serve on different Service CIDRs"],
    needs=["external-client"],
    arrange=in_a_range_of_its_own,
)
def test_added_range_is_served(world, service):
    node_ports = [target for node in world.nodes for target in service.every_node_port(node)]

    world.everywhere("pod", "node").each_must_reach_exactly(service.every_cluster_ip(), service)
    world.everywhere("outside").each_must_reach_exactly(node_ports, service)
