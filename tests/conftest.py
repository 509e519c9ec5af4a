# SPDX-License-Identifier: Apache-2.0
"""What tests of every directory need: the mark of those that judge a run of pytest (tests/plugin/runs.py)."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "plumbline_run(command): the run of pytest that a test judges")
