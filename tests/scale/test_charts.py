# SPDX-License-Identifier: Apache-2.0
"""A small real run of charts that tell endpoints apart, against the reference."""

from pathlib import Path

from plugins.scale.programming import CHANGES
from tests.scale.test_run import needs_bpf, needs_root, run, written


@needs_root
@needs_bpf
def test_endpoints_are_told_apart(tmp_path: Path) -> None:
    charts = "correctness or fairness or maglev or programming"
    done = run(tmp_path, "--proxy-mode=ebpf", "--services=1,20", "--duration=100ms", "-k", charts)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stdout
    cells = written(tmp_path).cells
    assert {cell.median for cell in cells if cell.chart == "correctness"} == {0}
    assert {cell.failures for cell in cells if cell.chart == "control"} == {0}
    moved = [cell.median for cell in cells if cell.series.startswith("moved, 10 endpoints")]
    assert 0 < moved[0] < 0.06 < moved[1], "what moves with Maglev, and what a remainder would have moved"
    programming = [cell for cell in cells if cell.chart == "programming" and cell.series.endswith("p50")]
    assert len(programming) == 4
    for cell in programming:
        assert cell.is_measured
        assert 0 < cell.median < 10
        assert cell.note.startswith(f"{CHANGES // 2} waits: ")
