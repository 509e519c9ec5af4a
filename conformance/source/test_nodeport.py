# SPDX-License-Identifier: Apache-2.0
"""The client's address as an endpoint behind a node port sees it, under the default (Cluster) traffic policy."""

from conformance.sources import SOURCE_IP
from plugins.requirements import everywhere, requirement


def on_every_node(world):
    return world.service(kind="NodePort", endpoints=world.backends(3))


@requirement(
    "source.nodeport.masqueraded-to-the-node",
    must="An endpoint reached through a node port under the Cluster traffic policy MUST see an address of the node "
    "that was dialled, whether the endpoint is on that node or another.",
    level="core",
    since="1.5",
    source=SOURCE_IP + "#source-ip-for-services-with-type-nodeport",
    needs=["nodes:3", "external-client"],
    arrange=on_every_node,
)
@everywhere(vantage=["outside", "pod"], protocol=["TCP", "UDP"], family=["IPv4", "IPv6"], node=["first", "second"])
def test_endpoint_sees_the_node(service, vantage, protocol, family, node):
    frontend = service.node_port(node, family, protocol)

    flows = vantage.open(frontend, protocol, count=service.enough_to_see_every_endpoint())

    flows.must_reach_exactly(service.ready_backends)
    assert {seen.client_seen.ip for seen in flows} <= node.own_addresses(family)
