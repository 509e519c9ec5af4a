# SPDX-License-Identifier: Apache-2.0
"""localhostNodePorts: whether node ports answer on a node's own loopback."""

from conformance.proxy_config.test_node_port_addresses import behind_a_node_port, must_not_answer, reach_all
from conformance.sources import PROXY_CONFIG, VIRTUAL_IPS
from plugins.requirements import everywhere, requirement

ON = "proxy-config:{localhostNodePorts: true, syncPeriod: 1s}"
OFF = "proxy-config:{localhostNodePorts: false, tcpBeLiberal: true}"
ON_THE_NODES = ["node@first", "node@second", "node@third"]


@requirement(
    "proxy-config.localhost-node-ports.on",
    must="With localhostNodePorts true, a node port MUST answer processes of the node at 127.0.0.1.",
    level="extended",
    since="1.26",
    source=PROXY_CONFIG,
    upstream=["LocalhostNodePorts should proxy localhost NodePort traffic to backends across nodes"],
    features=["localhost-node-ports"],
    needs=["nodes:3", ON],
    arrange=behind_a_node_port,
)
@everywhere(vantage=ON_THE_NODES, protocol=["TCP", "UDP"], family=["IPv4"])
def test_loopback_answers(service, vantage, protocol, family):
    reach_all(service, vantage, protocol, service.loopback_node_port(family, protocol))


def with_affinity(world):
    return world.service(kind="NodePort", endpoints=world.backends(3), sessionAffinity="ClientIP")


@requirement(
    "proxy-config.localhost-node-ports.affinity",
    must="With localhostNodePorts true and sessionAffinity ClientIP, a process of the node MUST stay with one "
    "endpoint at 127.0.0.1.",
    level="extended",
    since="1.26",
    source=VIRTUAL_IPS + "#session-affinity",
    upstream=["LocalhostNodePorts should honor sessionAffinity=ClientIP for localhost NodePort"],
    features=["localhost-node-ports"],
    needs=[ON],
    arrange=with_affinity,
)
@everywhere(family=["IPv4"])
def test_loopback_has_affinity(world, service, family):
    targets = [(service.loopback_node_port(family, protocol), protocol) for protocol in ("TCP", "UDP")]

    world.everywhere("node").each_must_stick_to_one(targets, count=12)


@requirement(
    "proxy-config.localhost-node-ports.never-on-ipv6",
    must="Even with localhostNodePorts true, a node port MUST NOT answer at ::1.",
    level="extended",
    since="1.26",
    source=PROXY_CONFIG,
    features=["localhost-node-ports"],
    needs=["nodes:3", ON],
    arrange=behind_a_node_port,
)
@everywhere(vantage=ON_THE_NODES, protocol=["TCP", "UDP"], family=["IPv6"])
def test_ipv6_loopback_does_not_answer(world, service, vantage, protocol, family):
    reach_all(service, vantage, protocol, service.node_port(world.nodes[0], family, protocol))
    must_not_answer(vantage, protocol, service.loopback_node_port(family, protocol))


@requirement(
    "proxy-config.localhost-node-ports.off",
    must="With localhostNodePorts false, a node port MUST NOT answer on the nodes' loopback, "
    "and MUST go on answering at their other addresses.",
    level="extended",
    since="1.26",
    source=PROXY_CONFIG,
    needs=["nodes:3", OFF],
    arrange=behind_a_node_port,
)
@everywhere(vantage=ON_THE_NODES, protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_loopback_does_not_answer(world, service, vantage, protocol, family):
    for node in world.nodes[:2]:
        reach_all(service, vantage, protocol, service.node_port(node, family, protocol))
    must_not_answer(vantage, protocol, service.loopback_node_port(family, protocol))
