# SPDX-License-Identifier: Apache-2.0
"""A start that would take minutes is left out, and said to be, unless a budget has room for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest

from clusters.proxies.configuration import DEFAULT, ProxyConfiguration
from plugins.options import Settings
from plugins.scale import starts as module
from plugins.scale.bench import Bench, Start
from plugins.scale.starts import AS_SHIPPED, TooLongError, at_as_shipped, expected, grow, starts
from plugins.world import UnfitError
from tests.scale.fake_bench import fake_bench


@dataclass
class FakeBench:
    """As much of a bench as starts look at."""

    services: int = 0
    settings: Settings = field(default_factory=lambda: Settings("kube-proxy", "iptables"))
    started: dict[int, Start] = field(default_factory=dict)
    restarted: dict[int, Start] = field(default_factory=dict)
    done: list[Any] = field(default_factory=list)

    def write(self, first: int, last: int) -> None:
        self.done.append((first, last))

    def settle(self) -> float:
        self.done.append(f"settled at {self.services}")
        return 0.0


def of(bench: FakeBench) -> Any:
    return bench


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What each start takes, in turn."""
    left: list[float] = []
    monkeypatch.setattr(module, "start_anew", lambda *_, **__: Start(left.pop(0), 0.0))
    return left


def test_quick_starts_are_repeated(seconds: list[float]) -> None:
    seconds += [0.6, 0.5]
    bench = FakeBench(1)
    assert [one.seconds for one in starts(of(bench), from_nothing=True)] == [0.6, 0.5]
    assert bench.started == {1: Start(0.5, 0.0)}


def test_slow_ones_are_not(seconds: list[float]) -> None:
    seconds += [9.0, 9.0]
    assert len(starts(of(FakeBench(1)), from_nothing=False)) == 1


def test_what_would_take_minutes_is_not_tried(seconds: list[float]) -> None:
    bench = FakeBench(10_000, started={1: Start(0.5, 0), 5_000: Start(80.0, 0)})
    with pytest.raises(TooLongError, match=r"took 80 s with 5,000 Services, .* --budget=54m has room for it"):
        starts(of(bench), from_nothing=True)
    assert bench.started.keys() == {1, 5_000}
    seconds += [310.0]
    bench.settings = replace(bench.settings, budget=3_240.0)
    assert starts(of(bench), from_nothing=True) == [Start(310.0, 0.0)]


def test_what_a_process_needs_at_all_is_not_multiplied() -> None:
    known = {1: Start(0.5, 0), 1_000: Start(0.7, 0)}
    assert expected(known, 5_000) == pytest.approx(0.5 + 0.2 * 25)
    assert expected({1_000: Start(0.7, 0)}, 2_000) == pytest.approx(2.8)
    assert expected({1: Start(0.5, 0)}, 10_000) == 0
    assert expected({}, 10_000) == 0


def test_few_services_tell_nothing_of_many(seconds: list[float]) -> None:
    seconds += [5.0]
    bench = FakeBench(10_000, started={1: Start(0.5, 0)})
    assert starts(of(bench), from_nothing=True) == [Start(5.0, 0.0)]


def test_a_start_with_rules_in_place_takes_longer_than_one_from_nothing() -> None:
    for bench in (
        FakeBench(10_000, started={10_000: Start(70.0, 0)}),
        FakeBench(10_000, started={10_000: Start(12.0, 0)}, restarted={1: Start(0.5, 0), 5_000: Start(8.0, 0)}),
    ):
        with pytest.raises(TooLongError):
            starts(of(bench), from_nothing=False)


def test_services_are_added_in_steps() -> None:
    bench = FakeBench(6_000)
    grow(of(bench), 1)
    assert bench.done == [
        (1, 2_501),
        "settled at 2501",
        (2_501, 5_001),
        "settled at 5001",
        (5_001, 6_000),
        "settled at 6000",
    ]
    assert bench.services == 6_000


@dataclass
class FakeRun:
    """A proxy that refuses to be configured, or does not, and what it was asked last."""

    mode: str = "iptables"
    refusal: str | None = None
    asked: ProxyConfiguration = DEFAULT

    @property
    def proxy(self) -> "FakeRun":
        return self

    def refuses(self, wanted: ProxyConfiguration) -> str | None:
        assert wanted == AS_SHIPPED
        return self.refusal


def bench_with(run: FakeRun, *started: tuple[int, float]) -> tuple[Bench, list[ProxyConfiguration]]:
    """A bench with 10,000 Services, and the configurations for which its proxy was started."""
    configured: list[ProxyConfiguration] = []
    bench, _ = fake_bench(10_000)
    bench.run = run  # type: ignore[assignment]
    bench.configure = lambda _, wanted: configured.append(wanted)
    bench.started.update({services: Start(seconds, 0.0) for services, seconds in started})
    return bench, configured


def test_a_proxy_that_cannot_be_told_is_unfit() -> None:
    bench, configured = bench_with(FakeRun(refusal="the proxy's configuration cannot be set from here"))
    with pytest.raises(UnfitError, match=r"from here: \{syncPeriod: 30s, minSyncPeriod: 1s\}"):
        at_as_shipped(bench, 10_000)
    assert not configured


def test_a_start_for_another_configuration_that_would_take_minutes_is_left_out() -> None:
    bench, configured = bench_with(FakeRun(), (5_000, 70.0))
    at_as_shipped(bench, 10_000)
    assert configured == [AS_SHIPPED]
    bench, configured = bench_with(FakeRun(), (5_000, 80.0))
    with pytest.raises(TooLongError, match="--budget=54m has room for it"):
        at_as_shipped(bench, 10_000)
    assert not configured


def test_a_proxy_that_is_configured_so_needs_no_start() -> None:
    bench, configured = bench_with(FakeRun(asked=AS_SHIPPED), (5_000, 100.0))
    at_as_shipped(bench, 10_000)
    assert not configured


def test_who_puts_off_changes_anyway_is_not_started_anew() -> None:
    cases: Sequence[tuple[FakeRun, Literal["fast", "default"]]]
    cases = ((FakeRun("ebpf", "no"), "fast"), (FakeRun(refusal="no"), "default"))
    for run, sync in cases:
        bench, configured = bench_with(run, (5_000, 100.0))
        bench.settings = replace(bench.settings, sync=sync)
        at_as_shipped(bench, 10_000)
        assert not configured


def test_whoever_does_not_care_gets_the_proxy_as_it_is() -> None:
    bench, configured = bench_with(FakeRun(asked=AS_SHIPPED))
    bench.at(10_000, None)
    assert not configured
    bench.at(10_000)
    assert configured == [DEFAULT]
