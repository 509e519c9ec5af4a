# SPDX-License-Identifier: Apache-2.0
"""Programming latency: from the write, as far as it came in time, and only where the proxy can be told to wait."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from clusters.measure.whom import Came
from clusters.proxies.configuration import ProxyConfiguration
from plugins.scale.bench import Bench, Start
from plugins.scale.programming import PERIODS, dialled_every, must_be_restartable, programmed
from plugins.scale.starts import TooLongError
from plugins.scale.waits import Waits
from plugins.world import UnfitError
from tests.scale.fake_bench import fake_bench


def bench_with(mode: str, *, services: int = 10_000, refusal: str | None = None) -> Bench:
    def refuses(wanted: ProxyConfiguration) -> str | None:
        assert wanted == PERIODS
        return refusal

    bench, _ = fake_bench(services)
    bench.run = SimpleNamespace(proxy=SimpleNamespace(mode=mode, refuses=refuses))  # type: ignore[assignment]
    return bench


def test_times_count_from_the_write() -> None:
    came = [Came(True, 12.5, 9, 1), Came(True, 9.5, 40, 0), Came(False, 0.0, 0, 2)]
    found = programmed(came, [12.0, 10.0, 11.0], [12.001, 10.002, 11.003], 15.0, 0.05)
    assert found.seen == Waits((0.5, 0.05), 1, 15.0), "sooner than it is dialled nobody can be seen to be gone"
    assert dialled_every(came, [12.0, 10.0, 11.0]) == 0.05
    assert dialled_every(came[1:], [10.0, 11.0]) == 0.0
    assert found.told.censored == 0
    assert found.told.percentile(0.5) == pytest.approx(0.002)
    assert found.failures == 3


def test_a_proxy_that_cannot_be_told_is_unfit() -> None:
    with pytest.raises(UnfitError, match=r"from here: \{syncPeriod: 30s, minSyncPeriod: 1s\}"):
        must_be_restartable(bench_with("command", refusal="the proxy's configuration cannot be set from here"))


def test_two_starts_that_would_take_minutes_are_left_out() -> None:
    bench = bench_with("iptables")
    must_be_restartable(bench)
    bench.started[5_000] = Start(2.0, 1.0)
    must_be_restartable(bench)
    bench.started[5_000] = Start(3.0, 1.0)
    with pytest.raises(TooLongError, match="room for it, and with --proxy-sync=default no start is needed"):
        must_be_restartable(bench)


def test_who_puts_off_changes_anyway_is_not_started_anew() -> None:
    for bench in (bench_with("ebpf", refusal="no"), bench_with("iptables", refusal="no")):
        bench.started[5_000] = Start(100.0, 1.0)
        if bench.run.proxy.mode != "ebpf":
            bench.settings = replace(bench.settings, sync="default")
        must_be_restartable(bench)
