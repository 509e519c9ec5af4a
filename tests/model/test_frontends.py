# SPDX-License-Identifier: Apache-2.0
"""What can be dialled: ports and addresses of a Service, node port addresses, and what is left alone."""

from typing import Any

import pytest

from dataplane_ref.model import Entry, Flow, FromPod, ProxyConfig, Verdict, verdict
from tests.model.cluster import (
    CLUSTER_CIDRS,
    CLUSTER_IP,
    CLUSTER_IP6,
    EXTERNAL_IP,
    LB_IP,
    NODE_IP,
    NODE_IP6,
    NODE_PORT,
    OUTSIDE,
    POD,
    SECONDARY,
    at,
    cluster,
    endpoint_slice,
    from_node,
    from_pod,
    node_addresses,
    service,
    sets,
)

NOT_PROXIED = {"refused", "unreachable", "timeout"}
BACKENDS = endpoint_slice("b1"), endpoint_slice("b1", family="IPv6", name="web-6")


def ask(
    *objects: dict[str, Any],
    dst: str = CLUSTER_IP,
    port: int = 80,
    entry: Entry | None = None,
    protocol: Any = "TCP",
    config: ProxyConfig | None = None,
    via: str | None = None,
) -> Verdict:
    """The verdict for a1, or another client, with endpoint b1 in both families."""
    state = cluster(*objects, *BACKENDS, config=config or ProxyConfig(CLUSTER_CIDRS))
    return verdict(state, Flow(entry or from_pod("a1"), protocol, dst, port, via))


def must_not_be_proxied(result: Verdict) -> None:
    assert sets(result) == (NOT_PROXIED, set()), result.explain()
    assert result.service is None
    assert result.must_refuse_with is None
    assert result.reason.startswith("not proxied: ")


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
def test_every_protocol_has_its_own_ports(protocol: str) -> None:
    port = {"name": "x", "port": 80, "protocol": protocol, "nodePort": NODE_PORT}
    slices = endpoint_slice("b1", name="x", ports=[{"name": "x", "protocol": protocol, "port": 8080}])
    others = {"TCP", "UDP", "SCTP"} - {protocol}

    for dst, number in ((CLUSTER_IP, 80), (NODE_IP["node-a"], NODE_PORT)):
        reached = ask(service(ports=[port]), slices, dst=dst, port=number, protocol=protocol)
        assert (set(reached.outcomes), reached.service) == ({"reply"}, "default/web:x")
        for other in others:
            must_not_be_proxied(ask(service(ports=[port]), slices, dst=dst, port=number, protocol=other))


def test_an_unknown_port_of_a_cluster_ip_is_not_proxied() -> None:
    result = ask(service(), port=81)

    must_not_be_proxied(result)
    assert "no Service has TCP port 81 at 10.96.0.10" in result.reason


def test_an_unallocated_address_is_not_proxied() -> None:
    must_not_be_proxied(ask(service(), dst="10.96.0.99"))


def test_a_node_port_is_no_port_of_the_cluster_ip_nor_of_a_pod() -> None:
    must_not_be_proxied(ask(service(), port=NODE_PORT))
    must_not_be_proxied(ask(service(), dst=POD["c1"][0], port=NODE_PORT))


def test_a_service_port_is_no_port_of_a_node() -> None:
    must_not_be_proxied(ask(service(), dst=NODE_IP["node-a"]))


LABELS = [
    {"service.kubernetes.io/service-proxy-name": "other"},
    {"service.kubernetes.io/service-proxy-name": ""},
    {"service.kubernetes.io/headless": ""},
]


@pytest.mark.parametrize("labels", LABELS, ids=str)
@pytest.mark.parametrize(
    ("dst", "port"), [(CLUSTER_IP, 80), (NODE_IP["node-a"], NODE_PORT), (EXTERNAL_IP, 80), (LB_IP, 80)]
)
def test_a_service_with_such_a_label_is_not_proxied(labels: dict[str, str], dst: str, port: int) -> None:
    result = ask(balanced({"ip": LB_IP}, labels=labels, externalIPs=[EXTERNAL_IP]), dst=dst, port=port)

    must_not_be_proxied(result)
    assert next(iter(labels)) in result.reason


def test_headless_and_external_name_services_are_not_proxied() -> None:
    headless = service(
        type="ClusterIP", clusterIP="None", clusterIPs=["None"], externalIPs=[EXTERNAL_IP], ports=[{"port": 80}]
    )
    alias = service(
        type="ExternalName", clusterIP=None, clusterIPs=None, externalName="x.example", externalIPs=[EXTERNAL_IP]
    )

    for item, says in ((headless, "a headless Service"), (alias, "a Service of type ExternalName")):
        result = ask(item, dst=EXTERNAL_IP)
        must_not_be_proxied(result)
        assert result.reason == f"not proxied: {says} is never proxied"
        must_not_be_proxied(ask(item, dst=CLUSTER_IP))
        must_not_be_proxied(ask(item, dst=NODE_IP["node-a"], port=NODE_PORT))


def test_an_endpoint_dialled_directly_may_answer_by_itself() -> None:
    result = ask(service(), dst=POD["b1"][0], port=8080)

    assert result.outcomes == {"reply", "refused", "unreachable", "reset", "timeout"}
    assert set(result.answers) == {at("b1")}
    assert result.answers[at("b1")].allows("192.0.2.1")
    assert result.service is None


@pytest.mark.parametrize("ip_families", [["IPv4"], ["IPv6"]])
def test_a_single_stack_service_has_no_frontend_in_the_other_family(ip_families: list[str]) -> None:
    own, other = (CLUSTER_IP, CLUSTER_IP6) if ip_families == ["IPv4"] else (CLUSTER_IP6, CLUSTER_IP)
    node, other_node = (NODE_IP, NODE_IP6) if ip_families == ["IPv4"] else (NODE_IP6, NODE_IP)
    single = service(clusterIP=own, clusterIPs=[own], ipFamilies=ip_families)

    assert ask(single, dst=own).outcomes == {"reply"}
    assert ask(single, dst=node["node-a"], port=NODE_PORT).outcomes == {"reply"}
    must_not_be_proxied(ask(single, dst=other))
    must_not_be_proxied(ask(single, dst=other_node["node-a"], port=NODE_PORT))


def test_an_old_service_with_only_cluster_ip_is_proxied() -> None:
    assert ask(service(clusterIPs=None, ipFamilies=None)).outcomes == {"reply"}


def test_the_answers_of_both_families_are_their_own() -> None:
    assert set(ask(service(), dst=CLUSTER_IP).answers) == {at("b1")}
    assert set(ask(service(), dst=CLUSTER_IP6).answers) == {at("b1", family="IPv6")}


# Node port addresses: by default, by list, and on loopback.


@pytest.mark.parametrize("entry", [from_pod("a1"), from_node("node-a"), OUTSIDE], ids=["pod", "node", "outside"])
@pytest.mark.parametrize("node", list(NODE_IP))
@pytest.mark.parametrize("addresses", [NODE_IP, NODE_IP6], ids=["IPv4", "IPv6"])
def test_node_ports_answer_at_every_primary_address(entry: Entry, node: str, addresses: dict[str, str]) -> None:
    result = ask(service(), dst=addresses[node], port=NODE_PORT, entry=entry)

    assert (set(result.outcomes), result.service) == ({"reply"}, "default/web:80")


def test_by_default_a_secondary_address_may_or_may_not_answer() -> None:
    result = ask(service(), dst=SECONDARY["node-a"], port=NODE_PORT, entry=OUTSIDE)

    assert result.outcomes == {"reply", *NOT_PROXIED}
    assert set(result.answers) == {at("b1")}
    assert result.service == "default/web:80"


@pytest.mark.parametrize(
    ("listed", "answers", "silent"),
    [
        (("172.19.0.0/16",), [SECONDARY["node-a"]], [NODE_IP["node-a"]]),
        (("172.18.0.0/16",), [NODE_IP["node-a"], NODE_IP["node-c"]], [SECONDARY["node-a"]]),
        (("primary",), [NODE_IP["node-a"], NODE_IP6["node-a"]], [SECONDARY["node-a"]]),
        (("primary", "172.19.0.10/32"), [NODE_IP["node-b"], SECONDARY["node-a"]], [SECONDARY["node-b"]]),
        (("fd00:172:18::/64", "172.18.0.10/32"), [NODE_IP6["node-b"]], [NODE_IP["node-b"]]),
    ],
    ids=str,
)
def test_listed_node_port_addresses_are_exact(listed: tuple[str, ...], answers: list[str], silent: list[str]) -> None:
    config = ProxyConfig(CLUSTER_CIDRS, node_port_addresses=listed)

    for dst in answers:
        assert ask(service(), dst=dst, port=NODE_PORT, config=config).outcomes == {"reply"}, dst
    for dst in silent:
        must_not_be_proxied(ask(service(), dst=dst, port=NODE_PORT, config=config))


def test_a_family_that_the_list_does_not_name_is_left_open() -> None:
    config = ProxyConfig(CLUSTER_CIDRS, node_port_addresses=("172.18.0.0/16",))

    result = ask(service(), dst=NODE_IP6["node-a"], port=NODE_PORT, config=config)

    assert result.outcomes == {"reply", *NOT_PROXIED}


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_localhost_node_ports_answer_node_processes_on_ipv4(policy: str) -> None:
    config = ProxyConfig(CLUSTER_CIDRS, localhost_node_ports=True)
    item = service(externalTrafficPolicy=policy)
    node = from_node("node-a")

    answered = ask(item, dst="127.0.0.1", port=NODE_PORT, entry=node, config=config)

    assert answered.outcomes == {"reply"}
    assert answered.answers[at("b1")].allowed == node_addresses("node-a")
    must_not_be_proxied(ask(item, dst="::1", port=NODE_PORT, entry=node, config=config))
    must_not_be_proxied(ask(item, dst="127.0.0.1", port=NODE_PORT, entry=node))
    must_not_be_proxied(ask(item, dst="127.0.0.1", port=NODE_PORT, config=config))
    must_not_be_proxied(ask(item, dst="127.0.0.1", port=NODE_PORT + 1, entry=node, config=config))


@pytest.mark.parametrize(
    ("listed", "localhost", "answers"),
    [
        (None, None, "maybe"),
        (None, False, "never"),
        (None, True, "always"),
        (("127.0.0.0/8",), True, "always"),
        (("127.0.0.0/8",), None, "maybe"),
        (("127.0.0.0/8",), False, "never"),
        (("172.18.0.0/16",), True, "never"),
        (("172.18.0.0/16",), None, "never"),
        (("primary",), None, "never"),
        (("fd00:172:18::/64",), True, "always"),
    ],
    ids=str,
)
def test_loopback_needs_the_switch_and_a_place_in_the_list(
    listed: tuple[str, ...] | None, localhost: bool | None, answers: str
) -> None:
    """Without a switch the mode's default holds, and the modes' differ; a list of IPv6 ranges says nothing here."""
    config = ProxyConfig(CLUSTER_CIDRS, node_port_addresses=listed, localhost_node_ports=localhost)

    result = ask(service(), dst="127.0.0.1", port=NODE_PORT, entry=from_node("node-a"), config=config)

    allowed = {"always": {"reply"}, "maybe": {"reply", *NOT_PROXIED}, "never": NOT_PROXIED}
    assert set(result.outcomes) == allowed[answers]
    assert bool(result.answers) == (answers != "never")


def test_an_address_that_every_node_owns_is_the_dialling_nodes_own() -> None:
    state = cluster(service(externalTrafficPolicy="Local"), endpoint_slice("b1"))
    shared = [type(node)(node.name, (*node.addresses, "169.254.20.10"), node.pod_cidrs) for node in state.nodes]
    config = ProxyConfig(CLUSTER_CIDRS, node_port_addresses=("169.254.20.10/32",))
    state = type(state).from_objects(shared, state.services, state.endpoint_slices, config)

    result = verdict(state, Flow(from_node("node-b"), "TCP", "169.254.20.10", NODE_PORT))

    assert result.answers[at("b1")].allowed == {*node_addresses("node-b"), "169.254.20.10"}


# externalIPs and load-balancer IPs.


def balanced(*ingress: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A load-balancer Service with this status."""
    return service(type="LoadBalancer", status={"loadBalancer": {"ingress": list(ingress)}}, **spec)


@pytest.mark.parametrize("entry", [from_pod("a1"), from_node("node-a"), OUTSIDE], ids=["pod", "node", "outside"])
def test_external_ips_and_load_balancer_ips_are_frontends(entry: Entry) -> None:
    item = balanced({"ip": LB_IP}, {"hostname": "lb.example"}, externalIPs=[EXTERNAL_IP])

    for dst in (LB_IP, EXTERNAL_IP):
        assert ask(item, dst=dst, entry=entry, via="node-c").outcomes == {"reply"}
        must_not_be_proxied(ask(item, dst=dst, port=NODE_PORT, entry=entry, via="node-c"))


@pytest.mark.parametrize(("mode", "proxied"), [(None, True), ("VIP", True), ("Proxy", False)])
def test_the_ip_mode_decides_whether_a_load_balancer_ip_is_a_frontend(mode: str | None, proxied: bool) -> None:
    result = ask(balanced({"ip": LB_IP, "ipMode": mode}), dst=LB_IP)

    if proxied:
        assert result.outcomes == {"reply"}
    else:
        must_not_be_proxied(result)
        assert "ipMode" in result.reason


def test_an_external_ip_of_a_family_the_service_lacks_is_not_proxied() -> None:
    item = service(clusterIPs=[CLUSTER_IP], externalIPs=["2001:db8::7"])

    must_not_be_proxied(ask(item, dst="2001:db8::7"))


def test_an_external_ip_may_be_a_nodes_own_address() -> None:
    item = service(externalIPs=[NODE_IP["node-a"]])

    assert ask(item, dst=NODE_IP["node-a"], entry=OUTSIDE).outcomes == {"reply"}
    assert ask(item, dst=NODE_IP["node-a"], entry=OUTSIDE).answers[at("b1")].allowed == node_addresses("node-a")
    assert ask(item, dst=NODE_IP["node-a"], port=NODE_PORT, entry=OUTSIDE).outcomes == {"reply"}
    must_not_be_proxied(ask(item, dst=NODE_IP["node-a"], port=22, entry=OUTSIDE))


@pytest.mark.parametrize("spelling", ["field", "annotation"])
def test_source_ranges_guard_the_load_balancer_ip_and_nothing_else(spelling: str) -> None:
    ranges: dict[str, Any] = (
        {"loadBalancerSourceRanges": ["192.0.2.0/24"]}
        if spelling == "field"
        else {"annotations": {"service.beta.kubernetes.io/load-balancer-source-ranges": " 192.0.2.0/24 "}}
    )
    item = balanced({"ip": LB_IP}, externalIPs=[EXTERNAL_IP], **ranges)

    denied = ask(item, dst=LB_IP, entry=OUTSIDE, via="node-a")

    assert sets(denied) == ({"timeout"}, set())
    assert "loadBalancerSourceRanges do not hold 172.18.0.2" in denied.reason
    for dst, port in ((EXTERNAL_IP, 80), (CLUSTER_IP, 80), (NODE_IP["node-a"], NODE_PORT)):
        assert ask(item, dst=dst, port=port, entry=OUTSIDE, via="node-a").outcomes == {"reply"}


@pytest.mark.parametrize(
    ("ranges", "entry", "outcome"),
    [
        (["172.18.0.2/32"], OUTSIDE, "reply"),
        (["172.18.0.3/32"], OUTSIDE, "timeout"),
        (["172.18.0.3/32", "172.18.0.0/30"], OUTSIDE, "reply"),
        (["172.18.0.1/30"], OUTSIDE, "reply"),
        (["fd00:172:18::/64"], OUTSIDE, "reply"),
        (["10.244.0.0/24"], from_pod("a1"), "reply"),
        (["10.244.1.0/24"], from_pod("a1"), "timeout"),
        (["172.18.0.10/32"], from_node("node-a"), "reply"),
        (["172.18.0.11/32"], from_node("node-a"), "timeout"),
    ],
    ids=str,
)
def test_source_ranges_hold_for_every_client_by_its_family(ranges: list[str], entry: Entry, outcome: str) -> None:
    item = balanced({"ip": LB_IP}, loadBalancerSourceRanges=ranges)

    assert ask(item, dst=LB_IP, entry=entry, via="node-a").outcomes == {outcome}


@pytest.mark.parametrize(
    ("ranges", "outcome"), [(["fd00:172:18::2/128"], "reply"), (["fd00:172:18::3/128"], "timeout")]
)
def test_source_ranges_hold_for_ipv6(ranges: list[str], outcome: str) -> None:
    item = balanced({"ip": "2001:db8::9"}, loadBalancerSourceRanges=ranges)

    assert ask(item, dst="2001:db8::9", entry=OUTSIDE, via="node-a").outcomes == {outcome}


def test_a_source_range_that_is_no_cidr_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"not a CIDR: .*anywhere"):
        ask(balanced({"ip": LB_IP}, loadBalancerSourceRanges=["anywhere"]))


def test_a_forbidden_client_of_a_service_without_endpoints_may_be_rejected_or_dropped() -> None:
    item = balanced({"ip": LB_IP}, loadBalancerSourceRanges=["192.0.2.0/24"], name="empty")

    result = ask(item, dst=LB_IP, entry=OUTSIDE, via="node-a")

    assert result.outcomes == {"refused", "timeout"}
    assert result.must_refuse_with is not None


def test_two_services_that_claim_one_external_address_may_both_answer() -> None:
    first = service(externalIPs=[EXTERNAL_IP])
    second = service(name="other", clusterIP="10.96.0.11", clusterIPs=["10.96.0.11"], externalIPs=[EXTERNAL_IP])
    slices = endpoint_slice("c1", service_name="other", name="other-1")

    result = ask(first, second, slices, dst=EXTERNAL_IP)

    assert set(result.answers) == {at("b1"), at("c1")}
    assert result.service == "default/web:80 or default/other:80"


def test_a_service_left_to_another_proxy_does_not_spoil_a_shared_address() -> None:
    foreign = service(name="other", clusterIPs=["10.96.0.11"], externalIPs=[EXTERNAL_IP], labels=LABELS[0])

    for order in ((foreign, service(externalIPs=[EXTERNAL_IP])), (service(externalIPs=[EXTERNAL_IP]), foreign)):
        assert ask(*order, dst=EXTERNAL_IP).service == "default/web:80"


# Questions that make no sense.


@pytest.mark.parametrize(
    ("dst", "entry", "via", "says"),
    [
        (CLUSTER_IP, from_node("node-z"), None, "no node 'node-z'; the nodes are: node-a, node-b, node-c"),
        (CLUSTER_IP, OUTSIDE, None, "say through which node"),
        (CLUSTER_IP, OUTSIDE, "node-z", "no node 'node-z'"),
        (CLUSTER_IP6, FromPod("node-a", ("10.244.0.2",)), None, "the client has no IPv6 address"),
        ("not-an-address", OUTSIDE, None, "'not-an-address' is not an IP address"),
    ],
    ids=["unknown node", "no arrival", "unknown arrival", "family", "address"],
)
def test_a_senseless_question_is_an_error_that_says_why(dst: str, entry: Entry, via: str | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ask(service(), dst=dst, entry=entry, via=via)


@pytest.mark.parametrize(("protocol", "port"), [("tcp", 80), ("TCP", 0), ("TCP", 65536)])
def test_a_flow_has_a_known_protocol_and_a_real_port(protocol: Any, port: int) -> None:
    with pytest.raises(ValueError, match="a flow's"):
        Flow(OUTSIDE, protocol, CLUSTER_IP, port)


@pytest.mark.parametrize("port", [1, 65535])
def test_the_first_and_the_last_port_are_ports(port: int) -> None:
    assert Flow(OUTSIDE, "TCP", CLUSTER_IP, port).port == port
