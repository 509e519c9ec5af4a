# SPDX-License-Identifier: Apache-2.0
"""A guest of an ordinary user: root inside, and nothing more than that user outside."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from clusters.hermetic import finding
from clusters.hermetic.finding import Uml
from clusters.hermetic.watchdog import NAMESPACES
from tests.lab.ordinary import CANNOT, ROOT, Ordinary, ordinary_user

SCRIPT = """
set -e
[ "$(id -u)" = 0 ]
ip link add plumbline0 type dummy
ip link add plumbline1 type veth
ip netns add plumbline
modprobe ip_vs
test -e /proc/net/ip_vs
iptables -t nat -A POSTROUTING -j MASQUERADE
! cat /etc/shadow
"""


@pytest.fixture(scope="module")
def ordinary() -> Iterator[Ordinary]:
    with ordinary_user() as user:
        yield user


@pytest.mark.parametrize("namespaces", ["yes", "no"])
def test_root_inside(ordinary: Ordinary, uml: Uml, namespaces: str) -> None:
    """With and without user namespaces, which some systems forbid."""
    environ = {
        **os.environ,
        "HOME": str(ordinary.directory),
        finding.VARIABLE: str(uml.binary),
        NAMESPACES: namespaces,
    }
    done = subprocess.run(
        [*ordinary.prefix, sys.executable, "-m", "clusters.hermetic", "--", "sh", "-c", SCRIPT],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120.0,
    )
    if done.returncode == CANNOT:
        pytest.skip(f"unfit: no ordinary user can be had here: {done.stderr}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Permission denied" in done.stdout
