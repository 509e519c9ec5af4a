# SPDX-License-Identifier: Apache-2.0
"""The controller as a process in a namespace, with the embedded API server and the kernel's own maps."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from clusters.agent.netns import Namespaces
from dataplane_ref.controller.netlink import Interfaces, Monitor, read_interfaces
from dataplane_ref.controller.packed import text
from dataplane_ref.loader import Map, syscalls
from tests.datapath.cluster import BPF, CODEC, NODE, NODE_IP, endpoint, endpoint_slice, node, service
from tests.datapath.conftest import as_root, run

PATIENCE = 15.0
CONFIG = (
    """{current-context: x, contexts: [{name: x, context: {cluster: x}}], clusters: [{name: x, cluster: {%s}}]}"""
)
TOKEN = "t"  # noqa: S105 - of a server that ends with the test
VIP = "10.96.0.10"


def within(seconds: float, happens: Callable[[], object]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if happens():
            return True
        time.sleep(0.02)
    return False


@dataclass
class Node:
    """A namespace with an uplink, an API server on its loopback, and controllers started in it."""

    name: str
    folder: Path
    pins: Path
    namespaces: Namespaces = field(default_factory=Namespaces)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def inside(self) -> Any:
        return self.namespaces.inside(self.namespaces.open(f"/run/netns/{self.name}"))

    def listening(self) -> socket.socket:
        with self.inside():
            found = socket.socket()
        found.bind(("127.0.0.1", 0))
        found.listen()
        return found

    def start_api(self) -> None:
        ready, told = os.pipe()
        with self.listening() as closed, self.listening() as opened:
            self.port = opened.getsockname()[1]
            numbers = (closed.fileno(), opened.fileno(), told)
            server = subprocess.Popen(
                [sys.executable, "-m", "clusters.apiserver", f"--listen-fd={numbers[0]}", f"--open-fd={numbers[1]}",
                 f"--ready-fd={told}"],
                pass_fds=numbers, env=os.environ | {"PLUMBLINE_API_TOKEN": TOKEN}, text=True,
            )  # fmt: skip
        os.close(told)
        self.processes.append(server)
        assert os.read(ready, 6) == b"ready\n"
        os.close(ready)
        self.kubeconfig(f"http://127.0.0.1:{self.port}")

    def kubeconfig(self, server: str) -> None:
        config = {
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{"name": "x", "cluster": {"server": server}}],
            "users": [{"name": "x", "user": {"token": TOKEN}}],
        }
        (self.folder / "kubeconfig").write_text(json.dumps(config))

    def ask(self, method: str, path: str, body: Any = None, port: int = 0) -> tuple[int, Any]:
        """One request from inside; status and JSON."""
        with self.inside():
            made = socket.socket()
        made.settimeout(PATIENCE)
        made.connect(("127.0.0.1", port or self.port))
        connection = HTTPConnection("127.0.0.1", port or self.port)
        connection.sock = made
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, json.loads(data) if data.startswith(b"{") else data.decode()

    def create(self, *objects: dict[str, Any]) -> None:
        for each in objects:
            is_slice = "endpoints" in each
            group = "/apis/discovery.k8s.io/v1" if is_slice else "/api/v1"
            path = f"{group}/namespaces/default/{'endpointslices' if is_slice else 'services'}"
            status, answer = self.ask("POST", path, each)
            assert status == 201, answer

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The controller, in this namespace and the mount namespace of the test."""
        command = [sys.executable, "-m", "dataplane_ref.controller", "--kubeconfig", str(self.folder / "kubeconfig"),
                   "--node", NODE, "--cluster-cidr", "10.0.0.0/8", "--pins", str(self.pins), *arguments]  # fmt: skip
        made = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.name}", *command],
            stderr=(self.folder / "log").open("a"), text=True,
        )  # fmt: skip
        self.processes.append(made)
        return made

    def stop(self, process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
        process.send_signal(number)
        return process.wait(PATIENCE)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def served(self, times: int = 1) -> bool:
        return within(PATIENCE, lambda: self.log().count("are served") == times)

    def map(self, name: str) -> Map:
        fd = syscalls.pinned(str(self.pins / name))
        assert fd is not None
        return Map(fd, BPF.definitions[name])

    def endpoints(self) -> dict[str, int]:
        """Address → number, of all endpoints that are members of a set."""
        with_address = {}
        for key, value in self.map("endpoints").items():
            if CODEC.endpoint.unpack(value)[2] & CODEC.endpoint_flag["IN_CLUSTER"]:
                with_address[text(value[:16])] = int.from_bytes(key, "little")
        return with_address


SMALL = ("--max-endpoints", "1024", "--max-services", "256", "--max-flows", "1024", "--max-affinities", "1024")


@pytest.fixture
def here(tmp_path: Path, pins: Path) -> Iterator[Node]:
    as_root()
    made = Node(f"plumbline-ctl-{os.getpid()}", tmp_path, pins)
    run("ip", "netns", "add", made.name)
    try:
        for command in (
            "link set lo up",
            "link add eth0 index 7 type veth peer name far0",
            f"addr add {NODE_IP}/24 dev eth0",
            "link set eth0 up",
            "link set far0 up",
        ):
            run("ip", "-n", made.name, *command.split())
        yield made
    finally:
        for process in made.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        run("ip", "netns", "del", made.name)


@pytest.fixture
def serving(here: Node) -> Node:
    """With an API server that knows the node and one Service with a slice."""
    here.start_api()
    assert here.ask("POST", "/api/v1/nodes", node())[0] == 201
    assert here.ask("PUT", f"/api/v1/nodes/{NODE}/status", node())[0] == 200
    here.create(service(ips=(VIP,)), endpoint_slice("10.1.0.1", "10.1.0.2"))
    return here


def test_services_reach_the_maps_and_changes_follow(serving: Node) -> None:
    process = serving.start(*SMALL)
    assert serving.served(), serving.log()
    assert serving.endpoints().keys() == {"10.1.0.1", "10.1.0.2"}
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32100}
    serving.create(service("more", ips=("10.96.0.11",), **local))
    serving.create(endpoint_slice(endpoint("10.1.0.3", NODE), of="more", name="more"))
    assert within(PATIENCE, lambda: "10.1.0.3" in serving.endpoints())
    assert serving.ask("GET", "/healthz", port=10256)[0] == 200
    assert "plumbline_flows_opened_total 0" in serving.ask("GET", "/metrics", port=10256)[1]
    status, answer = serving.ask("GET", "/", port=32100)
    assert (status, answer["localEndpoints"]) == (200, 1)
    assert serving.stop(process) == 0
    assert "Traceback" not in serving.log()


def test_after_a_restart_numbers_stay_and_programs_were_never_gone(serving: Node) -> None:
    first = serving.start(*SMALL)
    assert serving.served(), serving.log()
    before = serving.endpoints()
    assert serving.stop(first) == 0
    links = sorted(path.name for path in serving.pins.glob("link-*"))
    assert links[:1] == ["link-1-egress"]
    assert {"link-7-ingress", "link-7-egress"} <= set(links)
    serving.create(endpoint_slice("10.1.0.0", name="web-2"))
    second = serving.start(*SMALL)
    assert serving.served(2), serving.log()
    after = serving.endpoints()
    assert {each: after[each] for each in before} == before
    assert after.keys() - before.keys() == {"10.1.0.0"}
    assert serving.stop(second, signal.SIGKILL) == -signal.SIGKILL
    third = serving.start(*SMALL)
    assert serving.served(3), serving.log()
    assert serving.endpoints() == after
    assert serving.stop(third) == 0


def test_programs_follow_interfaces(serving: Node) -> None:
    process = serving.start(*SMALL)
    assert serving.served(), serving.log()
    run("ip", "-n", serving.name, "link", "add", "pod0", "index", "42", "type", "veth", "peer", "name", "pod1")
    assert within(PATIENCE, (serving.pins / "link-42-ingress").exists)
    run("ip", "-n", serving.name, "link", "del", "pod0")
    assert within(PATIENCE, lambda: not (serving.pins / "link-42-ingress").exists())
    assert serving.stop(process) == 0


def test_an_api_server_that_is_not_there_is_waited_for(here: Node) -> None:
    here.kubeconfig("http://127.0.0.1:9")
    process = here.start(*SMALL)
    assert within(PATIENCE, lambda: here.log().count("cannot be watched at 127.0.0.1:9") == 3), here.log()
    assert here.ask("GET", "/livez", port=10256)[0] == 200
    assert here.stop(process, signal.SIGINT) == 0
    assert here.log().splitlines()[-1].endswith("SIGINT: the datapath stays")


def test_the_monitor_tells_of_interfaces_and_addresses(here: Node) -> None:
    with here.inside():
        monitor = Monitor()
        before = read_interfaces()
    assert before.links[7].name == "eth0"
    assert before.links[7].kind == "veth"
    assert not before.links[7].has_far_peer
    assert {text(address) for index, address in before.addresses if index == 7} >= {NODE_IP}
    run("ip", "-n", here.name, "addr", "add", "198.51.100.1/24", "dev", "eth0")

    class ToldError(Exception):
        pass

    def tell(item: object) -> None:
        if isinstance(item, Interfaces):
            raise ToldError

    with here.inside(), pytest.raises(ToldError):
        monitor.follow(tell)


@pytest.mark.parametrize(
    ("kubeconfig", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "is neither YAML nor JSON"),
        ("", "is empty, or no mapping"),
        ("{}", "has no current-context"),
        ("current-context: x", "names the context 'x', which it does not have"),
        (
            CONFIG % "server: 'ftp://x'",
            "has the server 'ftp://x', which must look like https://192.0.2.1:6443",
        ),
        (
            CONFIG % "server: 'https://x', certificate-authority: nowhere",
            "which cannot be read: No such file or directory",
        ),
    ],
)
def test_a_kubeconfig_that_cannot_be_is_one_sentence(tmp_path: Path, kubeconfig: str | None, said: str) -> None:
    path = tmp_path / "kubeconfig"
    if kubeconfig is not None:
        path.write_text(kubeconfig)
    done = controller("--kubeconfig", str(path))
    assert done.returncode == 2
    assert re.fullmatch(r"[\d:.]{12} .*\n", done.stderr), done.stderr
    assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scheduler", "best"), "invalid choice: 'best'"),
        (("--cluster-cidr", "10.0.0.0/40"), "--cluster-cidr: '10.0.0.0/40' is no range"),
        (("--masquerade-ports", "5"), "--masquerade-ports must look like 61000-65535, not '5'"),
        (("--max-flows", "1"), "--max-flows must be at least 16, not 1"),
        (("--mark", "3"), "--mark must be one bit"),
        (("--proxy-config", "/nowhere"), "the proxy configuration /nowhere cannot be read"),
    ],
)
def test_wrong_arguments_are_one_sentence(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = controller("--kubeconfig", str(tmp_path), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def controller(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dataplane_ref.controller", "--node", NODE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
