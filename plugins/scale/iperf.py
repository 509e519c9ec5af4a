# SPDX-License-Identifier: Apache-2.0
"""iperf3, as users run it: one long flow, by what the receiver has counted."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clusters.measure.traffic import PORT, Target, TrafficError, inside, running
from plugins.world import UnfitError

BYTES = "256M"
DEADLINE = 60.0
MISSING = "iperf3 is not installed here: sudo apt-get install iperf3"


def program() -> str:
    """Raises UnfitError where it is not installed."""
    found = shutil.which("iperf3")
    if found is None:
        raise UnfitError(MISSING)
    return found


@contextmanager
def server(namespace: Path, cpu: int, port: int = PORT) -> Iterator[None]:
    """One at all addresses of a namespace, on one CPU, for one flow: it does not outlive every mishap of one."""
    command = ["taskset", "-c", str(cpu), program(), "-s", "-1", "-p", str(port), "--forceflush"]
    with running(inside(namespace, command)) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "listening" in line:
                break
        else:
            raise TrafficError("iperf3 could not listen")
        yield


def bits_per_second(namespace: Path, cpu: int, target: Target, amount: str = BYTES) -> float:
    """What arrived of one flow of so many bytes. Raises TrafficError."""
    address, port = target
    command = ["taskset", "-c", str(cpu), program(), "-c", address, "-p", str(port), "-n", amount, "-J"]
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            inside(namespace, command), capture_output=True, text=True, check=False, timeout=DEADLINE, env=environment
        )
    except subprocess.TimeoutExpired:
        raise TrafficError(f"iperf3 to {address} did not end within {DEADLINE:g} s") from None
    return received(done.stdout, address)


def received(report: str, address: str) -> float:
    """Bits per second of a report (`-J`), by the receiver's count. Raises TrafficError."""
    try:
        told = json.loads(report)
    except ValueError:
        raise TrafficError(f"iperf3 to {address} said nothing") from None
    try:
        return float(told["end"]["sum_received"]["bits_per_second"])
    except (KeyError, TypeError):
        raise TrafficError(f"iperf3 to {address} came to nothing: {told.get('error', 'no flow')}") from None
