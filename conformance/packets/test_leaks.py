# SPDX-License-Identifier: Apache-2.0
"""Virtual IPs mean something only to nodes: no other host ever meets them on the wire."""

from clusters.observation import FlowOutcome
from conformance.packets.ways import NEEDS, far_away
from conformance.sources import NFTABLES, VIRTUAL_IPS
from plugins.packets import again, echo_reply, echo_request, fragments_of, icmp, ip
from plugins.requirements import everywhere, requirement

ON_THE_NODES = ("nodes:3", "external-client", "lb-route", "raw-packets", "captures")
UNSERVED, PORT = 81, 15005


def watched(world, frontend):
    """Captures at every node, under its name."""
    return world.watching(dialled=frontend, **{node.name: node for node in world.nodes})


def must_stay_inside(world, wire, frontend):
    """Nothing that comes from the address, or goes to it, has left a node by its uplink."""
    for node in world.nodes:
        left = wire.leaving(node.name, interface=node.uplink)
        left.must_not_have(ip(dst=frontend.ip))
        left.must_not_have(ip(src=frontend.ip))


@requirement(
    "packets.leaks.cluster-ip",
    must="Packets to or from a ClusterIP MUST NOT leave a node by its uplink, not even a fragment alone or a "
    "segment of no connection.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
    needs=ON_THE_NODES,
    arrange=far_away,
)
@everywhere(protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_cluster_ip_stays_inside(world, service, protocol, family):
    frontend, endpoint = service.cluster_ip(family), service.endpoints[0].backend
    client = world.vantage("pod@first")
    with world.talking(client, frontend, protocol, endpoint) as talk, watched(world, frontend) as wire:
        _, *later = fragments_of(again(talk.sent, payload=b"x" * 2000), 1000)
        for fragment in later:
            client.inject(fragment)
        if protocol == "TCP":
            client.inject(again(talk.sent, sport=PORT, flags="A"))
        for flows in world.everywhere("pod", "node").open_each([(frontend, protocol)], count=2):
            flows.must_reach_exactly(service.ready_backends)
        talk.exchange()
        must_stay_inside(world, wire, frontend)
        wire.leaving(world.nodes[0].name).must_have(talk.to_endpoint())


@requirement(
    "packets.leaks.unserved-port",
    must="A packet to a port of a ClusterIP that no Service has MUST be refused by the client's own node, "
    "as ICMP port unreachable.",
    level="extended",
    since="1.31",
    source=NFTABLES,
    features=["unserved-ports-refused"],
    needs=ON_THE_NODES,
    arrange=far_away,
)
@everywhere(protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_unserved_port(world, service, protocol, family):
    frontend, client = service.cluster_ip(family, UNSERVED), world.vantage("pod@first")
    with watched(world, frontend) as wire, world.watching(client=client) as at_client:
        for flows in world.everywhere("pod", "node").open_each([(frontend, protocol)], count=1):
            flows.must_stay_within_the_verdict()
            assert flows.outcomes == {FlowOutcome.REFUSED}
        must_stay_inside(world, wire, frontend)
        own = client.vantage.addresses[family]
        refusal = ip(dst=own) / icmp("port-unreachable", family)
        at_client.at("client").must_have(refusal / ip(src=own, dst=frontend.ip))


@requirement(
    "packets.leaks.unallocated-ip",
    must="Packets to a ClusterIP that no Service has any more MUST NOT leave a node by its uplink.",
    level="record",
    since="1.31",
    source=NFTABLES,
    needs=ON_THE_NODES,
)
def test_unallocated_ip(world):
    service = far_away(world)
    targets = service.every_cluster_ip("UDP")
    service.delete()
    world.settle()
    with watched(world, targets[0][0]) as wire:
        world.everywhere("pod").open_each(targets, count=1)
        for frontend, _ in targets:
            must_stay_inside(world, wire, frontend)


@requirement(
    "packets.leaks.ping",
    must="A ping of a ClusterIP MUST be answered from it.",
    level="record",
    since="1.0",
    source="https://github.com/kubernetes/website/issues/41002",
    needs=NEEDS,
    arrange=far_away,
)
@everywhere(family=["IPv4", "IPv6"])
def test_ping(world, service, family):
    frontend, client = service.cluster_ip(family), world.vantage("pod@first")
    with world.talking(client, frontend, "UDP", service.endpoints[0].backend) as talk:
        client.inject(echo_request(client.vantage.addresses[family], frontend.ip))
        talk.exchange()
        talk.wire.at("client").must_have(echo_reply(frontend.ip))
