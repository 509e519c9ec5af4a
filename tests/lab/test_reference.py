# SPDX-License-Identifier: Apache-2.0
"""How the lab starts the reference datapath's controller: with a stand-in that tells what it was given."""

import json
import os
import shutil
from pathlib import Path

import pytest

from clusters.errors import ProxyError
from clusters.lab.provider import Lab
from clusters.proxies.configuration import ProxyConfiguration
from clusters.proxies.reference import Reference, own_version

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
