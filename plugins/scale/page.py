# SPDX-License-Identifier: Apache-2.0
"""The page of a run, `scale.html`."""

from collections.abc import Sequence
from pathlib import Path

from plugins.scale.cells import Scale


def write(scales: Sequence[Scale], path: Path) -> None:
    """Draw one page of one run or several."""
