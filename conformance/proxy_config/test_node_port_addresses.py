# SPDX-License-Identifier: Apache-2.0
"""nodePortAddresses: at which addresses of a node its node ports answer."""

from conformance.sources import PROXY_CONFIG, SERVICE
from plugins.requirements import everywhere, requirement

SECOND_ONLY = "proxy-config:{nodePortAddresses: [<second-lan-ipv4>, <second-lan-ipv6>]}"
PRIMARY = "proxy-config:{nodePortAddresses: [primary]}"
BOTH = (
    "proxy-config:{nodePortAddresses: [<lan-ipv4>, <second-lan-ipv4>, <lan-ipv6>, <second-lan-ipv6>], "
    "masqueradeAll: true}"
)
PLACES = {
    "vantage": ["outside", "pod", "node"],
    "protocol": ["TCP", "UDP"],
    "family": ["IPv4", "IPv6"],
    "node": ["first", "second"],
}


def behind_a_node_port(world):
    return world.service(kind="NodePort", endpoints=world.backends(2))


@requirement(
    "proxy-config.node-port-addresses.listed-range-only",
    must="With nodePortAddresses set to a range, a node port MUST answer at the nodes' addresses in that range, "
    "and MUST NOT answer at those outside it.",
    level="extended",
    since="1.10",
    source=SERVICE + "#service-nodeport-custom-listen-address",
    needs=["nodes:2", "external-client", "second-address", SECOND_ONLY],
    arrange=behind_a_node_port,
)
@everywhere(**PLACES)
def test_only_the_listed_range_answers(service, vantage, protocol, family, node):
    reach_all(service, vantage, protocol, service.node_port(node, family, protocol, second=True))
    must_not_answer(vantage, protocol, service.node_port(node, family, protocol))


@requirement(
    "proxy-config.node-port-addresses.loopback-left-out",
    must="With nodePortAddresses set to ranges that hold no loopback address, a node port MUST NOT answer "
    "on the nodes' loopback.",
    level="extended",
    since="1.10",
    source=SERVICE + "#service-nodeport-custom-listen-address",
    needs=["nodes:2", "second-address", SECOND_ONLY],
    arrange=behind_a_node_port,
)
@everywhere(vantage=["node@first", "node@second"], protocol=["TCP", "UDP"], family=["IPv4", "IPv6"])
def test_loopback_is_left_out(world, service, vantage, protocol, family):
    reach_all(service, vantage, protocol, service.node_port(world.nodes[0], family, protocol, second=True))
    must_not_answer(vantage, protocol, service.loopback_node_port(family, protocol))


@requirement(
    "proxy-config.node-port-addresses.primary",
    must="With nodePortAddresses set to primary, a node port MUST answer at the nodes' primary addresses, "
    "and MUST NOT answer at any other.",
    level="extended",
    since="1.29",
    source=PROXY_CONFIG,
    needs=["nodes:2", "external-client", "second-address", PRIMARY],
    arrange=behind_a_node_port,
)
@everywhere(**PLACES)
def test_only_the_primary_address_answers(service, vantage, protocol, family, node):
    reach_all(service, vantage, protocol, service.node_port(node, family, protocol))
    must_not_answer(vantage, protocol, service.node_port(node, family, protocol, second=True))


@requirement(
    "proxy-config.node-port-addresses.several-ranges",
    must="With several ranges in nodePortAddresses, a node port MUST answer at the nodes' addresses in each of them.",
    level="extended",
    since="1.10",
    source=SERVICE + "#service-nodeport-custom-listen-address",
    needs=["nodes:2", "external-client", "second-address", BOTH],
    arrange=behind_a_node_port,
)
@everywhere(**PLACES)
def test_every_listed_range_answers(service, vantage, protocol, family, node):
    for second in (False, True):
        reach_all(service, vantage, protocol, service.node_port(node, family, protocol, second=second))


def reach_all(service, vantage, protocol, frontend):
    flows = vantage.open(frontend, protocol, count=service.enough_to_see_every_endpoint())

    flows.must_reach_exactly(service.ready_backends)


def must_not_answer(vantage, protocol, frontend):
    vantage.open(frontend, protocol, count=4).must_stay_within_the_verdict()
