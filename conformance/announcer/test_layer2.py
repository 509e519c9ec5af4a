# SPDX-License-Identifier: Apache-2.0
"""Layer 2: who answers on the nodes' LAN for a load balancer's IP, and that traffic which follows is served."""

from conformance.sources import EXCLUDED_LABEL, METALLB, METALLB_CLASS, METALLB_SHARING, METALLB_TROUBLE
from plugins.announcing import announced, settled
from plugins.packets import ip
from plugins.requirements import requirement
from plugins.services import BALANCER_CLASS, family_of

# So many pairs of Services that an election by Service rather than by IP shows: three nodes agree on all by chance
# once in eighty times, in two families once in thousands.
PAIRS = 4
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


@requirement(
    "announcer.layer2.one-node-answers",
    must="Exactly one node MUST answer ARP and NDP for a load balancer's IP that is announced in layer 2 mode, and "
    "traffic that enters there MUST reach every ready endpoint.",
    level="extended",
    since="1.21",
    source=METALLB + "concepts/layer2/#load-balancing-behavior",
    needs=["nodes:2", "external-client", "announcer"],
)
def test_one_node_answers(world):
    service = announced(world, endpoints=world.backends(3))

    answers = settled(world, service)

    answers.must_be_right()
    outside = world.vantage("outside")
    with world.watching(outside=outside, **{node.name: node for node in world.nodes}) as wire:
        world.everywhere("outside").each_must_reach_exactly(service.every_load_balancer_ip(), service)
    for address, leader in answers.leaders.items():
        wire.at(leader).must_have(ip(dst=address))
        for node in world.nodes:
            if node.name != leader:
                wire.at(node.name).must_not_have(ip(src=outside.vantage.addresses[family_of(address)], dst=address))


@requirement(
    "announcer.layer2.shared-ip-has-one-node",
    must="Of all Services that share a load balancer's IP one and the same node MUST answer for that IP, wherever "
    "their endpoints are.",
    level="extended",
    since="1.21",
    source=METALLB_SHARING,
    needs=["nodes:2", "external-client", "announcer"],
)
def test_shared_ip_has_one_node(world):
    services = []
    for number in range(PAIRS):
        ips, pods = world.announced_ips(), world.backends(2)
        for port, pod in zip((80, 443), pods, strict=True):
            sharing = {"metallb.io/allow-shared-ip": f"pair-{number}"}
            services.append(announced(world, endpoints=[pod], port=port, ingress=ips, annotations=sharing))

    settled(world, *services).must_be_right()

    outside = world.everywhere("outside")
    for service in services:
        outside.each_must_reach_exactly(service.every_load_balancer_ip(), service)


@requirement(
    "announcer.layer2.deleted-service-is-silent",
    must="A load balancer's IP MUST NOT be answered for any more once its Service is deleted, and MUST still be "
    "while another Service shares it.",
    level="extended",
    since="1.21",
    source=METALLB_SHARING,
    needs=["external-client", "announcer"],
)
def test_deleted_service(world):
    ips, sharing = world.announced_ips(), {"metallb.io/allow-shared-ip": "one"}
    first, second = (
        announced(world, endpoints=world.backends(2), port=port, ingress=ips, annotations=sharing)
        for port in (80, 443)
    )
    settled(world, first, second).must_be_right()

    first.delete()
    settled(world, first, second).must_be_right()
    world.everywhere("outside").each_must_reach_exactly(second.every_load_balancer_ip(), second)

    second.delete()
    settled(world, first, second).must_be_right()


@requirement(
    "announcer.layer2.other-classes-are-left-alone",
    must="An IP in the status of a Service of another load balancer's class MUST NOT be answered for.",
    level="extended",
    since="1.24",
    source=METALLB_CLASS,
    needs=["external-client", "announcer"],
)
def test_other_classes(world):
    ours = announced(world, endpoints=world.backends(2))
    others = announced(world, endpoints=world.backends(2), loadBalancerClass=BALANCER_CLASS)

    settled(world, ours, others).must_be_right()


@requirement(
    "announcer.layer2.excluded-node-is-silent",
    must="A node that is labelled as excluded from external load balancers MUST NOT answer for any IP, and another "
    "MUST answer for those that it had.",
    level="extended",
    since="1.21",
    source=EXCLUDED_LABEL,
    needs=["nodes:2", "external-client", "announcer", "disruptive"],
)
def test_excluded_node(world):
    services = [announced(world, endpoints=world.backends(2)) for _ in range(PAIRS)]
    answers = settled(world, *services)
    answers.must_be_right()
    (node,) = (node for node in world.nodes if node.name == next(iter(answers.leaders.values())))

    others = [one for one in world.nodes if one is not node]
    with world.labelled(node, EXCLUDED, ""):
        settled(world, *services, of=others).must_be_right()
    settled(world, *services).must_be_right()


@requirement(
    "announcer.endpoints.none-no-answer",
    must="A load balancer's IP MUST NOT be answered for while its Service has no active endpoint, and MUST be from "
    "its first one on.",
    level="extended",
    since="1.21",
    source=METALLB_TROUBLE,
    needs=["external-client", "announcer"],
)
def test_without_endpoints(world):
    service = announced(world)
    settled(world, service).must_be_right()

    service.set_endpoints(world.backends(1))
    settled(world, service).must_be_right()
    world.everywhere("outside").each_must_reach_exactly(service.every_load_balancer_ip(), service)

    service.set_endpoints([])
    settled(world, service).must_be_right()
