# SPDX-License-Identifier: Apache-2.0
"""Progress: one line that changes on a terminal, a line now and then elsewhere."""

from plugins.load.progress import Lines, Moment, OneLine

MOMENT = Moment(16, 4321, 2, 7.4)


def test_a_moment_in_words() -> None:
    assert str(MOMENT) == "16 users, 4,321 requests, 2 failed, 7 s left"
    assert str(Moment(1, 0, 0, -3.0)).endswith(" 3 s over its time")


def test_lines_come_now_and_then() -> None:
    now, written = [0.0], list[str]()
    lines = Lines(written.append, lambda: now[0])
    for now[0] in (0.0, 0.5, 4.9, 5.0, 9.9, 10.0):
        lines.show("drain", MOMENT)
    assert written == [f"drain: {MOMENT}"] * 3


def test_the_next_scenario_begins_with_a_line() -> None:
    written = list[str]()
    lines = Lines(written.append, lambda: 0.0)
    lines.show("drain", MOMENT)
    lines.over()
    lines.show("churn", MOMENT)
    assert [line.partition(":")[0] for line in written] == ["drain", "churn"]


def test_a_terminals_line_is_written_anew_and_taken_back() -> None:
    written = list[str]()
    line = OneLine(written.append, width=20)
    line.show("drain", MOMENT)
    line.over()
    line.over()
    assert written == ["\r\x1b[Kdrain: 16 users, 4,", "\r\x1b[K"]
