# SPDX-License-Identifier: Apache-2.0
"""A random choice: each endpoint with the same chance, whoever was chosen before. Numbers: docs/statistics.md."""

from conformance.sources import VIRTUAL_IPS
from plugins.requirements import requirement
from plugins.services import Port
from plugins.slices import Endpoint, Slice, terminating
from plugins.spread import must_be_even, must_be_independent, must_fit
from plugins.statistics import Spread

# "kube-proxy … selects a backend endpoint at random"; nftables mode does as iptables mode.
AT_RANDOM = VIRTUAL_IPS + "#proxy-mode-iptables"
RANDOM = "scheduler-random"
# Few enough to stay far from the 1,000 endpoints at which kube-proxy's iptables mode changes its ways.
HUNDREDS = 300


def some(targets):
    """Of a Service's targets in both families: TCP over IPv4, UDP over IPv6."""
    return [target for target in targets if (target[0].family, target[1]) in (("IPv4", "TCP"), ("IPv6", "UDP"))]


def three(world):
    return world.service(endpoints=world.backends(3))


@requirement(
    "distribution.clusterip.even",
    must="New connections of one client to a ClusterIP MUST be spread evenly over the Service's endpoints.",
    level="extended",
    since="1.2",
    source=AT_RANDOM,
    features=[RANDOM],
    arrange=three,
)
def test_clusterip(world, service):
    must_be_even(world.vantage("pod"), service.every_cluster_ip(), "half")


def everyone(world):
    return world.service(
        endpoints=[backend for node in world.nodes for backend in (*node.backends, node.host_backend)]
    )


@requirement(
    "distribution.clusterip.even-over-many",
    must="New connections to a ClusterIP with as many endpoints as there are MUST be spread evenly over all of them.",
    level="extended",
    since="1.2",
    source=AT_RANDOM,
    features=[RANDOM],
    arrange=everyone,
)
def test_many_endpoints(world, service):
    must_be_even(world.vantage("pod@second"), some(service.every_cluster_ip()), "double")


@requirement(
    "distribution.clusterip.even-over-hundreds",
    must="New connections to a ClusterIP with hundreds of endpoints MUST be spread evenly over all of them.",
    level="extended",
    since="1.2",
    source=AT_RANDOM,
    features=[RANDOM],
    needs=["nodes:2"],
)
def test_hundreds_of_endpoints(world):
    family = world.families[0]
    service = world.service(
        endpoints=world.many_backends(HUNDREDS),
        ports=[Port(80, 8080, "TCP")],
        ipFamilyPolicy="SingleStack",
        ipFamilies=[family],
    )
    world.settle()

    [target] = service.every_cluster_ip(family=family)
    must_fit(
        world.vantage("pod"), target, Spread.coarse(HUNDREDS), "a quarter of them with half of the others' share"
    )


def two(world):
    return world.service(endpoints=world.backends(2))


@requirement(
    "distribution.clusterip.independent",
    must="Of new connections to a ClusterIP each MUST have its endpoint chosen whatever the one before was given.",
    level="extended",
    since="1.2",
    source=AT_RANDOM,
    features=[RANDOM],
    arrange=two,
)
def test_choices_are_independent(world, service):
    must_be_independent(world.vantage("pod"), some(service.every_cluster_ip()))


def behind_everything(world):
    return world.service(
        kind="LoadBalancer", endpoints=world.backends(2), ingress=world.virtual_ips(through="second")
    )


@requirement(
    "distribution.nodeport.even",
    must="New connections of a client outside to a node port MUST be spread evenly over the Service's endpoints.",
    level="extended",
    since="1.2",
    source=AT_RANDOM,
    features=[RANDOM],
    needs=["external-client"],
    arrange=behind_everything,
)
def test_node_port(world, service):
    must_be_even(world.vantage("outside"), some(service.every_node_port(world.nodes[0])), "half")


@requirement(
    "distribution.loadbalancer.even",
    must="New connections of a client outside to a load balancer's IP MUST be spread evenly over the Service's "
    "endpoints.",
    level="extended",
    since="1.2",
    source=AT_RANDOM,
    features=[RANDOM],
    needs=["nodes:2", "external-client", "lb-route"],
    arrange=behind_everything,
)
def test_load_balancer(world, service):
    must_be_even(world.vantage("outside"), some(service.every_load_balancer_ip()), "half")


def local_and_elsewhere(world):
    first, second = world.nodes[:2]
    return world.service(
        kind="NodePort",
        endpoints=[*first.backends[:2], *second.backends[:1]],
        externalTrafficPolicy="Local",
        internalTrafficPolicy="Local",
    )


@requirement(
    "distribution.local-policy.even",
    must="Under a Local traffic policy new connections MUST be spread evenly over the endpoints of the node.",
    level="extended",
    since="1.26",
    source=AT_RANDOM,
    features=[RANDOM],
    needs=["nodes:2", "external-client"],
    arrange=local_and_elsewhere,
)
def test_local_endpoints(world, service):
    must_be_even(world.vantage("pod"), some(service.every_cluster_ip()), "half")
    must_be_even(world.vantage("outside"), some(service.every_node_port(world.nodes[0])), "half")


def hinted(world):
    here, elsewhere = world.nodes[0].zone, world.zones(2)[1]
    zones = (here, elsewhere, here)
    return world.service(
        endpoints=[Endpoint(each, for_zones=(zone,)) for each, zone in zip(world.backends(3), zones, strict=True)]
    )


@requirement(
    "distribution.hinted.even",
    must="Where hints keep some of the endpoints for a zone, new connections MUST be spread evenly over these.",
    level="extended",
    since="1.34",
    source=AT_RANDOM,
    features=[RANDOM],
    needs=["nodes:2"],
    arrange=hinted,
)
def test_hinted_endpoints(world, service):
    must_be_even(world.vantage("pod@first"), some(service.every_cluster_ip()), "half")


def all_draining(world):
    return world.service(endpoints=[terminating(backend) for backend in world.backends(2)])


@requirement(
    "distribution.terminating.even",
    must="Where only terminating endpoints are left, new connections MUST be spread evenly over those that serve.",
    level="extended",
    since="1.28",
    source=AT_RANDOM,
    features=[RANDOM],
    arrange=all_draining,
)
def test_terminating_endpoints(world, service):
    must_be_even(world.vantage("pod"), some(service.every_cluster_ip()), "half")


def one_and_three(world):
    first, *others = world.backends(4)
    return world.service(slices=[Slice([first]), Slice(others)])


@requirement(
    "distribution.slices.even-over-unequal-slices",
    must="New connections MUST be spread evenly over a Service's endpoints, however many each EndpointSlice holds.",
    level="extended",
    since="1.19",
    source=AT_RANDOM,
    features=[RANDOM],
    arrange=one_and_three,
)
def test_unequal_slices(world, service):
    must_be_even(world.vantage("pod"), some(service.every_cluster_ip()), "half")


def one_listed_twice(world):
    first, second = world.backends(2)
    return world.service(slices=[Slice([first, second]), Slice([first])])


@requirement(
    "distribution.slices.listed-twice-counts-once",
    must="An endpoint that two EndpointSlices of a Service list MUST get no more new connections than any other.",
    level="extended",
    since="1.19",
    source=AT_RANDOM,
    features=[RANDOM],
    arrange=one_listed_twice,
)
def test_listed_twice(world, service):
    must_be_even(world.vantage("pod"), some(service.every_cluster_ip()), "half")
