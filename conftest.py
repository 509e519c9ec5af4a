# SPDX-License-Identifier: Apache-2.0
"""Loads plumbline's plugins; see docs/architecture.md for what each does."""

pytest_plugins = [
    "plugins.session",
    "plugins.selection",
    "plugins.scheduling",
    "plugins.judging",
    "plugins.report",
    "plugins.lab",
    "plugins.hermetic",
    "plugins.look",
    "plugins.fixtures",
    "plugins.scale.session",
    "plugins.load.session",
]
