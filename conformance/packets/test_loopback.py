# SPDX-License-Identifier: Apache-2.0
"""Loopback addresses stay on their node, also where the proxy makes the kernel route them."""

from conformance.packets.ways import NEEDS
from conformance.proxy_config.test_localhost_node_ports import ON
from plugins.packets import again, ip, tcp, udp
from plugins.requirements import everywhere, requirement

ADVISORY = "https://github.com/kubernetes/kubernetes/issues/92315"
PORT = 15004


def on_the_node_itself(world):
    return world.service(kind="NodePort", endpoints=[world.nodes[0].host_backend])


@requirement(
    "packets.loopback.closed-to-neighbours",
    must="What a node's processes offer on its loopback MUST NOT be reachable for another host on its LAN.",
    level="extended",
    since="1.19",
    source=ADVISORY,
    needs=NEEDS,
    arrange=on_the_node_itself,
)
@everywhere(family=["IPv4", "IPv6"])
def test_neighbour_of_the_node(world, service, family):
    node, outside = world.nodes[0], world.vantage("outside")
    loopback = service.loopback_node_port(family, "UDP").ip
    process = node.host_backend.ports[0]

    def heard():
        return world.received().get((node.host_backend.name, "UDP", process))

    with world.talking(outside, service.node_port(node, family, "UDP"), "UDP", node.host_backend) as talk:
        link = talk.first.at("client").link_to(talk.to_client())
        question = again(talk.sent, sport=PORT, dport=process)
        syn = ip(src=talk.sent.src, dst=loopback) / tcp(sport=PORT, dport=process, flags="S")
        before = heard()
        outside.inject(again(question, dst=loopback), link)
        outside.inject(bytes(syn), link)
        outside.inject(question, link)
        talk.exchange()
        assert heard() == before + 2, "only what went to the node's own address may have been heard"
        talk.wire.at("client").must_not_have(ip(src=loopback))
        talk.wire.at("client").must_have(ip(src=node.addresses[family]) / udp(sport=process, dport=PORT))


def both_policies(world):
    backends = [world.nodes[0].backends[0], world.nodes[-1].backends[0]]
    return [
        world.service(kind="NodePort", endpoints=backends, externalTrafficPolicy=policy)
        for policy in ("Cluster", "Local")
    ]


@requirement(
    "packets.loopback.never-on-the-wire",
    must="A process that uses a node port at 127.0.0.1 MUST be served under either traffic policy, "
    "and packets from a loopback address MUST NOT leave the node.",
    level="extended",
    since="1.10",
    source="https://github.com/kubernetes/kubernetes/issues/57922",
    features=["localhost-node-ports"],
    needs=["nodes:3", "captures", ON],
    arrange=both_policies,
)
@everywhere(protocol=["TCP", "UDP"], family=["IPv4"])
def test_loopback_stays_on_the_node(world, service, protocol, family):
    node = world.vantage("node@first")
    for each in service:
        frontend = each.loopback_node_port(family, protocol)
        with world.watching(node=node) as wire:
            node.open(frontend, protocol, count=each.enough_to_see_every_endpoint()).must_stay_within_the_verdict()
        left = wire.leaving("node")
        left.must_not_have(ip(src=frontend.ip))
        left.must_have(ip(dst=world.nodes[-1].backends[0].addresses[family]))
