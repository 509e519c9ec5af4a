# SPDX-License-Identifier: Apache-2.0
"""etcd and kube-apiserver as the lab's control plane: whole, reached from everywhere, seen by no dataplane."""

import json
import os
import signal
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from clusters import binaries
from clusters.api import Node
from clusters.binaries import Binary
from clusters.errors import PlumblineError
from clusters.kube import NAMESPACES, NODES, SERVICES
from clusters.lab.control_plane import Real
from clusters.lab.provider import API_PORT, Lab
from clusters.proxies.kube_proxy import KubeProxy
from plugins.settle import Deadlines, Settler
from tests.lab.test_lab import host_state, request
from tests.lab.test_leaks import session

ENDS_WITHIN = 10.0


@pytest.fixture(scope="module")
def programs() -> Real:
    """The real control plane's programs, if they are there: building them takes longer than all other tests."""
    found = {name: binaries.at_hand(name) for name in ("etcd", "kube-apiserver")}
    for name, binary in found.items():
        if binary is None:
            pytest.skip(f"unfit: there is no {name} in the cache (python -m clusters.binaries {name})")
    etcd, kube_apiserver = found["etcd"], found["kube-apiserver"]
    assert etcd is not None
    assert kube_apiserver is not None
    return Real(etcd.path, kube_apiserver.path)


@pytest.fixture(scope="module")
def real(programs: Real, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of two nodes, for tests that leave it as it is."""
    with Lab(nodes=2, log_directory=tmp_path_factory.mktemp("logs"), control_plane=programs) as lab:
        yield lab


def https_from(lab: Lab, node: Node) -> HTTPSConnection:
    """A connection made on the node's own loopback, as its proxy makes it."""
    assert lab.kube.ca is not None
    connection = HTTPSConnection("127.0.0.1", API_PORT)
    inner = lab.supervisor.connect(node.name, "127.0.0.1", API_PORT)
    inner.settimeout(20.0)
    context = ssl.create_default_context(cadata=lab.kube.ca)
    connection.sock = context.wrap_socket(inner, server_hostname="127.0.0.1")
    return connection


def test_it_has_what_a_new_cluster_has(real: Lab) -> None:
    assert {"default", "kube-system"} <= {one["metadata"]["name"] for one in real.kube.list(NAMESPACES)}
    for node in real.nodes:
        stored = real.kube.get(NODES, node.name)
        assert tuple(stored["spec"]["podCIDRs"]) == node.pod_cidrs
        internal = {one["address"] for one in stored["status"]["addresses"] if one["type"] == "InternalIP"}
        assert internal == set(node.addresses.values())
        assert {"type": "Ready", "status": "True"}.items() <= stored["status"]["conditions"][0].items()


def test_it_is_kubernetes_and_not_the_embedded_one(real: Lab) -> None:
    answer = real.kube.request("GET", "/version")
    assert answer["gitVersion"] == f"v{binaries.DEFAULT_KUBERNETES}"
    assert answer["goVersion"]


def test_every_node_reaches_it_on_its_own_loopback_with_a_token(real: Lab) -> None:
    for node in real.nodes:
        with closing(https_from(real, node)) as connection:
            connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {real.kube.token}"})
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"ok")
            connection.request("GET", "/api/v1/services")
            assert connection.getresponse().status == 401


def test_a_kubeconfig_says_whom_to_trust(real: Lab) -> None:
    for place in (*real.places, None):
        cluster = json.loads(real.kubeconfig(place))["clusters"][0]["cluster"]
        assert cluster["server"].startswith("https://127.0.0.1:")
        assert cluster["certificate-authority-data"]


def test_control_does_not_cross_the_dataplane(real: Lab) -> None:
    node = real.nodes[0]
    with real.capture(node.vantage, "eth0") as capture, closing(https_from(real, node)) as connection:
        connection.request("GET", "/api/v1/services", headers={"Authorization": f"Bearer {real.kube.token}"})
        assert connection.getresponse().status == 200
        # What a capture sees when there is something to see.
        real.probe([request(node.vantage, "TCP", real.nodes[1].addresses["IPv4"], 8080)])
    ports = {int.from_bytes(packet.data[at : at + 2]) for packet in capture.packets for at in (34, 36)}
    assert 8080 in ports
    assert API_PORT not in ports
    with pytest.raises(PlumblineError, match="refused"):
        real.supervisor.connect(node.name, node.addresses["IPv4"], API_PORT)


def test_what_is_written_on_the_machine_is_read_on_a_node(real: Lab) -> None:
    """A large object, so that the relay has to carry many chunks."""
    body = {"metadata": {"name": "large"}, "data": {"text": "x" * 900_000}}
    real.kube.request("POST", "/api/v1/namespaces/default/configmaps", body)
    with closing(https_from(real, real.nodes[1])) as connection:
        headers = {"Authorization": f"Bearer {real.kube.token}"}
        connection.request("GET", "/api/v1/namespaces/default/configmaps/large", headers=headers)
        assert json.loads(connection.getresponse().read())["data"] == body["data"]


def test_a_real_kube_proxy_follows_it(programs: Real, kube_proxy: Binary, tmp_path: Path) -> None:
    with Lab(nodes=2, log_directory=tmp_path, control_plane=programs) as lab:
        proxy = KubeProxy(lab, binary=kube_proxy.path, version=kube_proxy.version, mode="iptables")
        settler = Settler(lab, proxy, Deadlines())
        settler.create_sentinel()
        proxy.start()
        assert settler.ready(60.0).done
        assert settler.settle("ordered", dict).done
        assert lab.kube.list(SERVICES, "plumbline")
        proxy.stop()


@pytest.mark.parametrize("victim", ["etcd", "kube-apiserver", "relay"])
def test_a_part_that_dies_is_named(victim: str, programs: Real, tmp_path: Path) -> None:
    with Lab(nodes=1, pods_per_node=3, log_directory=tmp_path, control_plane=programs) as lab:
        assert lab.exits() == []
        lab.supervisor.signal(lab.processes.pids[victim], signal.SIGKILL)
        with pytest.raises(PlumblineError, match=f"the lab's {victim} ended with status -9; its log ends:"):
            look_until_told(lab)


def look_until_told(lab: Lab) -> None:
    """Look as a run does, between its tests, whether all parts live."""
    end = time.monotonic() + ENDS_WITHIN
    while time.monotonic() < end:
        lab.exits()
        time.sleep(0.01)


def test_a_part_that_does_not_start_says_why(programs: Real, tmp_path: Path) -> None:
    broken = Real(programs.etcd, Path("/bin/false"))
    with (
        pytest.raises(
            PlumblineError, match=r"the lab's kube-apiserver ended with status 1; its log ends: \(nothing was"
        ),
        Lab(nodes=1, pods_per_node=3, log_directory=tmp_path, control_plane=broken),
    ):
        pass


def test_nothing_is_left_after_a_sigkill(programs: Real, tmp_path: Path) -> None:
    before = host_state()
    with session(tmp_path, "--control-plane=real") as running:
        running.await_proxies(3)
        for program in (programs.etcd, programs.kube_apiserver):
            assert running.processes(rf"^{program} ")
        os.kill(running.process.pid, signal.SIGKILL)
        running.assert_gone()
    assert host_state() == before
