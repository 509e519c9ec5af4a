# SPDX-License-Identifier: Apache-2.0
"""Packets that look unusual, and are as good as any."""

from conformance.packets.ways import NEEDS, far_away, talks
from conformance.sources import RFC
from plugins.packets import again, with_options, without_checksum
from plugins.requirements import everywhere, requirement


@requirement(
    "packets.headers.udp-without-checksum",
    must="A UDP datagram over IPv4 that carries no checksum MUST reach its endpoint through a Service.",
    level="extended",
    since="1.0",
    source=RFC + "rfc768",
    needs=NEEDS,
    arrange=far_away,
)
@everywhere(family=["IPv4"])
def test_udp_without_checksum(world, service, family):
    for talk in talks(world, service, family, "UDP"):
        talk.client.inject(without_checksum(talk.sent))
        talk.exchange()
        talk.wire.at("endpoint").must_have(talk.to_endpoint(), times=2)
        talk.wire.at("client").must_have(talk.to_client(), times=2)


@requirement(
    "packets.headers.options",
    must="A packet with IPv4 options or an IPv6 extension header MUST reach its endpoint through a Service.",
    level="extended",
    since="1.0",
    source=RFC + "rfc791#section-3.1",
    needs=NEEDS,
    arrange=far_away,
)
@everywhere(family=["IPv4", "IPv6"])
def test_options(world, service, family):
    for talk in talks(world, service, family, "UDP"):
        talk.client.inject(with_options(again(talk.sent)))
        talk.exchange()
        talk.wire.at("endpoint").must_have(talk.to_endpoint(), times=2)
        talk.wire.at("client").must_have(talk.to_client(), times=2)
