# SPDX-License-Identifier: Apache-2.0
"""kube-router as it is started: a service proxy and nothing else, told what it can be told, refusing the rest."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from clusters.errors import PlumblineError
from clusters.proxies.base import Host, Place
from clusters.proxies.configuration import ProxyConfiguration
from clusters.proxies.kube_router import HEALTH_PORT, KubeRouter
from tests.binaries import programs
from tests.plugin.runs import Command, Runner

PLACE = Place("node-a", "192.0.2.1", "2001:db8::1", ("198.51.100.0/24",))


class Node:
    """A node that answers HTTP with `status`, or not at all."""

    service_cidrs = ("203.0.113.0/24", "2001:db8:1::/112")

    def __init__(self, status: int | None = None) -> None:
        self.status = status
        self.asked: list[tuple[int, str]] = []
        self.run: list[Sequence[str]] = []

    def kubeconfig(self, place: Place) -> str:
        return f"for {place.name}"

    def write_file(self, place: Place, name: str, text: str) -> str:
        assert text == f"for {place.name}"
        return f"/run/{name}"

    def http_get(self, _node: str, port: int, path: str) -> tuple[int, str]:
        self.asked.append((port, path))
        if self.status is None:
            raise PlumblineError("nobody answers")
        return self.status, ""

    def outputs(self, _node: str, commands: Sequence[Sequence[str]]) -> dict[str, str]:
        self.run += commands
        return {" ".join(command): "" for command in commands}


def kube_router(node: Node | None = None, configuration: ProxyConfiguration | None = None) -> KubeRouter:
    proxy = KubeRouter(cast(Host, node or Node()), binary=Path("/bin/kube-router"), version="2.10.0")
    if configuration:
        proxy.configured = configuration
    return proxy


def options(configuration: ProxyConfiguration | None = None) -> list[str]:
    """Its command line as it sees it, without what prepares its mounts."""
    argv = list(kube_router(configuration=configuration).argv(PLACE))
    return argv[argv.index("/bin/kube-router") :]


def test_it_is_a_service_proxy_and_nothing_else() -> None:
    argv = options()
    assert {option for option in argv if option.startswith("--run-")} == {
        "--run-service-proxy=true",
        "--run-router=false",
        "--run-firewall=false",
        "--run-loadbalancer=false",
    }
    assert {"--kubeconfig=/run/kubeconfig", "--hostname-override=node-a", "--enable-cni=false"} <= set(argv)
    assert [option for option in argv if option.startswith("--service-cluster-ip-range=")] == [
        "--service-cluster-ip-range=203.0.113.0/24",
        "--service-cluster-ip-range=2001:db8:1::/112",
    ]


@pytest.mark.parametrize(
    ("text", "added", "removed"),
    [
        ("{masqueradeAll: true}", {"--masquerade-all=true"}, set()),
        ("{masqueradeAll: false}", set(), set()),
        ("{syncPeriod: 1s}", {"--ipvs-sync-period=1s"}, set()),
        ("{nodePortAddresses: [primary]}", set(), {"--nodeport-bindon-all-ip=true"}),
    ],
)
def test_what_it_has_options_for_it_is_told(text: str, added: set[str], removed: set[str]) -> None:
    asked = ProxyConfiguration.parse(text)
    default, configured = set(options()), set(options(asked))
    assert kube_router().refuses(asked) is None
    assert (configured - default, default - configured) == (added, removed)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{nodePortAddresses: [192.0.2.0/24]}", "nodePortAddresses"),
        ("{localhostNodePorts: false, tcpBeLiberal: true}", "localhostNodePorts, tcpBeLiberal"),
        ("{detectLocalMode: NodeCIDR, masqueradeAll: true}", "detectLocalMode"),
        ("{syncPeriod: 1s, minSyncPeriod: 10ms}", "minSyncPeriod"),
    ],
)
def test_what_it_has_no_option_for_it_refuses(text: str, named: str) -> None:
    assert kube_router().refuses(ProxyConfiguration.parse(text)) == f"kube-router has no option for {named}"


@pytest.mark.parametrize(("status", "up"), [(200, True), (500, False), (None, False)])
def test_it_is_up_when_its_controllers_beat(status: int | None, up: bool) -> None:
    node = Node(status)
    assert kube_router(node).is_up("node-a") is up
    assert node.asked == [(HEALTH_PORT, "/healthz")]


def test_requirements_about_other_schedulers_are_unsupported(tmp_path: Path) -> None:
    told = programs.program("Running bin/kube-router version 2.10.0, built on , go1.26.8\n", descriptor=2)
    binary = programs.write(tmp_path / "kube-router", told)
    asked = ("--proxy=kube-router", f"--proxy-binary={binary}", "--family=ipv4", "conformance/distribution")
    only = ("-k", "independent or round_robin or never_queue")

    outcomes = Runner(tmp_path).prepare(Command((*asked, *only), proxy=False)).run().outcomes()

    assert outcomes["distribution.clusterip.independent"] == {"unsupported"}
    assert outcomes["distribution.nq.idle-first"] == {"unsupported"}
    assert "unsupported" not in outcomes["distribution.rr.takes-turns"]


def test_a_failure_shows_its_virtual_servers_and_its_rules() -> None:
    node = Node()
    shown = " ".join(kube_router(node).rules("node-a"))
    assert [word for word in ("ip_vs", "kube-dummy-if", "ipset list", "iptables-save", "ip6tables-save")
            if word not in shown] == []  # fmt: skip


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/etc/iproute2/rt_tables").exists(),
    reason="unfit: mounting needs root, and the machine has no such file",
)
def test_it_cannot_write_the_machines_own_tables(tmp_path: Path) -> None:
    """It enters names in /etc/iproute2; the machine, and the other nodes, must not see them."""
    script = tmp_path / "kube-router"
    script.write_text("#!/bin/sh\necho 77 mine >>/etc/iproute2/rt_tables; cat /etc/iproute2/rt_tables; : >/etc/x\n")
    script.chmod(0o755)
    proxy = KubeRouter(cast(Host, Node()), binary=script, version="2.10.0")
    node = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh")

    done = subprocess.run([*node, *proxy.argv(PLACE)], capture_output=True, text=True, check=False)

    assert "77 mine" in done.stdout
    assert "Read-only file system" in done.stderr
    assert "77 mine" not in Path("/etc/iproute2/rt_tables").read_text(encoding="utf-8")
    assert not Path("/etc/x").exists()
