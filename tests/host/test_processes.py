# SPDX-License-Identifier: Apache-2.0
"""A process's children, on kernels that tell them and on those that have to be searched."""

import os
import subprocess
from pathlib import Path

from clusters.processes import children


def test_a_child_is_found_and_then_gone() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        assert child.pid in children(os.getpid())
        child.kill()
        child.wait()
    assert child.pid not in children(os.getpid())


def test_a_kernel_that_does_not_tell_is_searched(tmp_path: Path) -> None:
    for pid, name, parent in ((10, "a", 1), (11, "b) (c", 10), (12, "d", 10), (13, "e", 11)):
        (tmp_path / str(pid) / "task" / str(pid)).mkdir(parents=True)
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} 1 1 0")
    (tmp_path / "self").mkdir()
    assert sorted(children(10, tmp_path)) == [11, 12]
    assert children(99, tmp_path) == []
