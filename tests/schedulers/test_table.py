# SPDX-License-Identifier: Apache-2.0
"""The schedulers' table says what was recorded, and when nothing was."""

import json
from pathlib import Path

from tests.schedulers.table import judged, page


def record(name: str, outcome: str, *checks: tuple[str, int, float, str]) -> str:
    keys = ("model", "flows", "chance", "notices")
    listed = [dict(zip(keys, check, strict=True)) for check in checks]
    return json.dumps({"id": name, "outcome": outcome, "checks": listed})


def test_the_least_chance_stands_for_all(tmp_path: Path) -> None:
    records = tmp_path / "requirements.jsonl"
    turns = record("distribution.rr.turns", "fail", ("turns", 24, 1.0, "random"), ("turns", 24, 0.0, "anything"))
    records.write_text(f"{turns}\n{record('distribution.lc.fewest', 'unsupported')}\n", encoding="utf-8")

    rows = judged("rr", records)

    assert [row.line() for row in rows] == [
        "| `rr` | turns | `distribution.rr.turns` | 48 | 0 | fail | anything |",
    ]
    assert page(rows).endswith(f"{rows[0].line()}\n")
    assert "\n\nOn a slow day.\n\n| scheduler |" in page(rows, "On a slow day.")


def test_a_chance_is_shown(tmp_path: Path) -> None:
    records = tmp_path / "requirements.jsonl"
    records.write_text(record("distribution.maglev.even", "pass", ("even shares", 1358, 0.04321, "half")), "utf-8")
    (row,) = judged("mh", records)
    assert row.line() == "| `mh` | even shares | `distribution.maglev.even` | 1358 | 0.0432 | pass | half |"


def test_a_run_that_judged_nothing_is_seen(tmp_path: Path) -> None:
    (row,) = judged("fo", tmp_path / "absent.jsonl")
    assert (row.scheduler, row.verdict) == ("fo", "not judged")
    assert row.line() == "| `fo` | – | `none` | 0 | – | not judged | – |"
