# SPDX-License-Identifier: Apache-2.0
"""MetalLB's speakers in a real lab: up, told what to announce, missed when they die, and an ordinary user's."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters import binaries
from clusters.announcers.metallb import HEALTH_PORT, MetalLB
from clusters.announcers.objects import ADVERTISEMENTS, GROUP, NAMESPACE, PODS, POOLS, pod_name
from clusters.binaries import Binary
from clusters.errors import PlumblineError, ProxyError
from clusters.kube import Resource
from clusters.lab.provider import Lab
from tests.lab.ordinary import CANNOT, ordinary_user

READY = 30.0
STATES = Resource(f"{GROUP}/v1beta1", "configurationstates", "ConfigurationState")


@pytest.fixture(scope="module")
def speaker() -> Binary:
    found = binaries.at_hand("metallb-speaker")
    if found is None:
        pytest.skip("unfit: no metallb-speaker is at hand (python -m clusters.binaries metallb-speaker)")
    return found


@pytest.fixture
def metallb(tmp_path: Path, speaker: Binary) -> Iterator[tuple[Lab, MetalLB]]:
    """Two nodes with a speaker each, which has been told whom to announce."""
    if os.geteuid() != 0:
        pytest.skip("unfit: needs root")
    with Lab(nodes=2, log_directory=tmp_path / "logs", announcer=True) as lab:
        announcer = MetalLB(
            lab,
            lab.kube,
            binary=speaker.path,
            version=speaker.version,
            ranges=lab.announced_cidrs,
            ready_deadline=READY,
        )
        announcer.start()
        yield lab, announcer
        announcer.stop()


def states(lab: Lab) -> dict[str, str]:
    """What each speaker writes of itself: whether it has understood its configuration. Waits until both have."""
    end = time.monotonic() + READY
    while True:
        found = {one["metadata"]["name"]: one.get("status") or {} for one in lab.kube.list(STATES, NAMESPACE)}
        told = {name: one["conditions"][0]["status"] for name, one in found.items() if one.get("conditions")}
        if len(told) == len(lab.nodes) or time.monotonic() > end:
            return told
        time.sleep(0.05)


def test_speakers_are_up_and_accept_what_they_are_told(metallb: tuple[Lab, MetalLB]) -> None:
    lab, announcer = metallb

    announcer.check()

    assert announcer.running == {"node-a", "node-b"}
    assert "announcer" in lab.abilities
    assert [one["spec"]["addresses"] for one in lab.kube.list(POOLS, NAMESPACE)] == [list(lab.announced_cidrs)]
    assert len(lab.kube.list(ADVERTISEMENTS, NAMESPACE)) == 1
    pods = {one["metadata"]["name"]: one["status"]["podIP"] for one in lab.kube.list(PODS, NAMESPACE)}
    assert pods == {pod_name(place.name): place.ipv4 for place in lab.places}
    assert states(lab) == dict.fromkeys(pods, "True")


def test_one_that_was_killed_is_gone_until_it_is_started_again(metallb: tuple[Lab, MetalLB]) -> None:
    lab, announcer = metallb

    announcer.kill("node-b")

    announcer.check()
    assert announcer.running == {"node-a"}
    with pytest.raises(PlumblineError, match=f"port {HEALTH_PORT}|refused"):
        lab.http_get("node-b", HEALTH_PORT, "/readyz")

    announcer.start_again("node-b")

    assert announcer.running == {"node-a", "node-b"}
    assert lab.http_get("node-b", HEALTH_PORT, "/readyz")[0] == 200


def test_one_that_dies_by_itself_is_trouble(metallb: tuple[Lab, MetalLB]) -> None:
    lab, announcer = metallb
    pid = announcer.pids["node-a"]
    lab.supervisor.signal(pid, signal.SIGKILL)
    lab.supervisor.await_exit(pid, READY)

    with pytest.raises(ProxyError, match="metallb-speaker on node-a has ended; its log ends:"):
        announcer.check()


def test_an_ordinary_user_has_it_too(speaker: Binary) -> None:
    with ordinary_user() as user:
        options = ("--proxy-mode=nftables", "--announcer=metallb", f"--announcer-binary={speaker.path}")
        done = user.pytest(*options, "conformance/announcer", "-k", "test_one_node_answers")
        if done.returncode == CANNOT:
            pytest.skip(f"unfit: nobody else can be let into this clone: {done.stderr.strip()}")
        assert done.returncode == 0, done.stdout + done.stderr
        lines = (user.directory / "report" / "requirements.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["outcome"] for line in lines] == ["pass"]
        assert f"with MetalLB's speaker {speaker.version}" in done.stdout
