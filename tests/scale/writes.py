# SPDX-License-Identifier: Apache-2.0
"""Stands for what measures: with `-p tests.scale.writes --writes=FILE` a run's scale.json is a copy of that file."""

import shutil
from pathlib import Path

import pytest

from plugins.session import SETTINGS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--writes", metavar="FILE")


def pytest_sessionfinish(session: pytest.Session) -> None:
    file, settings = session.config.option.writes, session.config.stash.get(SETTINGS, None)
    if file and settings is not None:
        shutil.copy(file, Path(settings.report) / "scale.json")
