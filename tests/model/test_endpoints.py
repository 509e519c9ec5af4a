# SPDX-License-Identifier: Apache-2.0
"""Which endpoints may answer: conditions, duplicates, ports by name, families, slices that are not for us."""

from itertools import permutations
from typing import Any

import pytest

from dataplane_ref.model import Endpoint, Flow, Verdict, verdict
from tests.model.cluster import (
    CLUSTER_IP,
    CLUSTER_IP6,
    POD,
    at,
    cluster,
    endpoint,
    endpoint_slice,
    from_pod,
    service,
)


def ask(*objects: dict[str, Any], dst: str = CLUSTER_IP, port: int = 80, protocol: Any = "TCP") -> Verdict:
    """The verdict for a1 dialling a virtual IP."""
    return verdict(cluster(*objects), Flow(from_pod("a1"), protocol, dst, port))


CONDITIONS = [
    ({}, True),
    ({"ready": None, "serving": None, "terminating": None}, True),
    ({"ready": True}, True),
    ({"ready": False}, False),
    ({"ready": False, "serving": True}, False),
    ({"ready": False, "serving": False, "terminating": True}, False),
    ({"ready": False, "serving": True, "terminating": True}, True),
    ({"ready": False, "terminating": True}, True),
    ({"ready": True, "serving": True, "terminating": True}, True),
    ({"ready": False, "serving": True, "terminating": None}, False),
]


@pytest.mark.parametrize(("conditions", "usable"), CONDITIONS, ids=str)
def test_an_endpoint_alone_is_usable_if_ready_or_serving_while_terminating(
    conditions: dict[str, Any], usable: bool
) -> None:
    result = ask(service(), endpoint_slice(endpoint("b1", **conditions)))

    assert set(result.answers) == ({at("b1")} if usable else set())
    assert result.outcomes == ({"reply"} if usable else {"refused"})


@pytest.mark.parametrize(("conditions", "usable"), CONDITIONS, ids=str)
def test_beside_a_ready_endpoint_only_ready_ones_are_used(conditions: dict[str, Any], usable: bool) -> None:
    result = ask(service(), endpoint_slice("b2", endpoint("b1", **conditions)))

    ready = usable and conditions.get("ready") is not False
    assert set(result.answers) == ({at("b1"), at("b2")} if ready else {at("b2")})


def test_every_terminating_endpoint_that_serves_is_a_fallback() -> None:
    draining: dict[str, Any] = {"ready": False, "serving": True, "terminating": True}
    result = ask(
        service(),
        endpoint_slice(endpoint("b1", **draining), endpoint("c1", **draining), endpoint("c2", ready=False)),
    )

    assert set(result.answers) == {at("b1"), at("c1")}
    assert "serving while terminating" in result.reason


def test_slices_are_joined_and_an_endpoint_in_two_slices_counts_once() -> None:
    result = ask(service(), endpoint_slice("b1", "c1"), endpoint_slice("b1", "c2", name="web-2"))

    assert set(result.answers) == {at("b1"), at("c1"), at("c2")}


GHOST: dict[str, Any] = {"ready": False, "serving": False, "terminating": True}


@pytest.mark.parametrize("one_slice", [True, False], ids=["one slice", "two slices"])
@pytest.mark.parametrize("swapped", [True, False], ids=["ghost first", "ghost last"])
@pytest.mark.parametrize("serving", [True, False], ids=["serving ghost", "dead ghost"])
def test_an_address_reused_while_its_old_pod_terminates_is_used(
    one_slice: bool, swapped: bool, serving: bool
) -> None:
    listings = [endpoint("b1", **{**GHOST, "serving": serving}, node="node-c"), endpoint("b1", ready=True)]
    if not swapped:
        listings.reverse()
    slices = (
        [endpoint_slice(*listings)]
        if one_slice
        else [endpoint_slice(item, name=f"web-{number}") for number, item in enumerate(listings)]
    )
    result = ask(service(internalTrafficPolicy="Local"), *slices)
    on_b = verdict(
        cluster(service(internalTrafficPolicy="Local"), *slices), Flow(from_pod("b2"), "TCP", CLUSTER_IP, 80)
    )

    assert result.outcomes == {"timeout"}
    assert set(on_b.answers) == {at("b1")}


def test_a_ghost_does_not_lend_its_address_to_a_pod_that_is_not_ready() -> None:
    ghost = endpoint("b1", ready=False, serving=True, terminating=True)

    assert ask(service(), endpoint_slice(ghost)).outcomes == {"reply"}
    assert ask(service(), endpoint_slice(ghost, endpoint("b1", ready=False))).outcomes == {"refused"}


def test_the_order_of_three_listings_of_one_address_does_not_matter() -> None:
    listings = [
        endpoint("b1", **GHOST),
        endpoint("b1", ready=False),
        endpoint("b1", ready=True, zones=["zone-1"]),
    ]
    results = [ask(service(), endpoint_slice(*order)) for order in permutations(listings)]

    assert all(result == results[0] for result in results)
    assert set(results[0].answers) == {at("b1")}


def test_one_address_with_two_ports_is_two_endpoints() -> None:
    slices = [
        endpoint_slice("b1", ports=[{"name": "", "port": 8080}]),
        endpoint_slice("b1", ports=[{"name": "", "port": 8081}], name="web-2"),
    ]

    assert set(ask(service(), *slices).answers) == {at("b1"), at("b1", port=8081)}


def test_only_the_first_address_of_an_endpoint_counts() -> None:
    item = endpoint("b1")
    item["addresses"].append(POD["b2"][0])

    assert set(ask(service(), endpoint_slice(item)).answers) == {at("b1")}


TWO_PORTS = [
    {"name": "http", "port": 80, "protocol": "TCP"},
    {"name": "admin", "port": 81, "protocol": "TCP"},
]


def test_ports_are_matched_by_name_and_not_by_number() -> None:
    slices = endpoint_slice("b1", ports=[{"name": "admin", "port": 80}, {"name": "http", "port": 81}])

    assert set(ask(service(ports=TWO_PORTS), slices, port=80).answers) == {at("b1", port=81)}
    assert set(ask(service(ports=TWO_PORTS), slices, port=81).answers) == {at("b1", port=80)}


def test_each_slice_has_its_own_target_port() -> None:
    slices = [
        endpoint_slice("b1", ports=[{"name": "http", "port": 8080}]),
        endpoint_slice("c1", ports=[{"name": "http", "port": 9090}], name="web-2"),
    ]

    assert set(ask(service(ports=TWO_PORTS), *slices).answers) == {at("b1"), at("c1", port=9090)}


def test_a_port_that_no_slice_names_has_no_endpoints() -> None:
    result = ask(service(ports=TWO_PORTS), endpoint_slice("b1", ports=[{"name": "http", "port": 8080}]), port=81)

    assert result.outcomes == {"refused"}
    assert result.service == "default/web:admin"


@pytest.mark.parametrize("absent", [{"port": 8080}, {"name": None, "port": 8080}, {"name": "", "port": 8080}])
@pytest.mark.parametrize("service_name", [None, ""])
def test_an_absent_port_name_is_the_empty_name(absent: dict[str, Any], service_name: str | None) -> None:
    unnamed = service(ports=[{"name": service_name, "port": 80}])

    assert set(ask(unnamed, endpoint_slice("b1", ports=[absent])).answers) == {at("b1")}


def test_a_slice_port_without_a_number_offers_nothing() -> None:
    assert ask(service(), endpoint_slice("b1", ports=[{"name": "", "port": None}])).outcomes == {"refused"}


def test_the_protocol_is_part_of_the_port() -> None:
    dns = service(
        ports=[
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            {"name": "sig", "port": 53, "protocol": "SCTP"},
        ]
    )
    slices = [
        endpoint_slice("b1", ports=[{"name": "dns", "port": 5353, "protocol": "UDP"}]),
        endpoint_slice("c1", ports=[{"name": "dns-tcp", "port": 5300}], name="web-2"),
        endpoint_slice("c2", ports=[{"name": "sig", "port": 5301, "protocol": "SCTP"}], name="web-3"),
        endpoint_slice("a2", ports=[{"name": "dns", "port": 5353, "protocol": "TCP"}], name="web-4"),
    ]

    assert set(ask(dns, *slices, port=53, protocol="UDP").answers) == {at("b1", port=5353)}
    assert set(ask(dns, *slices, port=53, protocol="TCP").answers) == {at("c1", port=5300)}
    assert set(ask(dns, *slices, port=53, protocol="SCTP").answers) == {at("c2", port=5301)}


def test_the_address_type_decides_the_family_and_families_are_independent() -> None:
    slices = [endpoint_slice("b1"), endpoint_slice("c1", "c2", family="IPv6", name="web-6")]

    assert set(ask(service(), *slices).answers) == {at("b1")}
    assert set(ask(service(), *slices, dst=CLUSTER_IP6).answers) == {
        at("c1", family="IPv6"),
        at("c2", family="IPv6"),
    }


@pytest.mark.parametrize(("dst", "icmp"), [(CLUSTER_IP, (3, 3)), (CLUSTER_IP6, (1, 4))])
def test_endpoints_of_one_family_leave_the_other_family_rejecting(dst: str, icmp: tuple[int, int]) -> None:
    other = endpoint_slice("b1", family="IPv6" if dst == CLUSTER_IP else "IPv4")
    result = ask(service(), other, dst=dst)

    assert result.outcomes == {"refused"}
    assert result.must_refuse_with is not None
    assert (result.must_refuse_with.type, result.must_refuse_with.code) == icmp


def test_addresses_are_compared_by_value_and_not_by_spelling() -> None:
    long = endpoint_slice(
        {"addresses": ["FD00:0010:0244:0001:0000:0000:0000:0002"], "nodeName": "node-b"}, family="IPv6"
    )

    assert set(ask(service(), long, dst="fd00:10:96:0::10").answers) == {at("b1", family="IPv6")}


@pytest.mark.parametrize(
    "ignored",
    [
        endpoint_slice("c1", labels={"service.kubernetes.io/headless": ""}),
        endpoint_slice("c1", labels={"service.kubernetes.io/service-proxy-name": "other"}),
        endpoint_slice("c1", service_name="another"),
        endpoint_slice("c1", service_name=""),
        {**endpoint_slice("c1"), "addressType": "FQDN"},
        {**endpoint_slice("c1"), "endpoints": None},
        endpoint_slice({"addresses": []}),
    ],
    ids=["headless label", "other proxy", "other Service", "no Service", "FQDN", "null endpoints", "no address"],
)
def test_slices_that_are_not_for_this_service_or_proxy_add_nothing(ignored: dict[str, Any]) -> None:
    assert ask(service(), ignored).outcomes == {"refused"}
    assert set(ask(service(), endpoint_slice("b1", name="web-2"), ignored).answers) == {at("b1")}


def test_a_slice_of_a_service_of_the_same_name_in_another_namespace_adds_nothing() -> None:
    foreign = endpoint_slice("c1")
    foreign["metadata"]["namespace"] = "elsewhere"

    assert ask(service(), foreign).outcomes == {"refused"}


def test_an_endpoint_outside_the_cluster_is_an_endpoint() -> None:
    result = ask(service(), endpoint_slice("192.0.2.80"))

    assert set(result.answers) == {Endpoint("192.0.2.80", 8080)}


def test_of_two_terminating_listings_of_one_address_the_serving_one_counts() -> None:
    dead, serving = endpoint("b1", **GHOST), endpoint("b1", **{**GHOST, "serving": True})

    for order in ((dead, serving), (serving, dead)):
        assert set(ask(service(), endpoint_slice(*order)).answers) == {at("b1")}


def test_sparse_objects_are_read_with_their_defaults() -> None:
    sparse_slice: dict[str, Any] = {
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": [POD["b1"][0]]}],
    }
    sparse_service = {
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"clusterIP": CLUSTER_IP, "ports": [{"port": 80}]},
    }
    empty = {"kind": "Service", "metadata": {"name": "empty"}}
    strays = [
        {**sparse_slice, "metadata": {"name": "stray", "labels": None}},
        {**sparse_slice, "ports": None},
        {"kind": "EndpointSlice", "metadata": {"name": "bare"}},
    ]

    assert set(ask(sparse_service, empty, sparse_slice, *strays).answers) == {at("b1")}
    assert ask(sparse_service, *strays, dst="10.96.0.99").outcomes == {"refused", "unreachable", "timeout"}


def test_services_of_one_name_in_two_namespaces_have_their_own_endpoints() -> None:
    other, others = service(clusterIP="10.96.0.11", clusterIPs=["10.96.0.11"]), endpoint_slice("c1")
    other["metadata"]["namespace"] = others["metadata"]["namespace"] = "prod"
    objects = (service(), endpoint_slice("b1"), other, others)

    assert set(ask(*objects).answers) == {at("b1")}
    assert set(ask(*objects, dst="10.96.0.11").answers) == {at("c1")}
    assert ask(*objects, dst="10.96.0.11").service == "prod/web:80"
