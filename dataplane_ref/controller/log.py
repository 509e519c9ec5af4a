# SPDX-License-Identifier: Apache-2.0
"""One line per event of interest, on standard error; `logging` would cost each start 10 ms that nothing needs."""

import sys
import time


def say(sentence: str) -> None:
    """Write one line: the time of day (UTC) and a sentence."""
    now = time.time()
    stamp = time.strftime("%H:%M:%S", time.gmtime(now))
    sys.stderr.write(f"{stamp}.{int(now % 1 * 1000):03} {sentence}\n")
    sys.stderr.flush()
