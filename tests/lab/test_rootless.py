# SPDX-License-Identifier: Apache-2.0
"""The lab of an ordinary user: the same answers, in a user namespace, without a privilege anywhere."""

import json
from collections.abc import Iterator

import pytest

from clusters.binaries import Binary
from tests.lab.ordinary import CANNOT, Ordinary, ordinary_user


@pytest.fixture
def ordinary() -> Iterator[Ordinary]:
    with ordinary_user() as user:
        yield user


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_an_ordinary_user_gets_a_lab_and_an_answer(ordinary: Ordinary, kube_proxy: Binary, mode: str) -> None:
    done = ordinary.pytest(f"--proxy-mode={mode}", f"--proxy-binary={kube_proxy.path}", "-k", "hairpin")
    if done.returncode == CANNOT:
        pytest.skip(f"unfit: nobody else can be let into this clone: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rootless lab of 3 nodes" in done.stdout
    lines = (ordinary.directory / "report" / "requirements.jsonl").read_text(encoding="utf-8").splitlines()
    outcomes = [json.loads(line)["outcome"] for line in lines]
    assert outcomes
    assert set(outcomes) == {"pass"}
    assert "\noracle: not asked: BPF needs root\n" in done.stdout


def test_an_ordinary_user_is_told_that_the_reference_needs_root(ordinary: Ordinary) -> None:
    done = ordinary.pytest("--proxy-mode=ebpf", "-k", "hairpin")
    if done.returncode == CANNOT:
        pytest.skip(f"unfit: nobody else can be let into this clone: {done.stderr.strip()}")
    assert done.returncode == 4
    assert done.stderr == (
        "ERROR: The reference datapath loads BPF, which needs root: run the same command with sudo.\n\n"
    )
