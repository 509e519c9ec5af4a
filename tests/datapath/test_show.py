# SPDX-License-Identifier: Apache-2.0
"""The maps in words; what a real node's look like is in tests/lab/test_reference.py."""

from pathlib import Path

import pytest

from dataplane_ref.show import address, ends, joined, main, prefix

IPV4, IPV6 = bytes(10) + b"\xff\xff\x0a\xf4\x00\x02", bytes.fromhex("fd00001002440000") + bytes(7) + b"\2"


def test_addresses_are_those_that_people_write() -> None:
    assert address(IPV4) == "10.244.0.2"
    assert address({"words": IPV6}) == "fd00:10:244::2"
    assert (joined("10.244.0.2", 80), joined("fd00::2", 80)) == ("10.244.0.2:80", "[fd00::2]:80")


def test_a_range_has_its_own_familys_length() -> None:
    assert prefix(bytes(10) + b"\xff\xff\x0a\xf4\x00\x00", 96 + 16) == "10.244.0.0/16"
    assert prefix(bytes.fromhex("fd000010024400000000000000000000"), 48) == "fd00:10:244::/48"
    assert prefix(bytes(16), 0) == "::/0"


def test_a_flow_has_two_ends() -> None:
    flow = {"source": IPV4, "source_port": 40000, "destination": {"words": IPV4}, "destination_port": 80}
    assert ends(flow) == "10.244.0.2:40000 → 10.244.0.2:80"


def test_where_nothing_is_pinned_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--pins={tmp_path}"]) == 1
    assert (
        capsys.readouterr().err == f"plumbline: nothing of the datapath is pinned at {tmp_path}: it has no config\n"
    )


def test_what_is_no_pin_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config").touch()
    assert main([f"--pins={tmp_path}"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"plumbline: {tmp_path / 'config'} cannot be read: ")
    assert said.count("\n") == 1
