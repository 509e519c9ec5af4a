# SPDX-License-Identifier: Apache-2.0
"""The packets of a TCP connection through a Service, to its end."""

from conformance.packets.ways import NEEDS, far_away, talks
from conformance.sources import RFC, VIRTUAL_IPS
from plugins.packets import far_ahead, ip, tcp
from plugins.requirements import everywhere, requirement


@requirement(
    "packets.connections.stray-reset",
    must="A connection through a Service MUST survive an RST from its endpoint's address "
    "that lies outside its window.",
    level="extended",
    since="1.0",
    source=RFC + "rfc5961#section-3.2",
    needs=NEEDS,
    arrange=far_away,
)
@everywhere(family=["IPv4", "IPv6"])
def test_stray_reset(world, service, family):
    for talk in talks(world, service, family, "TCP"):
        talk.endpoint.inject(far_ahead(talk.answered, flags="R"))
        talk.exchange()
        talk.exchange()


@requirement(
    "packets.connections.to-the-last-segment",
    must="All that a client gets of a TCP connection through a Service, the end of it too, "
    "MUST come from the address that it dialled.",
    level="extended",
    since="1.0",
    source=VIRTUAL_IPS,
    needs=NEEDS,
    arrange=far_away,
)
@everywhere(family=["IPv4", "IPv6"])
def test_to_the_last_segment(world, service, family):
    for talk in talks(world, service, family, "TCP"):
        talk.flow.close("fin")
        world.received()  # the backend has read the end, and answered it; what it answers next comes later
        talk.client.open(talk.frontend, "TCP").must_reach_exactly(service.ready_backends)
        client = talk.wire.at("client").every(ip(dst=talk.sent.src) / tcp(dport=talk.sent.payload.sport))
        client.must_be(talk.to_client())
        client.must_have(talk.to_client(flags="FA"))
