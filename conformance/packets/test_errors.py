# SPDX-License-Identifier: Apache-2.0
"""ICMP errors about a Service's packets: whoever sent the packet has to recognise it."""

from conformance.packets.ways import NEEDS, far_away, talks
from conformance.sources import NAT_ICMP
from plugins.packets import error_about, icmp, ip
from plugins.requirements import everywhere, requirement

LESS_THAN_BEFORE = 1300


@requirement(
    "packets.errors.of-the-endpoint",
    must="An ICMP error that an endpoint sends about a packet of a client MUST reach the client as if it came from "
    "the address dialled, and MUST quote the packet as the client sent it.",
    level="extended",
    since="1.0",
    source=NAT_ICMP,
    needs=NEEDS,
    arrange=far_away,
)
@everywhere(family=["IPv4", "IPv6"])
def test_error_of_the_endpoint(world, service, family):
    for talk in talks(world, service, family, "UDP"):
        talk.endpoint.inject(error_about(talk.received, "port-unreachable", by=talk.received.dst))
        talk.exchange()
        error = ip(src=talk.frontend.ip, dst=talk.sent.src) / icmp("port-unreachable", family)
        talk.wire.at("client").must_have(error / talk.from_client())


@requirement(
    "packets.errors.of-a-router",
    must="An ICMP error that a router sends about a packet on its way to an endpoint MUST reach the client, "
    "and MUST quote the packet as the client sent it.",
    level="extended",
    since="1.0",
    source=NAT_ICMP,
    needs=NEEDS,
    arrange=far_away,
)
@everywhere(family=["IPv4", "IPv6"])
def test_error_of_a_router(world, service, family):
    for talk in talks(world, service, family, "TCP"):
        router = world.nodes[1].addresses[family]
        world.vantage("node@second").inject(error_about(talk.received, "time-exceeded", by=router))
        talk.exchange()
        error = ip(dst=talk.sent.src) / icmp("time-exceeded", family)
        talk.wire.at("client").must_have(error / talk.from_client())


@requirement(
    "packets.errors.of-the-client",
    must="An ICMP error that a client sends about an answer MUST reach the endpoint, "
    "and MUST quote the answer as the endpoint sent it.",
    level="extended",
    since="1.0",
    source=NAT_ICMP,
    needs=NEEDS,
    arrange=far_away,
)
@everywhere(family=["IPv4", "IPv6"])
def test_error_of_the_client(world, service, family):
    for talk in talks(world, service, family, "UDP"):
        talk.client.inject(error_about(talk.answer, "port-unreachable", by=talk.answer.dst))
        talk.exchange()
        error = ip(src=talk.received.src, dst=talk.received.dst) / icmp("port-unreachable", family)
        talk.wire.at("endpoint").must_have(error / talk.from_endpoint())


@requirement(
    "packets.errors.path-mtu",
    must="A client that a router tells of a smaller MTU on the way to an endpoint MUST be able to believe it, "
    "and MUST be served with the smaller packets that it then sends.",
    level="extended",
    since="1.0",
    source=NAT_ICMP,
    needs=NEEDS,
    arrange=far_away,
)
@everywhere(family=["IPv4", "IPv6"])
def test_path_mtu(world, service, family):
    for talk in talks(world, service, family, "UDP", of=("ClusterIP", "LoadBalancer")):
        router = world.nodes[1].addresses[family]
        big = error_about(talk.received, "too-big", by=router, mtu=LESS_THAN_BEFORE)
        world.vantage("node@second").inject(big)
        talk.exchange(request_size=LESS_THAN_BEFORE + 100)
        sent = talk.wire.leaving("client").every(ip(src=talk.sent.src, dst=talk.frontend.ip))
        sent.must_not_exceed(LESS_THAN_BEFORE)
