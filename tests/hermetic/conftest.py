# SPDX-License-Identifier: Apache-2.0
"""Whole runs of pytest, as in tests/plugin; and a guest where User-Mode Linux is at hand."""

import os
from collections.abc import Iterator

import pytest

from clusters.errors import UsageError
from clusters.hermetic import finding
from clusters.hermetic.finding import Uml
from clusters.hermetic.guest import Guest
from tests.plugin.conftest import _ahead, finished, runner

__all__ = ["_ahead", "finished", "runner"]


@pytest.fixture(scope="session")
def uml() -> Uml:
    """The kernel that is here without being fetched."""

    try:
        return finding.find(fetch=False)
    except UsageError as error:
        pytest.skip(f"unfit: {error}")


@pytest.fixture(scope="module")
def guest(uml: Uml) -> Iterator[Guest]:
    with Guest(uml, watched_pids=[os.getppid()]) as booted:
        yield booted
