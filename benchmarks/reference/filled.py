# SPDX-License-Identifier: Apache-2.0
"""A lab node with the reference datapath and any number of Services, which no API server has to hold."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clusters.errors import PlumblineError
from clusters.measure import services as named
from clusters.measure.stage import Stage
from clusters.measure.traffic import PORT, Target, inside

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Fill:
    """What filling took: seconds, those of CPU, those of map updates alone; entries written, and sizes in bytes."""

    seconds: float
    cpu: float
    limit: float
    written: int
    bytes: int
    rss: int


def vips(count: int, most: int = 1000) -> list[Target]:
    """Of so many Services at most so many, spread over all of them."""
    return [named.target(number) for number in range(0, count, max(count // most, 1))]


@contextmanager
def filled(
    stage: Stage,
    name: str,
    services: int,
    endpoints: Sequence[str],
    each: int,
) -> Iterator[Fill]:
    """The datapath on a node, with `each` of the endpoints' addresses for each Service. Raises PlumblineError."""
    node = stage.node(name)
    command = [sys.executable, "-P", "-m", "benchmarks.reference.node", f"--node={name}"]
    command += [f"--addresses={','.join(node.addresses.values())}", f"--pod-cidrs={','.join(node.pod_cidrs)}"]
    command += [f"--cluster-cidr={','.join(stage.lab.cluster_cidrs)}", f"--services={services}", f"--each={each}"]
    command += [f"--target-port={PORT}"]
    with subprocess.Popen(
        inside(stage.namespace(name), command),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(list(endpoints)) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise PlumblineError(f"the reference datapath could not be filled on {name}")
            yield Fill(**json.loads(line))
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
