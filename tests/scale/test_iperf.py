# SPDX-License-Identifier: Apache-2.0
"""iperf3's reports: what the receiver counted, or its own words for what went wrong."""

import json

import pytest

from clusters.measure.traffic import TrafficError
from plugins.scale import iperf
from plugins.scale.iperf import program, received
from plugins.world import UnfitError


def test_the_receiver_s_count_is_what_counts() -> None:
    end = {"sum_sent": {"bits_per_second": 2e10}, "sum_received": {"bits_per_second": 1.3e10}}
    assert received(json.dumps({"end": end}), "10.96.4.0") == 1.3e10


@pytest.mark.parametrize(
    ("report", "told"),
    [
        ("", "iperf3 to 10.96.4.0 said nothing"),
        ("{", "said nothing"),
        (json.dumps({"end": {}, "error": "unable to connect to server"}), "nothing: unable to connect to server"),
        (json.dumps({"end": {"sum_received": None}}), "came to nothing: no flow"),
    ],
)
def test_what_went_wrong_is_said(report: str, told: str) -> None:
    with pytest.raises(TrafficError, match=told):
        received(report, "10.96.4.0")


def test_a_machine_without_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(UnfitError, match="sudo apt-get install iperf3"):
        program()
    assert "iperf3" in iperf.MISSING
