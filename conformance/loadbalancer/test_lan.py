# SPDX-License-Identifier: Apache-2.0
"""A load balancer's IP on the nodes' own LAN, where it is not for nodes to say that they have it.

Who looks for it there (by ARP or NDP) must hear nothing, for nobody has it. What announces it speaks for one node.
"""

from ipaddress import ip_network

from clusters.observation import FlowOutcome
from conformance.sources import PROXY_CONFIG
from plugins.flows import ViolationError, summary
from plugins.requirements import requirement
from plugins.world import UnfitError

STRICT = "proxy-config:{strictARP: true}"
SOURCE = PROXY_CONFIG + "#kubeproxy-config-k8s-io-v1alpha1-KubeProxyIPVSConfiguration"
# So far from the end of a range that no cluster's nodes are there.
FROM_THE_END = 20


def on_the_lan(world):
    known = world.cluster.placeholders
    ranges = [known[name] for name in ("lan-ipv4", "lan-ipv6") if name in known]
    if not ranges:
        raise UnfitError("the cluster does not know the range of its LAN")
    ingress = [str(ip_network(one)[-FROM_THE_END]) for one in ranges]
    return world.service(kind="LoadBalancer", endpoints=world.backends(2), ingress=ingress)


@requirement(
    "loadbalancer.lan.nobody-answers-for-an-ip",
    must="Nodes MUST NOT answer on their LAN for a load balancer's IP that nobody announces.",
    level="extended",
    since="1.13",
    source=SOURCE,
    needs=["external-client", "captures"],
    arrange=on_the_lan,
)
def test_nobody_answers(world, service):
    must_be_nobodys(world, service)


@requirement(
    "loadbalancer.lan.strict-arp",
    must="With strictARP, nodes MUST NOT answer on their LAN for a load balancer's IP that nobody announces.",
    level="extended",
    since="1.13",
    source=SOURCE,
    needs=["external-client", "captures", STRICT],
    arrange=on_the_lan,
)
def test_strict_arp(world, service):
    must_be_nobodys(world, service)


def must_be_nobodys(world, service):
    """Who dials it from the LAN hears of nobody, while the nodes' own pods are served."""
    targets, client = service.every_load_balancer_ip(), world.vantage("outside")
    world.everywhere("pod").each_must_reach_exactly(targets, service)
    requests = [client.request(*target, None) for target in targets]
    seen = world.cluster.probe(requests, timeout=client.timeout)
    world.record.saw(seen, "nobody on the LAN says that it has the address", summary(seen))
    heard = [one for one in seen if one.outcome not in (FlowOutcome.UNREACHABLE, FlowOutcome.TIMEOUT)]
    if heard:
        violation = ViolationError(f"observed outcome {heard[0].outcome} where nobody should have the address")
        violation.probes = tuple((one,) for one in heard)
        raise violation
