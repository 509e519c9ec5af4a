# SPDX-License-Identifier: Apache-2.0
"""What the table of `make soak` makes of runs."""

from collections import Counter

from tests.soak.__main__ import Result, table

PHASES = {"cluster": 1.0, "proxy": 2.0, "settle": 3.0, "tests": 4.0}


def test_runs_without_a_surprise() -> None:
    runs = [Result(0, Counter({"pass": 9, "unsupported": 1}), (), PHASES, seconds) for seconds in (10.0, 30.0, 11.0)]
    lines = table({"ebpf": runs}).splitlines()
    assert lines[0].split() == [
        "mode",
        "runs",
        "tests",
        "unexpected",
        "cluster",
        "proxy",
        "settle",
        "tests",
        "in",
        "all",
    ]
    assert " ".join(lines[1].split()) == "ebpf 3 30 0 1.0 s 2.0 s 3.0 s 4.0 s 11.0 s"
    assert len(lines) == 2


def test_every_surprise_is_named_with_how_often_it_came() -> None:
    good = Result(0, Counter({"pass": 2}), (), PHASES)
    bad = Result(1, Counter({"pass": 1, "fail": 1}), ("conformance/x.py::test_x=fail",), PHASES)
    died = Result(3, Counter(), (), {})
    lines = table({"iptables": [good, bad, bad], "nftables": [good, died]}).splitlines()
    assert lines[1].split()[:4] == ["iptables", "3", "6", "2"]
    assert lines[2].split()[:4] == ["nftables", "2", "2", "1"]
    assert lines[3:] == [
        "iptables: 2 × conformance/x.py::test_x=fail",
        "nftables: 1 × exit status without an unexpected result",
    ]
