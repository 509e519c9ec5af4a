# SPDX-License-Identifier: Apache-2.0
"""Labs for the tests of the lab: real namespaces and a real kube-proxy, as root or in a user namespace."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters import binaries, host
from clusters.binaries import Binary
from clusters.errors import UsageError
from clusters.host import HostReport
from clusters.lab.provider import Lab


@pytest.fixture(scope="session", autouse=True)
def machine() -> HostReport:
    """What this machine is, if a lab can run on it."""
    try:
        return host.check("iptables")
    except UsageError as error:
        pytest.skip(f"unfit: {error}")


@pytest.fixture(scope="session")
def kube_proxy() -> Binary:
    """The real kube-proxy, found as users' runs find it."""
    return binaries.find("kube-proxy")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab of two nodes without a proxy."""
    with Lab(nodes=2, pods_per_node=4, log_directory=tmp_path / "logs") as lab:
        yield lab
