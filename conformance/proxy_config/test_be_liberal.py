# SPDX-License-Identifier: Apache-2.0
"""tcpBeLiberal: a segment outside its connection's window, which connection tracking may leave untranslated."""

from conformance.proxy_config.test_localhost_node_ports import OFF
from conformance.sources import VIRTUAL_IPS
from plugins.packets import out_of_window, resets
from plugins.requirements import everywhere, requirement

WORKAROUND = VIRTUAL_IPS + "#migrating-from-iptables-mode-to-nftables"
CLIENTS = {"vantage": ["pod@first", "pod@second"], "family": ["IPv4", "IPv6"]}


def on_another_node(world):
    return world.service(endpoints=world.nodes[-1].backends[:1])


@requirement(
    "proxy-config.tcp-be-liberal.connection-survives",
    must="With tcpBeLiberal, a connection through a ClusterIP MUST survive a segment from its endpoint "
    "that lies outside its window.",
    level="extended",
    since="1.29",
    source=WORKAROUND,
    upstream=["Conntrack proxy implementation should not be vulnerable to the invalid conntrack state bug"],
    needs=["nodes:3", "raw-packets", OFF],
    arrange=on_another_node,
)
@everywhere(**CLIENTS)
def test_connection_survives(world, service, vantage, family):
    must_survive(world, service, vantage, service.cluster_ip(family))


@requirement(
    "proxy-config.tcp-be-liberal.not-needed-where-invalid-is-dropped",
    must="Without tcpBeLiberal, a proxy that works round it MUST keep a segment outside its connection's window "
    "from ending a connection through a ClusterIP.",
    level="extended",
    since="1.15",
    source=WORKAROUND,
    upstream=["Conntrack proxy implementation should not be vulnerable to the invalid conntrack state bug"],
    features=["invalid-dropped"],
    needs=["nodes:3", "raw-packets"],
    arrange=on_another_node,
)
@everywhere(**CLIENTS)
def test_connection_survives_without(world, service, vantage, family):
    must_survive(world, service, vantage, service.cluster_ip(family))


def must_survive(world, service, vantage, frontend):
    """The exchange after it comes the same way: once it has ended, the stray segment has arrived or is lost."""
    backend = service.endpoints[0].backend
    endpoint = world.prober(backend.vantage)
    with vantage.hold(frontend, "TCP") as connection:
        with endpoint.capture() as sent:
            vantage.judged(frontend, "TCP", [connection.exchange()]).must_reach_exactly({backend.name})
        with vantage.capture() as arrived:
            endpoint.inject(out_of_window(sent.packets))
            after = connection.exchange()
        vantage.judged(frontend, "TCP", [after]).must_reach_exactly({backend.name})
    assert resets(arrived.packets) == 0, "the client must not reset what it cannot recognise"
