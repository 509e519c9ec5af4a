# SPDX-License-Identifier: Apache-2.0
"""Services as tests write them: what goes to the API, and how many flows it takes to see every endpoint."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clusters.kube import ENDPOINT_SLICES, SERVICE_CIDRS, SERVICES
from plugins.scouts import disallowed
from plugins.services import BALANCER_CLASS, HEADLESS, MISS, OVERLOOKED, Port, Service, other_family
from plugins.settle import Deadlines, Settler
from plugins.slices import Endpoint
from plugins.world import UnfitError, World, entrance
from tests.plugin.fake_cluster import FakeCluster
from tests.plugin.fake_proxy import FakeProxy


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeCluster(3, 8, lies=frozenset(), seed=1, directory=tmp_path) as cluster:
        settler = Settler(cluster, FakeProxy(cluster, "ordered"), Deadlines())
        yield World(cluster, settler, families=("IPv4", "IPv6"), probe_timeout=1.0, after_settling=lambda: None)


def missed(endpoints: int, flows: int) -> float:
    """The bound on the probability that a uniform chooser leaves some endpoint unseen."""
    return endpoints * (1 - 1 / endpoints) ** flows


def test_just_enough_flows_to_see_every_endpoint_and_a_stray_one(world: World) -> None:
    for endpoints in range(1, 16):
        count = world.service(endpoints=world.backends(endpoints)).enough_to_see_every_endpoint()
        stray = 1 - 1 / (endpoints + 1)
        assert missed(endpoints, count) <= MISS
        assert stray**count <= OVERLOOKED
        assert missed(endpoints, count - 1) > MISS or stray ** (count - 1) > OVERLOOKED


def test_a_uniform_chooser_is_seen_whole(world: World) -> None:
    count = world.service(endpoints=world.backends(5)).enough_to_see_every_endpoint()
    chooser = random.Random(7)
    for _ in range(500):
        assert {chooser.randrange(5) for _ in range(count)} == set(range(5))


def test_no_endpoint_takes_a_few_flows(world: World) -> None:
    assert world.service(endpoints=[]).enough_to_see_every_endpoint() == 4


def test_only_ready_endpoints_count(world: World) -> None:
    first, second, third = world.backends(3)
    service = world.service(
        endpoints=[Endpoint(first), Endpoint(second, ready=None), Endpoint(third, ready=False, serving=True)]
    )
    assert service.ready_backends == {first.name, second.name}
    assert (
        service.enough_to_see_every_endpoint()
        == world.service(endpoints=[first, second]).enough_to_see_every_endpoint()
    )
    (conditions,) = [
        [endpoint["conditions"] for endpoint in one["endpoints"]]
        for one in world.cluster.kube.list(ENDPOINT_SLICES, "default")
        if one["metadata"]["name"] == f"{service.name}-ipv4"
    ]
    assert conditions == [{"ready": True}, {}, {"ready": False, "serving": True}]


def names(world: World) -> set[str]:
    listed = world.cluster.kube.list(SERVICES, "default") + world.cluster.kube.list(ENDPOINT_SLICES, "default")
    return {one["metadata"]["name"] for one in listed}


def test_a_service_and_a_slice_for_each_family(world: World) -> None:
    service = world.service(endpoints=world.backends(1))
    assert names(world) == {service.name, f"{service.name}-ipv4", f"{service.name}-ipv6"}
    service.delete()
    assert names(world) == set()
    service.delete()


def test_created_again_it_has_its_old_addresses_if_asked(world: World) -> None:
    service = world.service(endpoints=world.backends(1))
    before = service.live["spec"]["clusterIPs"]
    service.delete()
    service.create_again(world.backends(2), same_addresses=True)
    assert service.live["spec"]["clusterIPs"] == before
    assert len(service.ready_backends) == 2


def test_every_way_in_is_listed(world: World) -> None:
    service = world.service(
        kind="NodePort", endpoints=world.backends(1), ports=[Port(80, 8080, "TCP"), Port(53, 8081, "UDP")]
    )
    assert [(frontend.family, frontend.port, protocol) for frontend, protocol in service.every_cluster_ip()] == [
        ("IPv4", 80, "TCP"),
        ("IPv4", 53, "UDP"),
        ("IPv6", 80, "TCP"),
        ("IPv6", 53, "UDP"),
    ]
    node = world.nodes[1]
    frontends = [frontend for frontend, _ in service.every_node_port(node)]
    assert {frontend.ip for frontend in frontends} == set(node.addresses.values())
    assert all(30000 <= frontend.port <= 32767 for frontend in frontends)
    assert len({str(frontend) for frontend in frontends}) == 4


def test_backends_are_spread_over_the_nodes(world: World) -> None:
    assert [one.node for one in world.backends(4)] == ["node-a", "node-b", "node-c", "node-a"]
    clients = {node.client.name for node in world.nodes} | {node.scout.name for node in world.nodes}
    assert not clients & {one.name for one in world.backends(18)}
    with pytest.raises(UnfitError, match="needs 19 backends, and the cluster's pool has 18"):
        world.backends(19)


def test_scopes_own_what_is_made_in_them(world: World) -> None:
    outer: list[Service] = []
    inner: list[Service] = []
    with world.scope(outer):
        first = world.service()
        with world.scope(inner):
            second = world.service()
        third = world.service()
    assert (outer, inner) == ([first, third], [second])


def test_a_vantage_is_named_by_kind_and_place(world: World) -> None:
    names = [world.vantage(name).name for name in ("pod", "pod@first", "pod@third", "node@second", "outside")]
    assert names == ["node-a.pod-7", "node-a.pod-7", "node-c.pod-7", "node-b", "client-ext"]


def test_everywhere_is_every_node(world: World) -> None:
    probers = world.everywhere("outside", "pod", "node").probers
    assert [one.name for one in probers] == [
        "client-ext",
        *("node-a.pod-7", "node-b.pod-7", "node-c.pod-7"),
        *("node-a", "node-b", "node-c"),
    ]


@pytest.mark.parametrize("name", ["cellar", "", "cellar@first"])
def test_an_unknown_vantage_is_unfit(name: str, world: World) -> None:
    with pytest.raises(UnfitError, match=f"the cluster has no vantage '{name}'"):
        world.vantage(name)


@pytest.mark.parametrize("ask", ["vantage", "node"])
def test_a_place_that_is_not_there_is_unfit(ask: str, tmp_path: Path) -> None:
    with FakeCluster(2, 4, lies=frozenset(), seed=1, directory=tmp_path) as cluster:
        settler = Settler(cluster, FakeProxy(cluster, "ordered"), Deadlines())
        small = World(cluster, settler, families=("IPv4",), probe_timeout=1.0, after_settling=lambda: None)
        with pytest.raises(UnfitError, match="needs 3 nodes, and the cluster has 2"):
            small.vantage("pod@third") if ask == "vantage" else small.node_at("third")
        assert [one.name for one in small.everywhere("node").probers] == ["node-a", "node-b"]


def test_a_load_balancer_has_a_class_and_a_status_of_ours(world: World) -> None:
    addresses = world.virtual_ips()
    service = world.service(kind="LoadBalancer", ingress=[{"ip": addresses[0], "ipMode": "Proxy"}, addresses[1]])
    assert service.live["spec"]["loadBalancerClass"] == BALANCER_CLASS
    assert service.live["status"]["loadBalancer"]["ingress"] == [
        {"ip": addresses[0], "ipMode": "Proxy"},
        {"ip": addresses[1], "ipMode": "VIP"},
    ]
    frontends = [str(frontend) for frontend, _ in service.every_load_balancer_ip()]
    assert frontends == [f"LoadBalancer {addresses[0]}:80"] * 2 + [f"LoadBalancer [{addresses[1]}]:80"] * 2
    assert len(service.every_load_balancer_ip(family="IPv6")) == 2
    service.set_ingress()
    assert not service.every_load_balancer_ip()


def test_a_change_is_patched_and_what_was_is_remembered(world: World) -> None:
    service = world.service(kind="NodePort", externalIPs=world.virtual_ips())
    was = service.live
    service.change(externalIPs=None, ports=[Port(81, 8080, "TCP")])
    assert not service.every_external_ip()
    assert [(frontend.port, protocol) for frontend, protocol in service.every_cluster_ip(family="IPv4")] == [
        (81, "TCP")
    ]
    assert world.mirror.former == [was]


def test_only_families_that_a_service_has_are_dialled(world: World) -> None:
    service = world.service(kind="NodePort", ipFamilyPolicy="SingleStack", ipFamilies=["IPv6"])
    assert {frontend.family for frontend, _ in service.every_cluster_ip()} == {"IPv6"}
    assert {frontend.family for frontend, _ in service.every_node_port(world.nodes[0])} == {"IPv6"}
    assert not service.every_cluster_ip(family="IPv4")
    assert (other_family("IPv4"), other_family("IPv6")) == ("IPv6", "IPv4")


def test_a_headless_service_has_no_cluster_ip_to_dial(world: World) -> None:
    service = world.service(endpoints=world.backends(1), clusterIP=HEADLESS)
    assert not service.every_cluster_ip()
    ip = world.backends(1)[0].addresses["IPv6"]
    assert [(frontend.ip, frontend.port) for frontend, _ in service.at_endpoint(service.endpoints[0], "IPv6")] == [
        (ip, 8080),
        (ip, 8080),
    ]


def test_virtual_ips_lead_to_their_node_and_are_not_given_twice(world: World) -> None:
    given = [tuple(world.virtual_ips(through="second")) for _ in range(254)]
    assert len(set(given)) == 254
    assert world.virtual_ips(through="second") == list(given[0])
    for ips in given:
        assert {entrance(world.nodes, ip) for ip in ips} == {"node-b"}
    assert entrance(world.nodes, world.nodes[0].addresses["IPv4"]) is None


def test_what_arrives_from_outside_is_judged_at_its_entrance(world: World) -> None:
    service = world.service(
        kind="LoadBalancer",
        endpoints=world.node_at("second").backends[:1],
        ingress=[*world.virtual_ips(through="first"), *world.virtual_ips(through="second")],
        externalTrafficPolicy="Local",
    )
    outside = world.vantage("outside")
    for target in service.every_load_balancer_ip():
        outcome = "reply" if world.enters_at(world.nodes[1], target) else "timeout"
        assert world.verdict(outside.vantage, *target).outcomes == {outcome}


def test_a_cluster_without_virtual_ips_is_unfit(world: World) -> None:
    assert isinstance(world.cluster, FakeCluster)
    world.cluster.nodes = [replace(node, vip_cidrs=()) for node in world.nodes]
    with pytest.raises(UnfitError, match="no addresses for load balancers"):
        world.virtual_ips()


def test_the_health_check_is_asked_where_it_last_was(world: World) -> None:
    service = world.service(kind="LoadBalancer", externalTrafficPolicy="Local")
    port = service.health_check(world.nodes[0], "IPv4").port
    assert port == service.live["spec"]["healthCheckNodePort"]
    service.change(externalTrafficPolicy="Cluster", healthCheckNodePort=None)
    assert "healthCheckNodePort" not in service.live["spec"]
    assert service.health_check(world.nodes[1], "IPv6").port == port


def test_a_node_port_can_be_asked_for(world: World) -> None:
    ports = [Port(80, 8080, "TCP", node_port=30007), Port(80, 8080, "UDP")]
    service = world.service(kind="NodePort", endpoints=world.backends(1), ports=ports)
    assert {frontend.port for frontend, _ in service.every_node_port(world.nodes[0])} == {30007}
    service.change(ports=[replace(port, node_port=30008) for port in ports])
    assert {frontend.port for frontend, _ in service.every_node_port(world.nodes[0])} == {30008}


def test_a_label_comes_and_goes_with_the_slices(world: World) -> None:
    service = world.service(endpoints=world.backends(1), labels={"stays": "yes"})
    kube = world.cluster.kube

    def labels() -> list[dict[str, str]]:
        every = [*kube.list(SERVICES, "default"), *kube.list(ENDPOINT_SLICES, "default")]
        return [
            {name: value for name, value in one["metadata"].get("labels", {}).items() if "/" not in name}
            for one in every
        ]

    service.set_label("comes", "yes")
    assert labels() == [{"stays": "yes", "comes": "yes"}] * 3
    service.set_label("comes", None)
    assert labels() == [{"stays": "yes"}] * 3
    assert service.live["metadata"]["labels"] == {"stays": "yes"}


def test_a_range_of_cluster_ips_comes_and_goes_with_its_service(world: World) -> None:
    service = world.service(
        endpoints=world.backends(1),
        cidrs=["203.0.113.0/24", "2001:db8:cb00::/64"],
        clusterIPs=["203.0.113.10", "2001:db8:cb00::10"],
        clusterIP="203.0.113.10",
    )
    assert {frontend.ip for frontend, _ in service.every_cluster_ip()} == {"203.0.113.10", "2001:db8:cb00::10"}
    kube = world.cluster.kube
    assert {one["metadata"]["name"] for one in kube.list(SERVICE_CIDRS)} == {"kubernetes", service.name}
    service.delete()
    assert {one["metadata"]["name"] for one in kube.list(SERVICE_CIDRS)} == {"kubernetes"}


def test_a_host_name_of_a_load_balancer_is_no_way_in(world: World) -> None:
    ingress = [{"hostname": "balancer.example"}, {"ip": "198.18.0.9"}]
    service = world.service(kind="LoadBalancer", endpoints=world.backends(1), ingress=ingress)
    assert {frontend.ip for frontend, _ in service.every_load_balancer_ip()} == {"198.18.0.9"}
    assert disallowed(world, timeout=1.0) == {}


def test_vantages_can_be_named_one_by_one(world: World) -> None:
    one, other = world.backends(2)
    assert [prober.vantage for prober in world.at(one.vantage, other.vantage).probers] == [one.vantage, other.vantage]
