# SPDX-License-Identifier: Apache-2.0
"""What does not fit one packet: IP fragments, and TCP segments that a card would cut."""

from conformance.packets.ways import NEEDS, far_away, talks, ways
from conformance.sources import RFC, VIRTUAL_IPS
from plugins.packets import again, fragments_of
from plugins.requirements import everywhere, requirement

FRAGMENTS = RFC + "rfc4787#section-11"
LARGE, MANY_SEGMENTS = 4000, 60000
GRANULAR = "Networking Granular Checks: Services should be able to handle large requests: "
SECONDARY = (
    "[Feature:IPv6DualStack] Granular Checks: Services Secondary IP Family [LinuxOnly] "
    "should be able to handle large requests: "
)


def all_ways(world, service, family, protocol):
    return [*ways(world, service, family, protocol), (world.vantage("node@first"), service.cluster_ip(family))]


@requirement(
    "packets.fragments.of-a-request",
    must="A UDP request that is larger than a packet MUST reach the endpoint whole, the first of a flow too.",
    level="extended",
    since="1.0",
    source=FRAGMENTS,
    upstream=[GRANULAR + "udp", SECONDARY + "udp"],
    needs=["nodes:3", "external-client", "lb-route"],
    arrange=far_away,
)
@everywhere(family=["IPv4", "IPv6"])
def test_large_requests(world, service, family):
    for client, frontend in all_ways(world, service, family, "UDP"):
        with client.hold(frontend, "UDP", request_size=LARGE):
            pass  # the client may have to learn first that a tunnel on the way is narrower than its link (RFC 8201)
        with client.hold(frontend, "UDP", request_size=LARGE) as flow:
            seen = [flow.first, flow.exchange(request_size=LARGE)]
        client.judged(frontend, "UDP", seen).must_reach_exactly(service.ready_backends)


@requirement(
    "packets.fragments.of-a-reply",
    must="A UDP reply that is larger than a packet MUST reach the client whole.",
    level="extended",
    since="1.0",
    source=FRAGMENTS,
    upstream=[GRANULAR + "udp", SECONDARY + "udp"],
    needs=["nodes:3", "external-client", "lb-route"],
    arrange=far_away,
)
@everywhere(family=["IPv4", "IPv6"])
def test_large_replies(world, service, family):
    for client, frontend in all_ways(world, service, family, "UDP"):
        with client.hold(frontend, "UDP") as flow:
            seen = [flow.exchange(reply_padding=LARGE)]
        client.judged(frontend, "UDP", seen).must_reach_exactly(service.ready_backends)


@requirement(
    "packets.segments.many-at-once",
    must="A request and a reply of many segments MUST pass whole on a TCP connection through a Service.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
    upstream=[GRANULAR + "http", SECONDARY + "http"],
    needs=["nodes:3", "external-client", "lb-route"],
    arrange=far_away,
)
@everywhere(family=["IPv4", "IPv6"])
def test_many_segments(world, service, family):
    for client, frontend in all_ways(world, service, family, "TCP"):
        with client.hold(frontend, "TCP") as connection:
            seen = [connection.exchange(request_size=MANY_SEGMENTS, reply_padding=MANY_SEGMENTS)]
        client.judged(frontend, "TCP", seen).must_reach_exactly(service.ready_backends)


@requirement(
    "packets.fragments.overtaking",
    must="A UDP request whose fragments arrive in reverse MUST be answered.",
    level="record",
    since="1.0",
    source=FRAGMENTS,
    needs=NEEDS,
    arrange=far_away,
)
@everywhere(family=["IPv4", "IPv6"])
def test_fragments_in_reverse(world, service, family):
    for talk in talks(world, service, family, "UDP"):
        question = again(talk.sent, payload=b"?reversed 0 " + b"x" * LARGE + b"\n")
        for fragment in reversed(fragments_of(question, 1000)):
            talk.client.inject(fragment)
        talk.exchange()
        talk.wire.at("client").must_have(talk.to_client(), times=2)
