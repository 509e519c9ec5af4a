# SPDX-License-Identifier: Apache-2.0
"""A real lab, for the tests that need one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters import host
from clusters.errors import UsageError
from clusters.lab.provider import Lab


@pytest.fixture(scope="session")
def machine() -> None:
    """A machine on which a lab can run."""
    try:
        host.check("iptables")
    except UsageError as error:
        pytest.skip(f"unfit: {error}")


@pytest.fixture
def lab(machine: None, tmp_path: Path) -> Iterator[Lab]:  # noqa: ARG001
    """A lab of two nodes without a proxy."""
    with Lab(nodes=2, pods_per_node=4, log_directory=tmp_path / "logs") as lab:
        yield lab
