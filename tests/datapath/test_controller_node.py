# SPDX-License-Identifier: Apache-2.0
"""What the node's interfaces, addresses and configuration become in the maps."""

from pathlib import Path
from typing import Any

import pytest

from dataplane_ref.controller import sysctls
from dataplane_ref.controller.devices import address_flags, device_flags, hooks, serves_on_loopback
from dataplane_ref.controller.netlink import Interface, Interfaces
from dataplane_ref.controller.packed import address, network, text, within
from dataplane_ref.controller.settings import Settings, SettingsError, from_proxy_config
from tests.datapath.cluster import CODEC, INTERFACES, NODE, NODE_IP, NODE_IP6, FakeNode

OWN = {address(NODE_IP), address(NODE_IP6)}
SECOND = "198.51.100.1"
ALL = Interfaces(
    {
        **INTERFACES.links,
        4: Interface(4, "cni0", 1, "bridge"),
        5: Interface(5, "veth2", 1, "veth", master=4, has_far_peer=True),
        6: Interface(6, "vxlan0", 1, "vxlan"),
        7: Interface(7, "tunl0", 768, "ipip"),
        8: Interface(8, "veth9", 1, "veth"),
    },
    INTERFACES.addresses
    | {(2, address(SECOND)), (2, address("fe80::1")), (4, address("10.1.0.1")), (4, address("169.254.1.1"))},
)


def devices(**settings: Any) -> dict[str, set[str]]:
    found = device_flags(ALL, OWN, Settings(NODE, **settings), CODEC.device_flag)
    names = CODEC.device_flag.items()
    return {ALL.links[index].name: {name for name, bit in names if value & bit} for index, value in found.items()}


def serving(*ranges: str) -> set[str]:
    """Addresses at which node ports answer."""
    found = address_flags(ALL, OWN, Settings(NODE, node_port_addresses=ranges), CODEC.address_flag)
    return {text(each) for each, flags in found.items() if flags & CODEC.address_flag["SERVES_NODE_PORTS"]}


def test_interfaces_are_known_by_where_they_lead() -> None:
    assert devices() == {"eth0": {"UPLINK"}, "veth1": {"PEER_IS_POD"}, "vxlan0": {"UPLINK"}, "tunl0": {"UPLINK"}}


def test_pods_may_be_known_by_the_name_of_their_interface() -> None:
    found = devices(detect_local="InterfaceNamePrefix", interface_name_prefix="veth")
    assert {name for name, flags in found.items() if "TOWARDS_PODS" in flags} == {"veth1", "veth2", "veth9"}


def test_a_bridges_ports_are_the_bridge_to_a_detector_that_goes_by_names() -> None:
    found = devices(detect_local="InterfaceNamePrefix", interface_name_prefix="cni")
    assert {name for name, flags in found.items() if "TOWARDS_PODS" in flags} == {"cni0", "veth2"}


def test_pods_may_be_known_by_their_bridge_and_its_ports() -> None:
    found = devices(detect_local="BridgeInterface", bridge_interface="cni0")
    assert {name for name, flags in found.items() if "TOWARDS_PODS" in flags} == {"cni0", "veth2"}


@pytest.mark.parametrize(("xdp", "on"), [("auto", {2}), ("native", {2}), ("generic", {2}), ("off", set())])
def test_programs_go_on_ethernet_and_loopback(xdp: str, on: set[int]) -> None:
    found = hooks(ALL, OWN, xdp)
    ethernet = {2, 3, 4, 5, 6, 8}
    assert {index for index, hook in found if hook == "ingress"} == ethernet
    assert {index for index, hook in found if hook == "egress"} == ethernet | {1}
    assert {index for index, hook in found if hook == "xdp"} == on


def test_auto_spares_a_veth_from_xdp() -> None:
    seen = Interfaces({2: Interface(2, "eth0", 1, "veth")}, INTERFACES.addresses)
    assert not {hook for _, hook in hooks(seen, OWN, "auto")} & {"xdp"}
    assert {hook for _, hook in hooks(seen, OWN, "native")} >= {"xdp"}


ANY4, ANY6 = {NODE_IP, SECOND, "10.1.0.1"}, {NODE_IP6}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ANY4 | ANY6),
        (("primary",), {NODE_IP, NODE_IP6}),
        (("192.0.2.0/24",), {NODE_IP} | ANY6),
        (("198.51.100.0/24", "2001:db8::/64"), {SECOND, NODE_IP6}),
        (("127.0.0.0/8", "::1/128"), set()),
        (("2001:db8:1::/64",), ANY4),
    ],
)
def test_node_ports_answer_at_the_node_port_addresses(given: tuple[str, ...], expected: set[str]) -> None:
    assert serving(*given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), True),
        (("127.0.0.0/8",), True),
        (("0.0.0.0/0",), True),
        (("127.0.0.1/32",), True),
        (("2001:db8::/64",), True),
        (("192.0.2.0/24",), False),
        (("primary",), False),
    ],
)
def test_node_ports_on_loopback_are_asked_for_and_not_left_out(given: tuple[str, ...], expected: bool) -> None:
    assert serves_on_loopback(Settings(NODE, localhost_node_ports=True, node_port_addresses=given)) is expected
    assert not serves_on_loopback(Settings(NODE, node_port_addresses=given))


def config(**settings: Any) -> tuple[dict[str, Any], set[str]]:
    node = FakeNode(**settings)
    node.datapath.program()
    value: dict[str, Any] = CODEC.layouts["config"].unpack(node.maps["config"].entries[bytes(4)])
    return value, {name for name, bit in CODEC.config_flag.items() if value["flags"] & bit}


def test_the_configuration_is_the_nodes() -> None:
    value, flags = config(masquerade_all=True, mark=1 << 28)
    assert flags == {"MASQUERADE_ALL", "DETECTS_IPV4", "DETECTS_IPV6", "STRAIGHT"}
    packed = CODEC.layouts["address"].pack
    assert value["node_ipv4"] == CODEC.layouts["address"].unpack(address(NODE_IP))
    assert packed(**value["node_ipv6"]) == address(NODE_IP6)
    assert (value["mark"], value["loopback"]) == (1 << 28, 1)
    assert (value["masquerade_first"], value["masquerade_last"]) == (1024, 29999)
    assert value["tcp_established_ns"] == 24 * 3600 * 10**9
    assert value["verdicts"] >= 1


@pytest.mark.parametrize(
    ("settings", "ranges", "flags"),
    [
        ({"cluster_cidrs": ("10.0.0.0/8",)}, {(104, "10.0.0.0")}, {"DETECTS_IPV4"}),
        ({"detect_local": "NodeCIDR"}, {(120, "10.1.0.0"), (64, "fd00:1::")}, {"DETECTS_IPV4", "DETECTS_IPV6"}),
        (
            {"detect_local": "InterfaceNamePrefix", "interface_name_prefix": "veth"},
            set(),
            {"DETECT_BY_INTERFACE", "DETECTS_IPV4", "DETECTS_IPV6"},
        ),
        ({"cluster_cidrs": ()}, set(), set()),
    ],
)
def test_pods_are_known_as_the_proxy_is_configured(
    settings: dict[str, Any], ranges: set[tuple[int, str]], flags: set[str]
) -> None:
    node = FakeNode(**settings)
    node.datapath.program()
    found = {CODEC.pod_range_key.unpack(key) for key in node.maps["pod_ranges"].entries}
    assert {(bits, text(base)) for bits, base in found} == ranges
    assert config(**settings)[1] - {"STRAIGHT"} == flags


def test_what_flows_remember_of_the_way_is_void_when_the_way_changes() -> None:
    node = FakeNode()
    node.datapath.program()
    before = node.datapath.node_maps.epoch
    node.datapath.way_changed()
    node.datapath.program()
    value = CODEC.layouts["config"].unpack(node.maps["config"].entries[bytes(4)])
    assert value["epoch"] == before + 1


def test_an_address_that_moves_to_the_node_makes_its_endpoint_one_of_the_node() -> None:
    from tests.datapath.cluster import endpoint_slice, service

    node = FakeNode()
    node.serve(service(), endpoint_slice("198.51.100.1"))
    assert node.flags(0) == {"SERVING", "IN_CLUSTER"}
    node.datapath.see(ALL)
    node.datapath.program()
    assert node.flags(0) == {"SERVING", "IN_CLUSTER", "ON_HOST"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "must be a JSON object"),
        ({"mode": "ipvs"}, "has the unknown key 'mode'; known are nodePortAddresses"),
        ({"masqueradeAll": "yes"}, "must be true or false"),
        ({"nodePortAddresses": "primary"}, "must be a list of ranges"),
        ({"nodePortAddresses": ["primary", "10.0.0.0/8"]}, "'primary' beside ranges"),
        ({"nodePortAddresses": ["10.0.0.0/33"]}, "'10.0.0.0/33' is no range"),
        ({"detectLocalMode": "Guess"}, "must be one of ClusterCIDR"),
        (
            {"detectLocalMode": "BridgeInterface"},
            "must have detectLocalMode: BridgeInterface and bridgeInterface together",
        ),
        ({"bridgeInterface": "cni0"}, "must have detectLocalMode: BridgeInterface and bridgeInterface together"),
    ],
)
def test_a_configuration_that_cannot_be_is_one_sentence(given: Any, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_proxy_config(given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_periods_and_liberality_are_passed_over() -> None:
    assert from_proxy_config({"tcpBeLiberal": True, "syncPeriod": "1s", "minSyncPeriod": "10ms"}) == {}


def test_ranges_are_cut_to_their_length() -> None:
    assert network("10.1.2.3/8") == (address("10.0.0.0"), 104)
    assert network("10.1.2.3") == (address("10.1.2.3"), 128)
    assert within(address("10.200.0.1"), [network("10.0.0.0/8")])
    assert not within(address("::1"), [network("0.0.0.0/0")])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "61000-65535"),
        ("80,8080-8090", "80,8080-8090,61000-65535"),
        ("60000-65535", "60000-65535"),
    ],
)
def test_ports_are_reserved_beside_those_that_are(before: str, after: str) -> None:
    assert sysctls.reserved(before, 61000, 65535) == after


def test_sysctls_are_written_only_where_they_differ_and_refusals_are_said(tmp_path: Path) -> None:
    folder = tmp_path / "net/ipv4/conf/lo"
    folder.mkdir(parents=True)
    (folder / "accept_local").write_text("0\n")
    (tmp_path / "net/ipv4/ip_local_reserved_ports").write_text("1024-65535\n")
    said: list[str] = []
    sysctls.apply(Settings(NODE, localhost_node_ports=True), said.append, tmp_path)
    assert (folder / "accept_local").read_text() == "1"
    assert (tmp_path / "net/ipv4/ip_local_reserved_ports").read_text() == "1024-65535\n"
    assert said == [
        f"{folder / 'route_localnet'} cannot be set, and some flows may suffer: No such file or directory"
    ]
