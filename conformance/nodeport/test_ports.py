# SPDX-License-Identifier: Apache-2.0
"""NodePort: which number leads where, and which lead nowhere."""

from conformance.sources import SERVICE
from plugins.requirements import requirement
from plugins.services import Port

SOURCE = SERVICE + "#type-nodeport"


def every_node_port(world, service):
    return [target for node in world.nodes for target in service.every_node_port(node)]


def same_number(world):
    return world.service(
        kind="NodePort", endpoints=world.backends(2), ports=[Port(80, 8081, "TCP"), Port(80, 8082, "UDP")]
    )


@requirement(
    "nodeport.number.two-protocols",
    must="A number that is a node port for TCP and for UDP MUST lead each protocol to its own target port.",
    level="extended",
    since="1.0",
    source=SERVICE + "#protocol-support",
    upstream=[
        (
            "Services should be able to update service type to NodePort listening on same port number "
            "but different protocols"
        )
    ],
    needs=["external-client"],
    arrange=same_number,
)
def test_node_port_tells_protocols_apart(world, service):
    targets = every_node_port(world, service)
    assert len({frontend.port for frontend, _ in targets}) == 1

    world.everywhere("pod", "node", "outside").each_must_stay_within_the_verdict(targets, count=2)


def one_number_twice(world):
    at_nodes = world.service(kind="NodePort", endpoints=world.backends(2))
    number = at_nodes.live["spec"]["ports"][0]["nodePort"]
    return at_nodes, world.service(port=number, endpoints=world.backends(4)[2:])


@requirement(
    "nodeport.number.also-a-cluster-ips-port",
    must="A Service whose port has the number of another one's node port MUST be served at its ClusterIP, "
    "and the other MUST be at the nodes' addresses.",
    level="extended",
    since="1.0",
    source=SOURCE,
    arrange=one_number_twice,
)
def test_node_port_is_no_port_of_cluster_ips(world, service):
    at_nodes, at_cluster_ip = service
    ways_in = [*at_cluster_ip.every_cluster_ip(), *every_node_port(world, at_nodes)]

    world.everywhere("pod", "node").each_must_stay_within_the_verdict(ways_in, count=2)


def host_processes(world):
    return [world.service(kind="NodePort", endpoints=[node.host_backend]) for node in world.nodes]


@requirement(
    "nodeport.host-port.left-alone",
    must="What a node's own process listens on MUST stay reachable at the node's address, from pods, nodes and "
    "outside, where no Service has a node port of that number.",
    level="extended",
    since="1.0",
    source=SOURCE,
    needs=["external-client"],
    arrange=host_processes,
)
def test_host_port_is_left_alone(world, service):
    anyone = world.everywhere("pod", "node", "outside")
    targets = [
        target for one in service for family in world.families for target in one.at_endpoint(one.endpoints[0], family)
    ]
    node_of = {ip: node.host_backend.name for node in world.nodes for ip in node.addresses.values()}

    flows_by_target = zip(targets * len(anyone.probers), anyone.open_each(targets, count=2), strict=True)
    for (frontend, _), flows in flows_by_target:
        flows.must_reach_exactly({node_of[frontend.ip]})
