# SPDX-License-Identifier: Apache-2.0
"""EndpointSlices as tests write them: what goes to the API, and what changes of them do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters.kube import ENDPOINT_SLICES, Object
from plugins.services import Port, Service
from plugins.settle import Deadlines, Settler
from plugins.slices import Endpoint, Slice, not_ready, terminating
from plugins.world import World
from tests.plugin.fake_cluster import FakeCluster
from tests.plugin.fake_proxy import FakeProxy


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeCluster(3, 4, lies=frozenset(), seed=1, directory=tmp_path) as cluster:
        settler = Settler(cluster, FakeProxy(cluster, "ordered"), Deadlines())
        yield World(cluster, settler, families=("IPv4", "IPv6"), probe_timeout=1.0, after_settling=lambda: None)


def written(world: World, service: Service) -> dict[str, Object]:
    """The slices in the API by what follows the Service's name in theirs."""
    listed = world.cluster.kube.list(ENDPOINT_SLICES, "default")
    names = {one["metadata"]["name"]: one for one in listed}
    assert names == world.mirror.slices, "the model sees what the server has"
    return {name.removeprefix(f"{service.name}-"): one for name, one in names.items()}


def test_every_slice_is_written_in_every_family(world: World) -> None:
    first, second = world.backends(2)
    service = world.service(slices=[Slice([first]), Slice([second])])
    found = written(world, service)
    assert set(found) == {"ipv4", "ipv6", "1-ipv4", "1-ipv6"}
    assert found["1-ipv6"]["addressType"] == "IPv6"
    assert [one["addresses"] for one in found["1-ipv6"]["endpoints"]] == [[second.addresses["IPv6"]]]
    assert service.endpoints == (Endpoint(first), Endpoint(second))


def test_a_slice_may_be_of_one_family_only(world: World) -> None:
    service = world.service(slices=[Slice(world.backends(1), families=["IPv6"])])
    assert set(written(world, service)) == {"ipv6"}


def test_a_slice_may_have_numbers_and_ports_of_its_own(world: World) -> None:
    ports = [Port(80, "web", "TCP"), Port(53, 8081, "UDP")]
    service = world.service(slices=[Slice(world.backends(1), targets={"tcp-80": 8082})], ports=ports)
    assert written(world, service)["ipv4"]["ports"] == [{"name": "tcp-80", "protocol": "TCP", "port": 8082}]


def test_a_slice_may_be_nobodys_or_hidden(world: World) -> None:
    service = world.service(slices=[Slice([], named=False), Slice([], labels={"hidden": "yes"})])
    found = written(world, service)
    assert "kubernetes.io/service-name" not in found["ipv4"]["metadata"]["labels"]
    assert found["1-ipv4"]["metadata"]["labels"]["kubernetes.io/service-name"] == service.name
    assert found["1-ipv4"]["metadata"]["labels"]["hidden"] == "yes"


def test_conditions_are_those_of_the_documentation(world: World) -> None:
    first, second, third = world.backends(3)
    endpoints = [terminating(first), terminating(second, serving=False), not_ready(third)]
    service = world.service(endpoints=endpoints)
    conditions = [one["conditions"] for one in written(world, service)["ipv4"]["endpoints"]]
    assert conditions == [
        {"ready": False, "serving": True, "terminating": True},
        {"ready": False, "serving": False, "terminating": True},
        {"ready": False, "serving": False, "terminating": False},
    ]
    assert service.ready_backends == frozenset()


def test_only_what_changes_is_written_again(world: World) -> None:
    first, second = world.backends(2)
    service = world.service(slices=[Slice([first]), Slice([second])])
    before = {name: one["metadata"]["resourceVersion"] for name, one in written(world, service).items()}
    service.set_slices(Slice([first]), Slice([second, first]))
    after = {name: one["metadata"]["resourceVersion"] for name, one in written(world, service).items()}
    assert {name for name in after if after[name] != before[name]} == {"1-ipv4", "1-ipv6"}


def test_slices_that_are_no_longer_wanted_are_deleted(world: World) -> None:
    service = world.service(slices=[Slice([one]) for one in world.backends(3)])
    service.set_endpoints(world.backends(1))
    assert set(written(world, service)) == {"ipv4", "ipv6"}
    service.delete()
    assert not world.mirror.slices


def test_what_a_slice_says_beside_its_endpoints(world: World) -> None:
    first, second = world.backends(2)
    unplaced, reused = Endpoint(first, placed=False), Endpoint(second, pod="pod-2")
    service = world.service(
        slices=[Slice([unplaced, reused], of="another"), Slice([first], families=["IPv4"], address_type="FQDN")]
    )
    slices = written(world, service)
    assert slices["ipv4"]["metadata"]["labels"]["kubernetes.io/service-name"] == "another"
    assert [one.get("nodeName") for one in slices["ipv4"]["endpoints"]] == [None, second.node]
    assert [one.get("targetRef", {}).get("name") for one in slices["ipv4"]["endpoints"]] == [None, "pod-2"]
    assert slices["1-ipv4"]["addressType"] == "FQDN"


def test_a_node_is_relabelled_for_a_while(world: World) -> None:
    node = world.nodes[0]
    zone = world.state().node(node.name).zone
    with world.labelled(node, "topology.kubernetes.io/zone", "elsewhere"):
        assert world.state().node(node.name).zone == "elsewhere"
    assert world.state().node(node.name).zone == zone == node.zone
