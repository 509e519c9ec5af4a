# SPDX-License-Identifier: Apache-2.0
"""Requirements about announcers notice an announcer that does one thing wrong, and nothing else in one that does not.

Each case is a run with a real lab and a real kube-proxy, of just those requirements that it is about.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from clusters import binaries
from tests.announcer.announcer import LIES

REPOSITORY = Path(__file__).resolve().parents[2]
# What each lie must be caught by. What is only recorded catches nothing.
CAUGHT: Mapping[str, tuple[str, ...]] = {
    "everyone-answers": ("announcer.layer2.one-node-answers", "announcer.local.keeps-the-source"),
    "elects-by-service": ("announcer.layer2.shared-ip-has-one-node",),
    "ignores-endpoints": ("announcer.endpoints.none-no-answer", "announcer.local.only-nodes-with-endpoints"),
    "never-withdraws": ("announcer.layer2.deleted-service-is-silent", "announcer.local.shared-ip-follows-endpoints"),
    "only-ready": ("announcer.endpoints.conditions",),
    "any-class": ("announcer.layer2.other-classes-are-left-alone",),
    "ignores-exclusion": ("announcer.layer2.excluded-node-is-silent",),
    "fails-over-never": ("announcer.failover.comes-back",),
    "says-nothing-unasked": ("announcer.failover.another-node-takes-over",),
}
TESTS = {
    "announcer.layer2.one-node-answers": "test_layer2.py::test_one_node_answers",
    "announcer.layer2.shared-ip-has-one-node": "test_layer2.py::test_shared_ip_has_one_node",
    "announcer.layer2.deleted-service-is-silent": "test_layer2.py::test_deleted_service",
    "announcer.layer2.other-classes-are-left-alone": "test_layer2.py::test_other_classes",
    "announcer.layer2.excluded-node-is-silent": "test_layer2.py::test_excluded_node",
    "announcer.endpoints.none-no-answer": "test_layer2.py::test_without_endpoints",
    "announcer.endpoints.conditions": "test_local.py::test_conditions",
    "announcer.local.only-nodes-with-endpoints": "test_local.py::test_local_follows_endpoints",
    "announcer.local.shared-ip-follows-endpoints": "test_local.py::test_shared_local_follows_endpoints",
    "announcer.local.keeps-the-source": "test_local.py::test_local_keeps_the_source",
    "announcer.failover.another-node-takes-over": "test_failover.py::test_another_node_takes_over",
    "announcer.failover.comes-back": "test_failover.py::test_comes_back",
}


def outcomes(report: Path, requirements: tuple[str, ...], *options: str) -> dict[str, str]:
    """How these requirements were judged, of our own announcer."""
    if os.geteuid() != 0 or binaries.at_hand("kube-proxy") is None:
        pytest.skip("unfit: needs root, and a kube-proxy that is at hand")
    tests = [f"conformance/announcer/{TESTS[name]}" for name in requirements]
    command = [sys.executable, "-m", "pytest", "-p", "tests.announcer.plugin", *tests, "--proxy-mode=nftables"]
    command += [*options, f"--report={report}", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    lines = (report / "requirements.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["id"]: record["outcome"] for record in map(json.loads, lines)}


def test_every_lie_is_to_be_caught_and_every_requirement_to_catch_one() -> None:
    assert set(CAUGHT) == set(LIES)
    assert {name for caught in CAUGHT.values() for name in caught} == set(TESTS)


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_caught(lie: str, tmp_path: Path) -> None:
    # What never comes to be as it must is waited for in vain.
    found = outcomes(tmp_path, CAUGHT[lie], f"--tell={lie}", "--deadline-scale=0.5")
    assert found == dict.fromkeys(CAUGHT[lie], "fail")


def test_an_announcer_that_does_what_is_required_passes(tmp_path: Path) -> None:
    assert outcomes(tmp_path, tuple(TESTS)) == dict.fromkeys(TESTS, "pass")
