# SPDX-License-Identifier: Apache-2.0
"""How the lab starts the reference's controller: a stand-in that tells what it was given, and the real one."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from clusters.errors import ProxyError
from clusters.lab.provider import Lab
from clusters.proxies.configuration import ProxyConfiguration
from clusters.proxies.reference import Reference, own_version
from plugins.settle import Deadlines, Settler
from plugins.world import World

# Tells of itself in the log, has a file among the pins that its next life finds, and answers for its health.
STAND_IN = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
given = dict(argument.lstrip("-").split("=", 1) for argument in sys.argv[1:])
pins = given["pins"]
kinds = [line.split()[2] for line in open("/proc/mounts") if line.split()[1] == pins]
found = [name for name in os.listdir(pins) if not name.endswith(".debug")]  # what the kernel itself puts there
os.makedirs(pins + "/kept", exist_ok=True)
config = json.load(open(given["proxy-config"]))
print(json.dumps({"given": given, "kinds": kinds, "found": found, "config": config, "file": __file__}), flush=True)
class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()
    def log_message(self, *_):
        pass
HTTPServer(("", 10256), Health).serve_forever()
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unfit: BPF needs root")


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A directory that holds another `dataplane_ref`."""
    package = tmp_path / "source" / "dataplane_ref"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "controller.py").write_text(STAND_IN, encoding="utf-8")
    return package.parent


def lives(lab: Lab, node: str) -> list[dict[str, object]]:
    """What each process on a node said of itself."""
    log = lab.log_directory / f"{node}.reference.log"
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def test_the_controller_is_told_all_it_needs(lab: Lab, stand_in: Path) -> None:
    proxy = Reference(lab, version=own_version(), source=stand_in)
    proxy.start()
    for node in ("node-a", "node-b"):
        (life,) = lives(lab, node)
        assert life["given"] == {
            "kubeconfig": "/run/plumbline/kubeconfig",
            "node": node,
            "cluster-cidr": ",".join(lab.cluster_cidrs),
            "proxy-config": "/run/plumbline/proxy-config.json",
            "pins": "/run/plumbline/bpf",
        }
        assert life["kinds"] == ["bpf"]
        assert life["config"] == {}
        assert life["file"] == str(stand_in / "dataplane_ref" / "controller.py")


def test_another_configuration_finds_the_same_pins(lab: Lab, stand_in: Path) -> None:
    proxy = Reference(lab, version=own_version(), source=stand_in)
    wanted = ProxyConfiguration.parse("{masqueradeAll: true}")
    assert proxy.refuses(wanted) is None
    proxy.start()
    proxy.configure(wanted)
    first, second = lives(lab, "node-b")
    assert (first["found"], second["found"]) == ([], ["kept"])
    assert second["config"] == {"masqueradeAll": True}


def test_every_node_has_pins_of_its_own_and_the_machine_none(lab: Lab) -> None:
    for node in ("node-a", "node-b"):
        lab.supervisor.run(["mkdir", f"/run/plumbline/bpf/{node}"], node=node)
    shown = [lab.supervisor.run(["ls", "/run/plumbline/bpf"], node=node).out for node in ("node-a", "node-b")]
    assert [sorted(out.replace("maps.debug", "").replace("progs.debug", "").split()) for out in shown] == [
        ["node-a"],
        ["node-b"],
    ]
    assert not Path("/run/plumbline").exists()


def test_a_controller_that_cannot_start_is_one_sentence_with_its_last_words(lab: Lab, stand_in: Path) -> None:
    shutil.rmtree(stand_in / "dataplane_ref")
    proxy = Reference(lab, version=own_version(), source=stand_in, ready_deadline=5.0)
    with pytest.raises(ProxyError, match=r"^reference on node-. ended with status 1; its log ends:\n"):
        proxy.start()


def test_the_real_one_shows_its_maps_in_words(lab: Lab) -> None:
    proxy = Reference(lab, version=own_version())
    settler = Settler(lab, proxy, Deadlines())
    world = World(lab, settler, families=("IPv4", "IPv6"), probe_timeout=2.0, after_settling=lambda: None)
    settler.create_sentinel()
    proxy.start()
    service = world.service(
        kind="LoadBalancer",
        endpoints=world.node_at("first").backends[:1],
        ingress=world.virtual_ips(),
        sessionAffinity="ClientIP",
        loadBalancerSourceRanges=["10.244.0.0/24", "fd00:10:244::/48"],
    )
    world.settle()
    frontend, protocol = next(iter(service.every_cluster_ip(family="IPv4")))
    client = world.vantage("pod@first")
    client.open(frontend, protocol).must_stay_within_the_verdict()

    (text,) = proxy.rules("node-a").values()

    endpoint, source = world.nodes[0].backends[0].addresses["IPv4"], client.vantage.addresses["IPv4"]
    for line in (
        rf"  {frontend.ip}:80 TCP IPv4: CLUSTER_IP, Service port \d+, RANDOM, CLIENT_AFFINITY, affinity 10800 s",
        rf"      cluster: {endpoint}:8080 \(#\d+, .*IN_LOCAL.*\)",
        r"  any address:\d+ UDP IPv6: NODE_PORT, .*",
        r"  198\.18\.0\.\d+:80 TCP IPv4: LOAD_BALANCER, .* RESTRICTED, affinity 10800 s, source ranges \d+",
        r"  \d+: 10\.244\.0\.0/24",
        r"  10\.244\.0\.0/16",
        r"  172\.18\.0\.10: ON_NODE, SERVES_NODE_PORTS",
        rf"  TCP {source}:\d+ → {frontend.ip}:80 becomes {source}:\d+ → {endpoint}:8080: .*; \d+\.\d s left",
        rf"  {source} with Service port \d+: {endpoint}:8080 .*",
        r"  FLOWS_OPENED: \d+",
    ):
        assert re.search(f"^{line}$", text, re.MULTILINE), f"no line {line} in\n{text}"


def test_on_a_node_without_a_controller_there_is_nothing_to_show(lab: Lab) -> None:
    (text,) = Reference(lab, version=own_version()).rules("node-b").values()
    assert text == "plumbline: nothing of the datapath is pinned at /run/plumbline/bpf: it has no config\n"
