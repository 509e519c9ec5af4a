# SPDX-License-Identifier: Apache-2.0
"""Settling: two generations where changes come in order, a quiet window elsewhere, and deadlines. A fake clock."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pytest

from clusters.agent.client import ProbeRequest
from clusters.errors import ProxyError
from clusters.kube import ENDPOINT_SLICES, SERVICES, Object, Resource
from clusters.observation import Observation
from plugins import settle
from plugins.settle import Deadlines, Settled, Settler
from tests.plugin.fake_cluster import FakeCluster
from tests.plugin.fake_proxy import FakeProxy
from tests.plugin.lies import LIES

DEADLINES = Deadlines(settle=10.0, after_failure=2.0, quiet=0.5)


@dataclass
class Clock:
    """Stands for `time` in plugins.settle: only sleeping makes it go on."""

    now: float = 1000.0
    alarms: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for alarm in [one for one in self.alarms if one[0] <= self.now]:
            self.alarms.remove(alarm)
            alarm[1]()


class Lagging(FakeCluster):
    """Follows the sentinel late: a generation shows on a node only after as many looks as the node's lag."""

    lag: dict[str, int] = {}  # noqa: RUF012 - replaced, never changed
    looks = 0
    seen_by: set[tuple[str, str | None]]

    def probe(
        self, requests: Sequence[ProbeRequest], *, timeout: float = 2.0, concurrency: int = 64
    ) -> list[Observation]:
        self.looks += 1
        self.seen_by |= {(request.vantage, request.node) for request in requests}
        seen = super().probe(requests, timeout=timeout, concurrency=concurrency)
        return [self._late(one) for one in seen]

    def _late(self, seen: Observation) -> Observation:
        if self.looks <= self.lag.get(str(seen.node), 0):
            return LIES["silent"].tell(seen)
        return seen


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(settle, "time", made)
    # Nobody waits for this clock: fewer looks tell the same.
    monkeypatch.setattr(settle, "POLL_INTERVAL", 0.05)
    return made


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Lagging]:
    with Lagging(3, 4, lies=frozenset(), seed=1, directory=tmp_path) as made:
        made.seen_by = set()
        yield made


@pytest.fixture
def settler(cluster: Lagging) -> Settler:
    made = Settler(cluster, FakeProxy(cluster, "ordered"), DEADLINES)
    made.create_sentinel()
    return made


def nothing() -> Mapping[str, str]:
    return {}


def sentinel(cluster: FakeCluster) -> dict[str, object]:
    port: dict[str, object] = cluster.kube.get(SERVICES, "sentinel", "plumbline")["spec"]["ports"][0]
    return port


# Ordered.


def test_ready_is_the_sentinel_seen_from_every_node(settler: Settler, cluster: Lagging, clock: Clock) -> None:
    assert settler.ready(5.0).done
    assert {node for _, node in cluster.seen_by} == {"node-a", "node-b", "node-c"}
    assert cluster.facts.generations == 0
    assert clock.now == 1000.0


def test_ordered_is_two_generations(settler: Settler, cluster: Lagging, clock: Clock) -> None:
    first = sentinel(cluster)["port"]
    settled = settler.settle("ordered", nothing)
    assert settled.done
    assert settled.missing == ()
    assert cluster.facts.generations == 2 == settle.GENERATIONS
    assert sentinel(cluster)["port"] == int(str(first)) + 2
    assert cluster.looks == 2
    assert clock.now == 1000.0


def test_each_generation_is_awaited_before_the_next(settler: Settler, cluster: Lagging, clock: Clock) -> None:
    """One slow node holds up the first generation; the second is not even written until it has shown."""
    cluster.lag = {"node-c": 10}
    written: list[int] = []
    clock.alarms.append((1000.4, lambda: written.append(cluster.facts.generations)))
    settled = settler.settle("ordered", nothing)
    assert written == [1]
    assert settled.done
    assert settled.seconds == pytest.approx(10 * settle.POLL_INTERVAL)
    assert cluster.facts.generations == 2


def test_settling_changes_both_port_and_endpoint(settler: Settler, cluster: Lagging) -> None:
    """Watches of different kinds are not ordered against each other: each must have come to be seen."""
    seen = set()
    for _ in range(2):
        settler.settle("ordered", nothing)
        slices = cluster.kube.list(ENDPOINT_SLICES, "plumbline")
        (address,) = {one["endpoints"][0]["addresses"][0] for one in slices if one["addressType"] == "IPv4"}
        seen.add((sentinel(cluster)["port"], address))
    assert len({port for port, _ in seen}) == len({address for _, address in seen}) == 2


def test_the_second_generation_is_one_event(
    settler: Settler, cluster: Lagging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It only has to be a sync of its own: a proxy may make one of each event."""
    written: list[str] = []
    patch, replace = cluster.kube.patch, cluster.kube.replace

    def patched(resource: Resource, *rest: Any) -> Object:
        written.append(resource.kind)
        return patch(resource, *rest)

    def replaced(resource: Resource, *rest: Any) -> Object:
        written.append(resource.kind)
        return replace(resource, *rest)

    monkeypatch.setattr(cluster.kube, "patch", patched)
    monkeypatch.setattr(cluster.kube, "replace", replaced)
    assert settler.settle("ordered", nothing).done
    assert written == ["Service", "EndpointSlice", "EndpointSlice", "Service"]


def test_no_scout_looks_at_itself(settler: Settler, cluster: Lagging) -> None:
    """Settling must not depend on hairpin: while the endpoint goes round, each node's client stands in once."""
    settler.ready(1.0)
    for _ in range(2):
        settler.settle("ordered", nothing)
    vantages = {vantage for vantage, _ in cluster.seen_by}
    assert vantages == {f"node-{node}.pod-{number}" for node in "abc" for number in (3, 4)}


def test_an_old_answer_is_no_new_generation(settler: Settler, cluster: Lagging, clock: Clock) -> None:
    cluster.freeze()
    cluster.lies = frozenset({"never-settles"})
    settled = settler.settle("ordered", nothing)
    assert not settled.done
    assert clock.now - 1000.0 == pytest.approx(DEADLINES.settle, abs=2 * settle.POLL_INTERVAL)
    assert set(settled.missing) == {f"node-{node} {family}" for node in "abc" for family in ("IPv4", "IPv6")}


def test_who_has_not_followed_is_named(settler: Settler, cluster: Lagging, clock: Clock) -> None:
    cluster.lag = {"node-b": 10**9}
    settled = settler.settle("ordered", nothing)
    assert not settled.done
    assert settled.missing == ("node-b IPv4", "node-b IPv6")
    assert cluster.facts.generations == 1, "the second generation is not begun"
    assert clock.now > 1000.0


def test_after_two_misses_the_deadline_is_short_until_it_settles_again(
    settler: Settler, cluster: Lagging, clock: Clock
) -> None:
    never = {"node-b": 10**9}
    took = []
    for lag in (never, {}, never, never, never, {}, never):
        cluster.lag = lag
        took.append(settler.settle("ordered", nothing).seconds)
    assert took == pytest.approx([10.0, 0.0, 10.0, 10.0, 2.0, 0.0, 10.0], abs=2 * settle.POLL_INTERVAL)
    assert settler.total == pytest.approx(sum(took))
    assert clock.now == pytest.approx(1000.0 + sum(took))


def test_one_family_alone_is_not_asked_for_the_other(cluster: Lagging, clock: Clock) -> None:
    settler = Settler(cluster, FakeProxy(cluster, "ordered"), DEADLINES, ("IPv6",))
    settler.create_sentinel()
    cluster.lag = {"node-a": 10**9}
    assert settler.settle("ordered", nothing).missing == ("node-a IPv6",)
    assert clock.now > 1000.0


def test_a_proxy_that_dies_while_it_is_awaited_ends_the_wait(cluster: Lagging, clock: Clock) -> None:
    cluster.lies = frozenset({"dies-between"})
    cluster.lag = {"node-a": 10**9}
    settler = Settler(cluster, FakeProxy(cluster, "ordered"), DEADLINES)
    settler.create_sentinel()
    with pytest.raises(ProxyError, match="fake-proxy on node-b ended with status 7"):
        settler.settle("ordered", nothing)
    assert clock.now - 1000.0 < 1.0


def test_a_proxy_that_died_unseen_is_noticed_after_settling(cluster: Lagging, clock: Clock) -> None:
    cluster.lies = frozenset({"dies-between"})
    settler = Settler(cluster, FakeProxy(cluster, "ordered"), DEADLINES)
    settler.create_sentinel()
    for _ in range(2):
        assert settler.settle("ordered", nothing).done
    with pytest.raises(ProxyError):
        settler.settle("ordered", nothing)
    assert clock.now == 1000.0


# Converge.


def test_converging_takes_a_quiet_window(settler: Settler, cluster: Lagging, clock: Clock) -> None:
    settled = settler.settle("converge", nothing)
    assert settled.done
    assert settled.seconds == pytest.approx(DEADLINES.quiet, abs=2 * settle.POLL_INTERVAL)
    assert cluster.facts.generations == 0
    assert clock.now == pytest.approx(1000.0 + settled.seconds)


def test_the_window_begins_anew_with_every_disallowed_sight(settler: Settler, clock: Clock) -> None:
    """Wrong until 0.2 s, and once more at 0.6 s: quiet from 0.2 to 0.6 s would not do, 0.6 to 1.1 s does."""

    def disallowed() -> Mapping[str, str]:
        passed = clock.now - 1000.0
        return {"svc-1": "wrong"} if passed <= 0.2 or 0.6 <= passed < 0.6 + settle.POLL_INTERVAL else {}

    settled = settler.settle("converge", disallowed)
    assert settled.done
    assert settled.seconds == pytest.approx(0.6 + DEADLINES.quiet, abs=3 * settle.POLL_INTERVAL)


def test_what_stays_wrong_is_named_at_the_deadline(settler: Settler, clock: Clock) -> None:
    settled = settler.settle("converge", lambda: {"svc-1": "node-a sees an old endpoint"})
    assert not settled.done
    assert settled.missing == ("node-a sees an old endpoint",)
    assert clock.now - 1000.0 == pytest.approx(DEADLINES.settle, abs=2 * settle.POLL_INTERVAL)


def test_what_stays_wrong_does_not_hold_up_the_rest(settler: Settler, clock: Clock) -> None:
    """A Service that never converged is given up: what is seen of it never counts, what is seen of others does."""
    wrong = {"svc-1": "wrong for ever"}
    first = settler.settle("converge", lambda: wrong)
    second = settler.settle("converge", lambda: wrong)
    assert second.done
    assert second.seconds == pytest.approx(DEADLINES.quiet, abs=2 * settle.POLL_INTERVAL)
    for settled in (first, second):
        assert settled.unsettled == {"svc-1"}
        assert settled.covers(["svc-2", "svc-3"])
        assert not settled.covers(["svc-2", "svc-1"])
    assert clock.now > 1000.0


def test_an_ordered_settle_covers_all_or_nothing() -> None:
    assert Settled(done=True, seconds=0.1).covers(["svc-1"])
    assert not Settled(done=False, seconds=0.1, missing=("node-a IPv4",)).covers(["svc-1"])
    assert not Settled(done=False, seconds=0.1).covers([])


@pytest.mark.parametrize(("declared", "generations"), [("ordered", 2), ("converge", 0)])
def test_the_proxy_says_how_it_settles(
    declared: Literal["ordered", "converge"], generations: int, cluster: Lagging, clock: Clock
) -> None:
    """Without a mode given, what the proxy declares holds."""
    settler = Settler(cluster, FakeProxy(cluster, declared), DEADLINES)
    settler.create_sentinel()
    assert settler.settle(None, nothing).done
    assert cluster.facts.generations == generations
    assert (clock.now > 1000.0) is (declared == "converge")


# Deadlines.


def test_a_scale_multiplies_every_deadline() -> None:
    plain, scaled = Deadlines.of("fast", 1.0), Deadlines.of("fast", 3.0)
    assert plain == Deadlines()
    assert all(getattr(scaled, one.name) == 3 * getattr(plain, one.name) for one in fields(Deadlines))


def test_a_proxy_at_its_default_period_has_more_time() -> None:
    fast, slow = Deadlines.of("fast", 2.0), Deadlines.of("default", 2.0)
    assert slow.settle > fast.settle
    assert slow.after_failure > fast.after_failure
    assert slow.probe == fast.probe


def test_ipvs_mode_has_more_time_to_settle_and_no_more_to_answer() -> None:
    quick, slow = Deadlines.of("fast", 2.0), Deadlines.of("fast", 2.0, "ipvs")
    assert slow.settle > quick.settle
    assert slow.after_failure > quick.after_failure
    assert (slow.probe, slow.poll, slow.quiet) == (quick.probe, quick.poll, quick.quiet)
