# SPDX-License-Identifier: Apache-2.0
"""The client's address as an endpoint behind a ClusterIP sees it."""

from conformance.sources import SOURCE_IP
from plugins.requirements import everywhere, requirement


def other_pods(world):
    return world.service(endpoints=world.backends(3))


@requirement(
    "source.clusterip.pod-keeps-its-address",
    must="An endpoint reached from another pod through a ClusterIP MUST see that pod's own address.",
    level="core",
    since="1.5",
    source=SOURCE_IP + "#source-ip-for-services-with-type-clusterip",
    upstream=["Services should preserve source pod IP for traffic thru service cluster IP"],
    arrange=other_pods,
)
@everywhere(vantage=["pod@first", "pod@second", "pod@third"], protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_pod_keeps_its_address(service, vantage, protocol, family):
    flows = vantage.open(service.cluster_ip(family), protocol, count=service.enough_to_see_every_endpoint())

    flows.must_reach_exactly(service.ready_backends)
    assert {seen.client_seen.ip for seen in flows} == {vantage.vantage.addresses[family]}


@requirement(
    "source.clusterip.node-shows-its-address",
    must="An endpoint reached from a process on a node through a ClusterIP MUST see an address of that node.",
    level="core",
    since="1.5",
    source=SOURCE_IP + "#source-ip-for-services-with-type-clusterip",
    arrange=other_pods,
)
@everywhere(vantage=["node@first", "node@second", "node@third"], protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_node_shows_its_address(service, vantage, protocol, family):
    flows = vantage.open(service.cluster_ip(family), protocol, count=service.enough_to_see_every_endpoint())

    flows.must_reach_exactly(service.ready_backends)
    assert {seen.client_seen.ip for seen in flows} <= vantage.own_addresses(family)
