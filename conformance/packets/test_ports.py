# SPDX-License-Identifier: Apache-2.0
"""Source ports that meet: flows that look the same to an endpoint are kept apart."""

from contextlib import ExitStack

from conformance.packets.ways import far_away
from conformance.sources import RFC
from plugins.packets import again, ip, udp
from plugins.requirements import everywhere, requirement

# Below those that kernels choose themselves, and below node ports.
PORT, ANOTHER_PORT, A_THIRD = 15001, 15002, 15003
APART = RFC + "rfc4787#section-4.2.1"


def two_services(world):
    return [far_away(world), far_away(world)]


@requirement(
    "packets.ports.of-two-clients",
    must="Clients that use a node port from the same source port at the same time MUST all be served, "
    "though the endpoint sees the node's address for each.",
    level="extended",
    since="1.0",
    source=APART,
    needs=["nodes:3", "external-client", "lb-route"],
    arrange=far_away,
)
@everywhere(protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_clients_with_one_port(world, service, protocol, family):
    frontend = service.node_port(world.nodes[0], family, protocol)
    clients = [world.vantage("outside"), *world.everywhere("pod").probers]
    with ExitStack() as stack:
        flows = [stack.enter_context(client.hold(frontend, protocol, source_port=PORT)) for client in clients]
        for client, flow in zip(clients, flows, strict=True):
            client.judged(frontend, protocol, [flow.exchange()]).must_reach_exactly(service.ready_backends)
    seen = {flow.first.client_seen for flow in flows}
    assert len(seen) == len(clients), "the endpoint must be able to tell them apart"


@requirement(
    "packets.ports.of-two-frontends",
    must="Flows from one source port to two ClusterIPs with the same endpoint MUST both be answered, "
    "each from the address that it dialled.",
    level="extended",
    since="1.0",
    source=APART,
    needs=["nodes:3", "raw-packets", "captures", "external-client", "lb-route"],
    arrange=two_services,
)
@everywhere(family=["IPv4", "IPv6"])
def test_frontends_dialled_from_one_port(world, service, family):
    one, other = (each.cluster_ip(family) for each in service)
    client, backend = world.vantage("pod@first"), service[0].endpoints[0].backend
    with client.hold(one, "TCP", source_port=PORT) as first, client.hold(other, "TCP", source_port=PORT) as second:
        for frontend, flow in ((one, first), (other, second), (one, first)):
            client.judged(frontend, "TCP", [flow.exchange()]).must_reach_exactly({backend.name})
    with world.talking(client, one, "UDP", backend) as talk:
        client.inject(again(talk.sent, dst=other.ip))
        talk.exchange()
        port = talk.sent.payload.sport
        talk.wire.at("client").must_have(ip(src=other.ip) / udp(sport=other.port, dport=port))


@requirement(
    "packets.ports.past-the-service",
    must="A client that has used a ClusterIP MUST be answered by its endpoint's own address on the same source port.",
    level="extended",
    since="1.0",
    source=APART,
    needs=["nodes:3", "external-client", "lb-route"],
    arrange=far_away,
)
@everywhere(protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_endpoint_dialled_itself(world, service, protocol, family):
    client, endpoint = world.vantage("pod@second"), service.endpoints[0]
    direct = next(one for one, own in service.at_endpoint(endpoint, family) if own == protocol)
    for frontend in (service.cluster_ip(family), direct):
        flows = client.open(frontend, protocol, source_port=ANOTHER_PORT)
        flows.must_reach_exactly(service.ready_backends)
