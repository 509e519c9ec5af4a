# SPDX-License-Identifier: Apache-2.0
"""The line format between probes and backends."""

import pytest

from clusters.agent.wire import answer_line, parse_answer, parse_request, request_line


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 10, 11, 100, 60000])
def test_a_request_has_at_least_its_size_and_reads_back(size: int) -> None:
    line = request_line("tok", 5, size)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) == max(size, len(b"?tok 5\n"))
    assert parse_request(line) == ("tok", 5)


def test_an_answer_reads_back() -> None:
    line = answer_line("tok", "web fd00::1 4000 fd00::2 80", 3, 17, padding=100)
    answer = parse_answer(line)
    assert answer == ("tok", "web", "fd00::1", 4000, "fd00::2", 80, 3, 17)
    assert len(line) > 100


def test_an_answer_fits_its_limit() -> None:
    assert len(answer_line("tok", "web 1.2.3.4 1 1.2.3.4 2", 0, 9, padding=10**6, limit=65507)) == 65507


@pytest.mark.parametrize("line", [b"", b"\n", b"!a b\n", b"?", b"? \n", b"GET / HTTP/1.1\r\n", b"\xff\n"])
def test_what_is_no_request_is_none(line: bytes) -> None:
    assert parse_request(line) is None


@pytest.mark.parametrize("line", [b"", b"?t 0\n", b"!\n", b"!t b c d e f g h\n", b"!t b c 1 e 2 3\n", b"!\xff\n"])
def test_what_is_no_answer_is_none(line: bytes) -> None:
    assert parse_answer(line) is None
