# SPDX-License-Identifier: Apache-2.0
"""syncPeriod: how soon a proxy notices that somebody else has removed its rules. A transition."""

from conformance.proxy_config.test_localhost_node_ports import ON
from conformance.sources import VIRTUAL_IPS
from plugins.requirements import requirement


@requirement(
    "proxy-config.sync-period.rules-come-back",
    must="With a short syncPeriod, a proxy whose rules and chains are all gone from a node MUST soon restore them.",
    level="extended",
    since="1.17",
    source=VIRTUAL_IPS + "#optimizing-iptables-mode-performance",
    upstream=["Networking should recreate its iptables rules if they are deleted"],
    features=["rules-restored"],
    needs=["host-rules", "disruptive", ON],
)
def test_rules_come_back(world):
    service = world.service(kind="NodePort", endpoints=world.backends(2))
    anyone, node = world.everywhere("pod", "node"), world.nodes[0]
    frontends = [*service.every_cluster_ip(), *service.every_node_port(node)]
    world.settle()
    anyone.each_must_reach_exactly(frontends, service)

    world.cluster.reload_firewall(node.name)
    world.settle("converge")

    anyone.each_must_reach_exactly(frontends, service)
