# SPDX-License-Identifier: Apache-2.0
"""A proxy that is started again with another configuration: what stays, and what must not."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from clusters.agent.client import ProbeRequest
from clusters.binaries import Binary
from clusters.lab.provider import UNSET, Lab
from clusters.observation import Address, Family, FlowOutcome
from clusters.proxies.configuration import DEFAULT, ProxyConfiguration
from clusters.proxies.kube_proxy import KubeProxy, Mode

MODES: tuple[Mode, ...] = ("iptables", "nftables")
FAMILIES: tuple[Family, ...] = ("IPv4", "IPv6")
# A connection that was once translated to this endpoint.
ENDPOINT = "192.0.2.9"
TRACK = [
    *("conntrack", "-I", "-p", "udp", "-s", "192.0.2.1", "-d", "192.0.2.2", "--sport", "1000", "--dport", "53"),
    *("--timeout", "600", "--reply-src", ENDPOINT, "--reply-dst", "192.0.2.1"),
    *("--reply-port-src", "53", "--reply-port-dst", "1000"),
]


def sysctls(lab: Lab) -> list[str]:
    """On the first node route_localnet and tcp_be_liberal; those that only strictARP sets are as on a new node."""
    shown = lab.outputs(lab.nodes[0].name, [["cat", f"/proc/sys/{name}"] for name in UNSET])
    *found, arp_ignore, arp_announce = [text.strip() for text in shown.values()]
    assert (arp_ignore, arp_announce) == ("0", "0")
    return found


def probe_second_addresses(lab: Lab) -> Sequence[FlowOutcome]:
    requests = [
        ProbeRequest(vantage.name, vantage.place, vantage.node, "direct", "TCP", Address(ip, 8080))
        for vantage in (lab.outside, *(node.vantage for node in lab.nodes), *(node.client for node in lab.nodes))
        for node in lab.nodes
        for ip in node.second_addresses.values()
    ]
    return [seen.outcome for seen in lab.probe(requests)]


def test_second_addresses_are_reached_from_everywhere(lab: Lab) -> None:
    """The host network's agent listens on all addresses of its node."""
    assert set(probe_second_addresses(lab)) == {FlowOutcome.REPLY}


def test_no_redirect_is_sent_on_the_way_to_a_second_address(lab: Lab) -> None:
    """A router on one wire would tell the client the shorter way, in a packet that no test asked for."""
    with lab.capture(lab.outside) as capture:
        probe_second_addresses(lab)
    icmp = [packet for packet in capture.packets if packet.data[12:14] == b"\x08\x00" and packet.data[23] == 1]
    assert capture.packets
    assert icmp == []


@pytest.mark.parametrize("mode", MODES)
def test_nothing_but_rules_outlives_a_configuration(mode: Mode, lab: Lab, kube_proxy: Binary) -> None:
    proxy = KubeProxy(lab, binary=kube_proxy.path, version=kube_proxy.version, mode=mode)
    proxy.start()
    try:
        proxy.configure(ProxyConfiguration(tcp_be_liberal=True))
        assert sysctls(lab) == ["1" if mode == "iptables" else "0", "1"]
        assert lab.supervisor.run(TRACK, node=lab.nodes[0].name).status == 0
        assert ENDPOINT in connections(lab)

        proxy.configure(ProxyConfiguration(localhost_node_ports=False))
        assert sysctls(lab) == ["0", "0"]
        assert ENDPOINT not in connections(lab)

        proxy.configure(DEFAULT)
        assert sysctls(lab) == ["1" if mode == "iptables" else "0", "0"]
    finally:
        proxy.stop()


def test_the_log_of_the_first_life_is_kept(lab: Lab, kube_proxy: Binary) -> None:
    proxy = KubeProxy(lab, binary=kube_proxy.path, version=kube_proxy.version, mode="nftables")
    proxy.start()
    proxy.configure(ProxyConfiguration(masquerade_all=True))
    proxy.stop()
    logs: Path = lab.log_directory / f"{lab.nodes[0].name}.kube-proxy.log"
    assert logs.read_text(encoding="utf-8").count("Using nftables Proxier") == 2


def connections(lab: Lab) -> str:
    return lab.diagnostics(lab.nodes[0].name)["conntrack -L"]
