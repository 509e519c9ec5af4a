# SPDX-License-Identifier: Apache-2.0
"""How soon a lab is there, and how long the core level takes in it."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.rows import Row
from clusters import binaries
from clusters.errors import PlumblineError
from clusters.lab.provider import Lab
from clusters.proxies.kube_proxy import KubeProxy, Mode
from plugins.settle import Deadlines, Settler

ROOT = Path(__file__).resolve().parents[1]
RUNS = 5
MODES: tuple[Mode, ...] = ("iptables", "nftables")
PHASES = re.compile(r"^time: cluster ([\d.]+) s, proxy ([\d.]+) s, settle ([\d.]+) s, tests ([\d.]+) s", re.MULTILINE)


@contextmanager
def lab_of(nodes: int, pods_per_node: int) -> Iterator[tuple[Lab, float]]:
    """A lab, and after how many seconds it was there."""
    with tempfile.TemporaryDirectory() as logs:
        started = time.perf_counter()
        with Lab(nodes=nodes, pods_per_node=pods_per_node, log_directory=Path(logs)) as lab:
            yield lab, time.perf_counter() - started


def with_kube_proxy(lab: Lab, mode: Mode, stack: ExitStack) -> Settler:
    """kube-proxy on every node, up and answering for the sentinel."""
    found = binaries.find("kube-proxy")
    proxy = KubeProxy(lab, binary=found.path, version=found.version, mode=mode)
    settler = Settler(lab, proxy, Deadlines())
    settler.create_sentinel()
    stack.callback(proxy.stop)
    proxy.start()
    if not settler.ready(60.0).done:
        raise PlumblineError(f"kube-proxy in mode {mode} did not become ready within 60 s")
    return settler


def small_labs() -> Sequence[Row]:
    """Three nodes with twelve pods, without a proxy and with kube-proxy synced."""
    empty, synced = [], {mode: list[float]() for mode in MODES}
    for _ in range(RUNS):
        with lab_of(3, 4) as (_, seconds):
            empty.append(seconds)
        for mode in MODES:
            started = time.perf_counter()
            with ExitStack() as stack:
                lab, _ = stack.enter_context(lab_of(3, 4))
                with_kube_proxy(lab, mode, stack)
                synced[mode].append(time.perf_counter() - started)
    rows = [Row("lab of 3 nodes and 12 pods ready, no proxy", "s", empty, 1.0)]
    rows += [Row(f"the same with kube-proxy synced, {mode}", "s", synced[mode], 2.0) for mode in MODES]
    return rows


def large_lab() -> Sequence[Row]:
    """A hundred nodes with a thousand pods."""
    ready, network = [], []
    for _ in range(3):
        with lab_of(100, 10) as (lab, seconds):
            ready.append(seconds)
            network.append(lab.timings["network"])
    note = f"of which the network {sorted(network)[1]:.1f} s"
    return [Row("lab of 100 nodes and 1,000 pods ready, no proxy", "s", ready, 10.0, note=note)]


def core_level() -> Sequence[Row]:
    """The core level in each mode, without set-up."""
    rows = []
    for mode in MODES:
        with tempfile.TemporaryDirectory() as report:
            command = ["-m", "pytest", f"--proxy-mode={mode}", "--level=core", f"--report={report}"]
            plain = ["-p", "no:cacheprovider"]
            done = subprocess.run(
                [sys.executable, *command, *plain], cwd=ROOT, capture_output=True, text=True, check=False
            )
        phases = PHASES.search(done.stdout)
        if done.returncode != 0 or phases is None:
            raise PlumblineError(f"the core level in mode {mode} ended with status {done.returncode}:\n{done.stdout}")
        settle, tests = float(phases[3]), float(phases[4])
        counted = next(line for line in done.stdout.splitlines() if line.startswith("core level: "))
        note = f"settling {settle:.1f} s; {counted.removeprefix('core level: ')}"
        rows.append(Row(f"core level, {mode}, after set-up", "s", [settle + tests], 45.0, note=note))
    return rows
