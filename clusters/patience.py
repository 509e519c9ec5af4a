# SPDX-License-Identifier: Apache-2.0
"""How much longer everything may take in a guest than on the machine itself: one slow processor for a whole lab."""

import os
from collections.abc import Mapping

# Set for every program in a guest: the console on which it can speak (see `clusters/hermetic/init.py`).
GUEST = "PLUMBLINE_GUEST"
SLOWER = 4.0


def patient(seconds: float, environ: Mapping[str, str] = os.environ) -> float:
    """A deadline that fits where this process runs."""
    return seconds * SLOWER if GUEST in environ else seconds
