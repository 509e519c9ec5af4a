# SPDX-License-Identifier: Apache-2.0
"""The lab itself: who reaches whom, what is never touched, and what it says about bad input."""

import json
import os
import socket
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from clusters.agent.client import ProbeRequest
from clusters.api import Backend, Vantage
from clusters.errors import PlumblineError
from clusters.host import IptablesBackend
from clusters.kube import NODES
from clusters.lab.pod_network import VXLAN_PORT
from clusters.lab.provider import Lab
from clusters.lab.topology import MAX_DENSE, POD_NETWORKS, HostPlan, LabPlan, PodNetwork, PodPlan
from clusters.observation import Address, Family, FlowOutcome, Protocol

# What a proxy in a lab could change for the whole machine.
GLOBAL_SYSCTLS = ("netfilter/nf_conntrack_max", "ipv4/ip_forward", "ipv4/conf/all/route_localnet")
FAMILIES: tuple[Family, ...] = ("IPv4", "IPv6")
PROTOCOLS: tuple[Protocol, ...] = ("TCP", "UDP")


def request(vantage: Vantage, protocol: Protocol, ip: str, port: int) -> ProbeRequest:
    return ProbeRequest(vantage.name, vantage.place, vantage.node, "direct", protocol, Address(ip, port))


def everyone(lab: Lab) -> list[Vantage]:
    vantages = [lab.outside]
    for node in lab.nodes:
        vantages += [node.vantage, node.client, node.scout.vantage, *(backend.vantage for backend in node.backends)]
    return vantages


def every_backend(lab: Lab) -> list[Backend]:
    return [backend for node in lab.nodes for backend in (*node.backends, node.scout, node.host_backend)]


@pytest.mark.parametrize("pod_network", POD_NETWORKS)
def test_everyone_reaches_every_backend_with_its_own_address(pod_network: PodNetwork, tmp_path: Path) -> None:
    with Lab(nodes=2, pod_network=pod_network, log_directory=tmp_path) as lab:
        assert_everyone_reaches_everyone(lab)


def assert_everyone_reaches_everyone(lab: Lab) -> None:
    inner = {node.name: node.inner_addresses for node in lab.nodes}
    requests = [
        (backend, vantage, family, request(vantage, protocol, backend.addresses[family], port))
        for vantage in everyone(lab)
        for backend in every_backend(lab)
        for port in backend.ports
        for protocol in PROTOCOLS
        for family in FAMILIES
    ]
    seen = lab.probe([one for *_, one in requests])
    for (backend, vantage, family, _), observation in zip(requests, seen, strict=True):
        assert observation.outcome is FlowOutcome.REPLY, observation
        assert observation.backend == backend.name
        assert observation.client_seen is not None
        own = backend.vantage == vantage
        allowed = {vantage.addresses[family], *inner.get(vantage.name, ())}
        assert own or observation.client_seen.ip in allowed, observation


def test_pods_of_different_nodes_talk_inside_a_vxlan(tmp_path: Path) -> None:
    with Lab(nodes=2, pod_network="vxlan", log_directory=tmp_path) as lab:
        target = lab.nodes[1].backends[0].addresses
        with lab.capture(lab.nodes[0].vantage, "eth0") as capture:
            lab.probe([request(lab.nodes[0].client, "TCP", target[family], 8080) for family in FAMILIES])
        ports = {(packet.data[23], int.from_bytes(packet.data[36:38], "big")) for packet in capture.packets}
        assert ports == {(socket.IPPROTO_UDP, VXLAN_PORT)}


def test_one_namespace_serves_thousands_of_addresses(lab: Lab) -> None:
    backends = lab.dense_backends("node-b", MAX_DENSE)
    assert len(lab.dense_backends("node-b", 3)) == 3
    vantages = [lab.nodes[0].client, lab.nodes[1].client, lab.nodes[0].vantage, lab.nodes[1].vantage]
    asked = [
        request(vantage, protocol, backend.addresses[family], 8080)
        for vantage in vantages
        for backend in (backends[0], backends[4711], backends[-1])
        for protocol in PROTOCOLS
        for family in FAMILIES
    ]
    for sent, seen in zip(asked, lab.probe(asked), strict=True):
        assert seen.outcome is FlowOutcome.REPLY, seen
        assert seen.backend == "node-b.dense"
        assert seen.served_at == sent.dst
    with pytest.raises(ValueError, match="a node has 16382 dense endpoints, and 16382 is none of them"):
        lab.dense_backends("node-a", MAX_DENSE + 1)
    with pytest.raises(ValueError, match="there is no node 'node-x'; the lab has node-a, node-b"):
        lab.dense_backends("node-x", 1)


def test_an_unprogrammed_cluster_ip_is_unreachable_at_once(lab: Lab) -> None:
    client = lab.nodes[0].client
    targets = [("10.96.0.99", "IPv4"), ("fd00:10:96::99", "IPv6")]
    requests = [request(client, protocol, ip, 80) for ip, _ in targets for protocol in PROTOCOLS] * 20
    for observation in lab.probe(requests, timeout=1.0):
        assert observation.outcome is FlowOutcome.UNREACHABLE, observation


def test_virtual_ips_enter_through_their_node_and_are_unreachable_at_once(lab: Lab) -> None:
    assert lab.outside
    for node in lab.nodes:
        for cidr in node.vip_cidrs:
            ip = str(ip_network(cidr)[7])
            with lab.capture(node.vantage) as capture:
                seen = lab.probe([request(lab.outside, protocol, ip, 80) for protocol in PROTOCOLS] * 10, timeout=1.0)
            assert {one.outcome for one in seen} == {FlowOutcome.UNREACHABLE}
            arrived = [packet for packet in capture.packets if ip_address(ip).packed in packet.data]
            assert len(arrived) >= len(seen), "every packet passes the node"
    inside = [request(lab.nodes[0].client, "TCP", str(ip_network(cidr)[7]), 80) for cidr in lab.nodes[1].vip_cidrs]
    assert {one.outcome for one in lab.probe(inside * 10, timeout=1.0)} == {FlowOutcome.UNREACHABLE}


def test_a_node_can_be_told_to_forward_nothing(lab: Lab) -> None:
    here, there = lab.nodes
    through = [request(here.client, "UDP", ip, 8080) for ip in there.backends[0].addresses.values()]
    of_its_own = [request(here.vantage, "UDP", ip, 8080) for ip in there.backends[0].addresses.values()]
    lab.set_forward_policy(here.name, "DROP")
    assert {one.outcome for one in lab.probe(through, timeout=0.5)} == {FlowOutcome.TIMEOUT}
    assert {one.outcome for one in lab.probe(of_its_own, timeout=1.0)} == {FlowOutcome.REPLY}
    lab.set_forward_policy(here.name, "ACCEPT")
    assert {one.outcome for one in lab.probe(through, timeout=1.0)} == {FlowOutcome.REPLY}


def test_who_does_not_speak_http_has_no_page(lab: Lab) -> None:
    assert lab.outside
    for ip in lab.nodes[0].addresses.values():
        assert lab.fetch(lab.outside, Address(ip, 30999), "/") is None, "nobody listens"
        assert lab.fetch(lab.nodes[1].vantage, Address(ip, 8080), "/") is None, "a backend listens"


def test_neighbours_are_permanent_and_nothing_is_announced(lab: Lab) -> None:
    for name in ("node-a", "node-b.pod-2", "router", "client-ext"):
        neighbours = json.loads(lab.supervisor.run(["ip", "-j", "neighbour"], netns=name).out)
        assert neighbours
        assert {tuple(entry["state"]) for entry in neighbours} == {("PERMANENT",)}
    with lab.capture(lab.nodes[0].vantage) as capture:
        lab.probe([request(lab.nodes[0].client, "TCP", lab.nodes[1].host_backend.addresses["IPv4"], 8080)])
    ethertypes = {packet.data[12:14].hex() for packet in capture.packets}
    assert ethertypes == {"0800"}


def test_each_node_has_its_own_run_directory(lab: Lab) -> None:
    lab.supervisor.run(["touch", "/run/xtables.lock"], node="node-a")
    assert "xtables.lock" in lab.supervisor.run(["ls", "/run"], node="node-a").out
    assert "xtables.lock" not in lab.supervisor.run(["ls", "/run"], node="node-b").out


def test_the_host_is_left_alone(tmp_path: Path) -> None:
    before = host_state()
    with Lab(nodes=2, pods_per_node=3, log_directory=tmp_path) as lab:
        assert host_state() == before
        assert Path("/proc/self/ns/net").readlink() != Path(f"/proc/{lab.supervisor.pid}/ns/net").readlink()
    assert host_state() == before


def host_state() -> list[str]:
    """Interfaces, routes, mounts and sysctls of this process's own namespaces, and for root the rules."""
    commands = [["ip", "-o", "link"], ["ip", "route", "show", "table", "all"]]
    if os.geteuid() == 0:
        commands.append(["nft", "list", "ruleset"])
    outputs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands]
    files = ["/proc/self/mountinfo", *(f"/proc/sys/net/{name}" for name in GLOBAL_SYSCTLS)]
    return [*outputs, *(Path(file).read_text(encoding="utf-8") for file in files)]


def test_the_api_server_wants_a_token(lab: Lab) -> None:
    assert [node["metadata"]["name"] for node in lab.kube.list(NODES)] == ["node-a", "node-b"]
    lab.kube._headers["Authorization"] = "Bearer wrong"
    with pytest.raises(Exception, match="401 Unauthorized"):
        lab.kube.list(NODES)


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_nodes_find_the_iptables_that_was_chosen(backend: IptablesBackend, tmp_path: Path) -> None:
    with Lab(nodes=1, iptables_backend=backend, log_directory=tmp_path) as lab:
        for program in ("iptables", "ip6tables-restore", "iptables-save"):
            answer = lab.supervisor.run([program, "--version"], node="node-a").out
            assert ("(nf_tables)" if backend == "nft" else "(legacy)") in answer, answer


def test_a_command_that_fails_and_one_that_is_missing(lab: Lab) -> None:
    done = lab.supervisor.run(["sh", "-c", "echo out; echo err >&2; exit 7"], node="node-a", text="unused")
    assert (done.status, done.out, done.err) == (7, "out\n", "err\n")
    with pytest.raises(PlumblineError, match=r"(No such file|Permission denied).*: 'no-such-program'"):
        lab.supervisor.run(["no-such-program"], node="node-a")


def test_standard_input_reaches_the_command(lab: Lab) -> None:
    assert lab.supervisor.run(["cat"], netns="router", text="hello\n" * 10_000).out == "hello\n" * 10_000


def test_a_part_that_does_not_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    monkeypatch.setattr("clusters.lab.router.SCRIPT", "nonsense")
    with pytest.raises(PlumblineError, match="the lab's router could not be set up"), Lab(log_directory=tmp_path):
        pass
    assert children() == before


def children() -> set[str]:
    """Processes whose parent is this one."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    return set(listed.split())


@pytest.mark.parametrize(("nodes", "pods"), [(0, 4), (251, 4), (3, 2), (3, 201)])
def test_a_plan_of_impossible_size_is_refused(nodes: int, pods: int) -> None:
    with pytest.raises(ValueError, match="a lab "):
        LabPlan.of(nodes, pods)


def test_a_plan_survives_json_and_names_nobody_twice() -> None:
    plan = LabPlan.of(250, 200)
    assert LabPlan.from_json(json.loads(json.dumps(plan.as_json()))) == plan
    pods = [pod for node in plan.nodes for pod in node.pods]
    hosts = plan.hosts()
    everyone: list[PodPlan | HostPlan] = [*pods, *hosts]
    for values in (
        [one.name for one in everyone],
        [one.ipv4 for one in everyone],
        [one.ipv6 for one in everyone],
        [*(one.mac for one in everyone), *(pod.node_mac for pod in pods)],
    ):
        assert len(values) == len(set(values))
