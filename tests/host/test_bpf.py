# SPDX-License-Identifier: Apache-2.0
"""Whether BPF can be loaded, tried on this kernel: what works, and what is said of that which does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from clusters import bpf
from tests.host.conftest import TOP, is_root

needs_bpf = pytest.mark.skipif(
    not is_root() or bpf.refused(0) is not None, reason="unfit: needs root, and a kernel with BPF"
)


def tried(*trials: str, prelude: str = "pass") -> "subprocess.CompletedProcess[str]":
    """The trials in a process of their own, since one of them leaves its network namespace."""
    program = f"import sys; from clusters import bpf; {prelude}; sys.exit(bpf.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", program, *trials], cwd=TOP, capture_output=True, text=True, check=False
    )


def test_an_ordinary_user_may_not() -> None:
    assert bpf.refused(1000) == "BPF needs root"


@needs_bpf
@pytest.mark.parametrize("trial", list(bpf.TRIALS))
def test_every_trial_succeeds_here_and_says_nothing(trial: str) -> None:
    if trial == "syscall" and tried(trial).returncode != 0:
        pytest.skip("unfit: needs Linux 5.14")
    done = tried(trial)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_bpf
def test_where_there_are_no_links_at_interfaces_a_filter_does() -> None:
    done = tried("attach", prelude="bpf.LINK_CREATE = 999")
    assert (done.returncode, done.stderr) == (0, "")


@needs_bpf
def test_what_the_kernel_refuses_is_one_line() -> None:
    done = tried("maps", prelude="bpf.LPM_TRIE = 9999")
    assert done.returncode == 1
    assert done.stderr == "[Errno 22] longest-prefix map: Invalid argument\n"


@needs_bpf
def test_nothing_stays_at_this_machines_interfaces() -> None:
    before = Path("/proc/self/ns/net").readlink()
    assert tried("attach").returncode == 0
    assert Path("/proc/self/ns/net").readlink() == before
    shown = subprocess.run(
        ["tc", "filter", "show", "dev", "lo", "ingress"], capture_output=True, text=True, check=False
    )
    assert shown.stdout == ""
