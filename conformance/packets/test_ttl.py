# SPDX-License-Identifier: Apache-2.0
"""Time to live: a Service's packets are forwarded as all others are."""

from conformance.packets.ways import NEEDS, far_away, talks
from conformance.sources import RFC
from plugins.packets import again, icmp, ip
from plugins.requirements import everywhere, requirement

ROUTERS = RFC + "rfc1812#section-5.3.1"
# No packet begins with it unless a test says so.
TTL = 40
TOO_LATE = b"?late 0\n"


def nodes_between(world, talk):
    """How many nodes forward the packets of a flow: the one where it enters, and the endpoint's own."""
    return len({talk.client.node or world.nodes[0].name, talk.endpoint.node})


@requirement(
    "packets.ttl.counts-nodes",
    must="Each node that forwards a packet of a Service MUST take one off its time to live, in both directions.",
    level="extended",
    since="1.0",
    source=ROUTERS,
    needs=NEEDS,
    arrange=far_away,
)
@everywhere(protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_each_node_counts(world, service, protocol, family):
    for talk in talks(world, service, family, protocol, routed=True):
        talk.client.inject(again(talk.sent, ttl=TTL))
        talk.endpoint.inject(again(talk.answered, ttl=TTL))
        talk.exchange()
        left = TTL - nodes_between(world, talk)
        talk.wire.at("endpoint").must_have(talk.to_endpoint(ttl=left))
        talk.wire.at("client").must_have(talk.to_client(ttl=left))


@requirement(
    "packets.ttl.ends",
    must="A packet whose time to live ends at the node that it enters MUST NOT reach an endpoint, "
    "and the client MUST be told, with the packet quoted as it sent it.",
    level="extended",
    since="1.0",
    source=ROUTERS,
    needs=NEEDS,
    arrange=far_away,
)
@everywhere(protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_the_end_is_told(world, service, protocol, family):
    for talk in talks(world, service, family, protocol, routed=True):
        talk.client.inject(again(talk.sent, ttl=1, payload=TOO_LATE))
        talk.exchange()
        told = ip(dst=talk.sent.src) / icmp("time-exceeded", family)
        talk.wire.at("client").must_have(told / talk.from_client())
        assert not talk.wire.at("endpoint").carrying(TOO_LATE), "it must not have reached the endpoint"
